import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Opcode } from "../../src/graph/instructions.js";
import {
  isStepRowsError,
  type NativeKvPool,
  type NativePlan,
  type NativeRuntime,
  type NativeWeight,
  type StepOutputs,
} from "../../src/native/addon.js";
import {
  addon,
  distance,
  f,
  kvPool,
  matrix,
  noise,
  PlanWriter,
  type RowSpec,
  runtime,
  step,
  table,
} from "./support.js";

let rt: NativeRuntime;
let kv: NativeKvPool;
beforeAll(() => {
  rt = runtime();
  kv = kvPool();
});
afterAll(() => addon.closeRuntime(rt));

/** A plan whose logits of token t are row t of a table: any logits, bit for bit. */
function logitsPlan(rows: Float32Array[], maxRows = 64): NativePlan {
  const vocab = rows[0].length;
  const values = new Float32Array(Math.max(rows.length, vocab) * vocab);
  for (const [i, row] of rows.entries()) values.set(row, i * vocab);
  const p = new PlanWriter(rows.length, maxRows);
  const x = p.buffer(vocab);
  p.op(Opcode.Embed, x, p.weight(table(values.length / vocab, vocab, values)), f(1)).head();
  p.logits = p.buffer(vocab, "rows");
  p.op(Opcode.TakeRows, p.logits, x);
  return p.create(rt, vocab, kv);
}

async function sample(logits: Float32Array[], rows: RowSpec[], masks?: Uint32Array): Promise<StepOutputs> {
  const plan = logitsPlan(logits);
  const tokens = logits.map((_, i) => i);
  const words = Math.ceil(logits[0].length / 32);
  for (let i = 0; masks && i < masks.length / words; i++)
    addon.setMask(plan, i, masks.subarray(i * words, (i + 1) * words));
  try {
    return await addon.runPlan(plan, step([{ tokens }], rows));
  } finally {
    addon.closePlan(plan);
  }
}

/** The same logits in every row, of any width: the bias of a matrix of zeros. */
async function widePlan(logits: Float32Array): Promise<NativePlan> {
  const vocab = logits.length;
  const p = new PlanWriter(1, 256);
  const x = p.buffer(1);
  p.op(Opcode.Embed, x, p.weight(table(vocab, 1, new Float32Array(vocab))), f(1)).head();
  const taken = p.buffer(1, "rows");
  p.logits = p.buffer(vocab, "rows");
  p.op(Opcode.TakeRows, taken, x);
  const zeros: NativeWeight = await matrix(rt, vocab, 1, new Float32Array(vocab));
  p.op(Opcode.Linear, p.logits, taken, p.weight(zeros), p.weight(addon.uploadVector(logits)));
  return p.create(rt, vocab, kv);
}

// ---- the sampler in plain TypeScript

const MASK64 = (1n << 64n) - 1n;
function mix(z: bigint): bigint {
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK64;
  return z ^ (z >> 31n);
}
function uniform(seed: bigint, draw: number): number {
  const g = 0x9e3779b97f4a7c15n;
  const z = mix((mix((seed + g) & MASK64) + (BigInt(draw) + 1n) * g) & MASK64);
  return Number(z >> 11n) / 2 ** 53;
}

function adjusted(logits: Float32Array, row: RowSpec, mask?: Uint32Array): Float32Array {
  const x = Float32Array.from(logits);
  const [repetition, frequency, presence] = [row.repetition ?? 1, row.frequency ?? 0, row.presence ?? 0].map(
    Math.fround,
  );
  for (const [id, count] of row.seen ?? []) {
    x[id] = x[id] > 0 ? x[id] / repetition : x[id] * repetition;
    if (count > 0) {
      x[id] -= Math.fround(frequency * count);
      x[id] -= presence;
    }
  }
  for (const [id, bias] of row.bias ?? []) x[id] += bias;
  if (mask) for (let i = 0; i < x.length; i++) if (!((mask[i >> 5] >>> (i & 31)) & 1)) x[i] = Number.NEGATIVE_INFINITY;
  return x;
}

/** Ids by falling logit, ties to the lower id. */
function ranked(x: Float32Array): number[] {
  return Array.from(x.keys()).sort((a, b) => x[b] - x[a] || a - b);
}

/** Probability of every id after temperature, top-k, top-p and min-p; 0 = not in the set. */
function distribution(x: Float32Array, row: RowSpec): Float64Array {
  const order = ranked(x);
  const weight = (id: number) => Math.exp((x[id] - x[order[0]]) / Math.fround(row.temperature ?? 0));
  let kept = row.topK && row.topK > 0 ? order.slice(0, row.topK) : order;
  const total = kept.reduce((sum, id) => sum + weight(id), 0);
  let sum = 0;
  kept = kept.filter((id) => {
    const inside = sum < Math.fround(row.topP ?? 1) * total || sum === 0;
    sum += weight(id);
    return inside;
  });
  kept = kept.filter((id) => weight(id) >= Math.fround(row.minP ?? 0) * (1 - 1e-6));
  const mass = kept.reduce((s, id) => s + weight(id), 0);
  const p = new Float64Array(x.length);
  for (const id of kept) p[id] = weight(id) / mass;
  return p;
}

function draw(p: Float64Array, u: number): number {
  let sum = 0;
  let last = 0;
  for (let i = 0; i < p.length; i++) {
    if (p[i] === 0) continue;
    sum += p[i];
    last = i;
    if (sum > u) return i;
  }
  return last;
}

/** Distance of u from the nearest border between two ids: below rounding either answer is right. */
function margin(p: Float64Array, u: number): number {
  let sum = 0;
  let least = 1;
  for (const x of p) {
    if (x > 0) least = Math.min(least, Math.abs(u - sum), Math.abs(u - (sum + x)));
    sum += x;
  }
  return least;
}

/** Logits on a grid: distinct probabilities lie far from each other, equal ones are common (ties). */
const gridLogits = (vocab: number) =>
  fc
    .array(fc.integer({ min: -12, max: 12 }), { minLength: vocab, maxLength: vocab })
    .map((xs) => Float32Array.from(xs, (x) => x / 4));

const rowParameters = (vocab: number) =>
  fc.record({
    frequency: fc.constantFrom(0, 0.5, -1.25),
    presence: fc.constantFrom(0, 1.5, -0.75),
    repetition: fc.constantFrom(1, 2, 0.5, 1.25),
    seen: fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: vocab - 1 }), fc.integer({ min: 0, max: 4 })), {
      selector: ([id]) => id,
      maxLength: 12,
    }),
    bias: fc.uniqueArray(
      fc.tuple(fc.integer({ min: 0, max: vocab - 1 }), fc.constantFrom(2, -3, 0.5, Number.NEGATIVE_INFINITY)),
      { selector: ([id]) => id, maxLength: 6 },
    ),
  });

describe("greedy", () => {
  test("takes the highest logit after penalties, bias and mask, ties to the lowest id", async () => {
    const vocab = 70;
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(
            gridLogits(vocab),
            rowParameters(vocab),
            fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 3, maxLength: 3 }),
            fc.boolean(),
          ),
          { minLength: 1, maxLength: 8 },
        ),
        async (cases) => {
          const masks = Uint32Array.from(cases.flatMap(([, , words]) => words));
          masks.forEach((_, i) => {
            if (i % 3 === 0) masks[i] |= 1; // id 0 stays allowed by the mask ...
          });
          const rows: RowSpec[] = cases.map(([, parameters, , masked], i) => ({
            ...parameters,
            bias: parameters.bias.filter(([id]) => id !== 0), // ... and by the bias
            token: i,
            mask: masked ? i : -1,
          }));
          const out = await sample(
            cases.map(([logits]) => logits),
            rows,
            masks,
          );
          const expected = rows.map(
            (row, i) =>
              ranked(adjusted(cases[i][0], row, row.mask === -1 ? undefined : masks.subarray(i * 3, i * 3 + 3)))[0],
          );
          expect(Array.from(out.ids)).toEqual(expected);
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  test("a temperature below 1e-6 is greedy, and so is top-k 1 at any temperature", async () => {
    const logits = noise(40, 3);
    const rows = Array.from(
      { length: 20 },
      (_, i): RowSpec =>
        i % 2 ? { token: 0, temperature: 9e-7, draw: i } : { token: 0, temperature: 5, topK: 1, draw: i },
    );
    const out = await sample([logits], rows);
    expect(new Set(out.ids)).toEqual(new Set([ranked(logits)[0]]));
  });

  test("looks at no id beyond the vocabulary, whatever the padding rows hold", async () => {
    const p = new PlanWriter(1, 1);
    const x = p.buffer(8);
    p.op(
      Opcode.Embed,
      x,
      p.weight(
        table(
          8,
          8,
          Float32Array.from({ length: 64 }, (_, i) => i % 8),
        ),
      ),
      f(1),
    ).head();
    p.logits = p.buffer(8, "rows");
    p.op(Opcode.TakeRows, p.logits, x);
    const plan = p.create(rt, 5, kv);
    const out = await addon.runPlan(plan, step([{ tokens: [0] }], [{ token: 0, top: 5 }], { logits: true }));
    expect(out.ids[0]).toBe(4);
    expect(Array.from(out.topIds)).toEqual([4, 3, 2, 1, 0]);
    expect(Array.from(out.logits!)).toEqual([0, 1, 2, 3, 4]);
  });
});

describe("sampling", () => {
  test("draws what the distribution after top-k, top-p and min-p gives for u(seed, draw)", async () => {
    const vocab = 70;
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(
            gridLogits(vocab),
            rowParameters(vocab),
            fc.record({
              temperature: fc.constantFrom(0.25, 0.7, 1, 2.5),
              topK: fc.constantFrom(-1, 0, 2, 5, 40, 70, 1000),
              topP: fc.constantFrom(1, 0.95, 0.5, 0.1),
              minP: fc.constantFrom(0, 0.05, 0.3, 1),
              seed: fc.bigInt({ min: 0n, max: MASK64 }),
              draw: fc.nat({ max: 100_000 }),
            }),
          ),
          { minLength: 1, maxLength: 12 },
        ),
        async (cases) => {
          const rows: RowSpec[] = cases.map(([, penalties, parameters], token) => ({
            ...penalties,
            ...parameters,
            token,
          }));
          const out = await sample(
            cases.map(([logits]) => logits),
            rows,
          );
          for (const [i, row] of rows.entries()) {
            const p = distribution(adjusted(cases[i][0], row), row);
            const u = uniform(row.seed!, row.draw!);
            expect(p[out.ids[i]]).toBeGreaterThan(0);
            if (margin(p, u) < 1e-5) continue;
            compared++;
            expect(out.ids[i]).toBe(draw(p, u));
          }
        },
      ),
      { numRuns: 80, seed: 2 },
    );
    expect(compared).toBeGreaterThan(200);
  });

  test("depends on (seed, draw) only: not on the row's place, its neighbours, or the block of the head", async () => {
    const logits = [noise(50, 4), noise(50, 5)];
    const one = await sample(logits, [{ token: 1, temperature: 1.5, seed: 77n, draw: 3 }]);
    const crowd = Array.from(
      { length: 150 },
      (_, i): RowSpec =>
        i % 37 === 0
          ? { token: 1, temperature: 1.5, seed: 77n, draw: 3 }
          : { token: 0, temperature: 2, seed: BigInt(i) },
    );
    const out = await sample(logits, crowd);
    for (let i = 0; i < 150; i += 37) expect(out.ids[i]).toBe(one.ids[0]);
    expect(new Set(out.ids).size).toBeGreaterThan(10);
  });

  test("counts over many draws follow the probabilities", async () => {
    const logits = Float32Array.of(1, 0, 2, -1, 0.5);
    const n = 6000;
    const plan = logitsPlan([logits], 256);
    const rows = Array.from(
      { length: n },
      (_, i): RowSpec => ({ token: 0, temperature: 0.9, seed: 123456789n, draw: i }),
    );
    const out = await addon.runPlan(plan, step([{ tokens: [0] }], rows));
    const p = distribution(logits, rows[0]);
    for (let id = 0; id < 5; id++) {
      const count = out.ids.filter((x) => x === id).length;
      // Five standard deviations of a fixed seed: passes always or never.
      expect(Math.abs(count - n * p[id])).toBeLessThan(5 * Math.sqrt(n * p[id] * (1 - p[id])));
    }
  });

  test("a vocabulary of 150,000 keeps exactly the sets of a full sort", async () => {
    const vocab = 150_000;
    // A sharp head over a long tail, with runs of equal logits.
    const logits = noise(vocab, 6).map((x, i) => Math.round((i % 997 === 0 ? 6 + 3 * x : 2 * x) * 64) / 64);
    const plan = await widePlan(logits);
    const variants: RowSpec[] = [
      { token: 0, temperature: 1 },
      { token: 0, temperature: 1, topP: 0.3 },
      { token: 0, temperature: 0.5, topP: 0.9 },
      { token: 0, temperature: 1, topP: 0.9999 },
      { token: 0, temperature: 1, topK: 50 },
      { token: 0, temperature: 1.3, topK: 5000, topP: 0.8 },
      { token: 0, temperature: 1, topK: 149_999 },
      { token: 0, temperature: 1, minP: 0.02 },
      { token: 0, temperature: 1, topK: 3000, topP: 0.95, minP: 0.01 },
    ];
    const rows = variants.flatMap((v, i) =>
      Array.from({ length: 12 }, (_, j): RowSpec => ({ ...v, seed: BigInt(i * 1000 + 7), draw: j })),
    );
    const out = await addon.runPlan(plan, step([{ tokens: [0] }], rows));
    for (const [i, variant] of variants.entries()) {
      const p = distribution(logits, variant);
      for (let j = 0; j < 12; j++) {
        const row = rows[i * 12 + j];
        const u = uniform(row.seed!, row.draw!);
        expect(p[out.ids[i * 12 + j]]).toBeGreaterThan(0);
        if (margin(p, u) > 1e-7) expect(out.ids[i * 12 + j]).toBe(draw(p, u));
      }
    }
  });

  test("equal logits at the border of top-k and top-p go to the lower ids", async () => {
    const logits = new Float32Array(64).fill(1);
    const draws = (row: Partial<RowSpec>) =>
      Array.from({ length: 400 }, (_, i): RowSpec => ({ token: 0, temperature: 1, draw: i, ...row }));
    const [byK, byP] = [await sample([logits], draws({ topK: 8 })), await sample([logits], draws({ topP: 0.25 }))];
    expect(new Set(byK.ids)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7]));
    expect(new Set(byP.ids)).toEqual(new Set(Array.from({ length: 16 }, (_, i) => i)));
  });

  test("a row that forbids every id fails alone, by name, with id -1", async () => {
    const logits = [noise(40, 7), noise(40, 8)];
    const rows: RowSpec[] = [
      { token: 0 },
      { token: 1, mask: 0, temperature: 1, slot: 3 },
      { token: 1, bias: Array.from({ length: 40 }, (_, id): [number, number] => [id, Number.NEGATIVE_INFINITY]) },
    ];
    const error = await sample(logits, rows, new Uint32Array(2)).catch((e) => e);
    expect(error.message).toBe("runPlan: row 1: no token is allowed: mask and bias forbid every id");
    expect(Array.from(error.rows)).toEqual([1, 2]);
    expect(error.reasons).toEqual(Array(2).fill("no token is allowed: mask and bias forbid every id"));
    expect(isStepRowsError(error)).toBe(true);
    expect(Array.from(error.outputs.ids)).toEqual([ranked(logits[0])[0], -1, -1]);
  });

  test("an id with a logit of minus infinity is never drawn", async () => {
    const logits = noise(40, 9).map((x, i) => (i % 4 === 1 ? x : Number.NEGATIVE_INFINITY));
    const rows = [{}, { topP: 0.99 }, { topK: 30 }, { minP: 0.001 }].flatMap((v) =>
      Array.from({ length: 100 }, (_, i): RowSpec => ({ token: 0, temperature: 3, draw: i, ...v })),
    );
    const out = await sample([logits], rows);
    expect(Array.from(out.ids).filter((id) => id % 4 !== 1)).toEqual([]);
  });
});

describe("logprobs", () => {
  test("are those of the raw logits, before penalties, bias, mask and temperature", async () => {
    const vocab = 60;
    await fc.assert(
      fc.asyncProperty(
        gridLogits(vocab),
        rowParameters(vocab),
        fc.integer({ min: 0, max: vocab }),
        fc.uniqueArray(fc.integer({ min: 0, max: vocab - 1 }), { maxLength: 9 }),
        fc.constantFrom(0, 0.7),
        async (logits, parameters, top, wanted, temperature) => {
          const mask = Uint32Array.of(0xfffffffe, 0xffffffff);
          const row: RowSpec = { ...parameters, bias: [], token: 0, top, wanted, temperature, mask: 0 };
          const out = await sample([logits], [row, { token: 0, top: 2, target: 7 }, { token: 0 }], mask);
          const z = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
          const order = ranked(logits);
          expect(distance(out.logprobs.subarray(0, 2), [logits[out.ids[0]] - z, logits[7] - z])).toBeLessThan(1e-5);
          expect(out.logprobs[2]).toBeNaN();
          expect(Array.from(out.topIds)).toEqual([...order.slice(0, top), ...order.slice(0, 2)]);
          expect(
            distance(
              out.topLogprobs,
              [...order.slice(0, top), ...order.slice(0, 2)].map((id) => logits[id] - z),
            ),
          ).toBeLessThan(1e-5);
          expect(
            distance(
              out.wantedLogprobs,
              wanted.map((id) => logits[id] - z),
            ),
          ).toBeLessThan(1e-5);
        },
      ),
      { numRuns: 60, seed: 3 },
    );
  });

  test("of a wide row are right to six digits", async () => {
    const logits = noise(150_000, 10).map((x) => 8 * x);
    const plan = await widePlan(logits);
    const out = await addon.runPlan(plan, step([{ tokens: [0] }], [{ token: 0, top: 20, wanted: [0, 149_999] }]));
    const z = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
    const order = ranked(logits).slice(0, 20);
    expect(Array.from(out.topIds)).toEqual(order);
    expect(
      distance(
        out.topLogprobs,
        order.map((id) => logits[id] - z),
      ),
    ).toBeLessThan(1e-6);
    expect(distance(out.wantedLogprobs, [logits[0] - z, logits[149_999] - z])).toBeLessThan(1e-6);
  });
});
