/** Pages that several sequences begin with are read once per step for all of them, and no bit changes. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KV_DTYPES, type NativeRuntime, type StepOutputs } from "../../src/native/addon.js";
import { shape, type TinyModel, tinyPlan } from "./model.js";
import { addon, bits, type RowSpec, runtime, type SequenceSpec, step } from "./support.js";

const PAGES = 512;
const keyScales = Float32Array.from(
  { length: shape.layers * shape.kvHeads * shape.headDim },
  (_, i) => 1 + ((i * 7) % 5),
);

/** One sequence of a tree: tokens that its ancestors computed, then its own. */
interface Node {
  own: number;
  children: Node[];
}
interface Program {
  pageSize: number;
  tree: Node[];
  /** Tokens of each leaf in the shared step. */
  tails: number[];
}

let rt: NativeRuntime;
let threads4: NativeRuntime;
beforeAll(() => {
  rt = runtime();
  threads4 = runtime({ threads: 4 });
});
afterAll(() => {
  addon.closeRuntime(rt);
  addon.closeRuntime(threads4);
});

/** Computes the tree node by node, then all leaves in one step, whose outputs it gives. */
async function run(model: TinyModel, { pageSize, tree, tails }: Program, order = 1): Promise<StepOutputs> {
  const { plan } = model;
  let free = 0;
  // Odd factor: a shuffle of the pages.
  const page = () => (free++ * 2 * order + order) % PAGES;
  let salt = 0;
  const tokensOf = (n: number) => Array.from({ length: n }, () => (salt = (salt * 31 + 17) % shape.vocab));
  const leaves: SequenceSpec[] = [];
  const visit = async (node: Node, pages: number[], start: number): Promise<void> => {
    // Whole pages only, so that children may share them.
    const tokens = tokensOf(node.own * pageSize);
    const held = [...pages, ...Array.from({ length: node.own }, page)];
    for (let at = 0; at < tokens.length; at += 64)
      await addon.runPlan(
        plan,
        step([{ tokens: tokens.slice(at, at + 64), start: start + at, pages: held }], [], { pageSize }),
      );
    const end = start + tokens.length;
    for (const child of node.children) await visit(child, held, end);
    if (node.children.length > 0) return;
    const tail = tokensOf(tails[leaves.length % tails.length]);
    const more = Math.ceil(tail.length / pageSize);
    leaves.push({ tokens: tail, start: end, pages: [...held, ...Array.from({ length: more }, page)] });
  };
  for (const root of tree) await visit(root, [], 0);
  const rows: RowSpec[] = [];
  let tokens = 0;
  for (const { tokens: own } of leaves) {
    tokens += own.length;
    rows.push({ token: tokens - 1 });
  }
  addon.takePlanTimings(plan);
  return addon.runPlan(plan, step(leaves, rows, { pageSize, logits: true }));
}

const pair = async (options: Parameters<typeof tinyPlan>[1], of = rt) => {
  const all = { maxTokens: 160, pages: PAGES, ...options };
  return [await tinyPlan(of, { ...all, cascade: true }), await tinyPlan(rt, { ...all, cascade: false })] as const;
};

const leaf = (own: number): Node => ({ own, children: [] });

describe("cascade", () => {
  test("reads what sequences share once, level by level of the tree they form", async () => {
    const [cascade, plain] = await pair({ pageSize: 16 });
    // 160 positions shared by six, then 160 more by three of them, then each its own 16 and a new token.
    const branch = { own: 10, children: [leaf(1), leaf(1), leaf(1)] };
    const program: Program = {
      pageSize: 16,
      tree: [{ own: 10, children: [branch, leaf(1), leaf(1), leaf(1)] }],
      tails: [1],
    };
    const [shared, own] = [await run(cascade, program), await run(plain, program)];
    expect(bits(shared.logits!)).toEqual(bits(own.logits!));
    const { layers } = shape;
    expect(addon.takePlanTimings(cascade.plan).positionsRead).toBe(layers * (160 + 160 + 6 * 17));
    expect(addon.takePlanTimings(plain.plan).positionsRead).toBe(layers * (3 * (320 + 17) + 3 * (160 + 17)));
  });

  test("leaves alone what does not pay, and sequences of many tokens", async () => {
    const [cascade] = await pair({ pageSize: 16 });
    const { layers } = shape;
    await run(cascade, { pageSize: 16, tree: [{ own: 2, children: [leaf(1), leaf(1)] }], tails: [1] });
    expect(addon.takePlanTimings(cascade.plan).positionsRead).toBe(layers * 2 * (32 + 17));
    await run(cascade, { pageSize: 16, tree: [{ own: 20, children: [leaf(0), leaf(0)] }], tails: [16] });
    expect(addon.takePlanTimings(cascade.plan).positionsRead).toBe(layers * 2 * (320 + 16));
  });

  const node = fc.letrec<{ node: Node }>((tie) => ({
    node: fc.record({
      own: fc.integer({ min: 0, max: 12 }),
      children: fc.oneof({ maxDepth: 2 }, fc.constant<Node[]>([]), fc.array(tie("node"), { maxLength: 4 })),
    }),
  })).node;
  const programs = fc.record({
    pageSize: fc.constantFrom(8, 16, 32),
    tree: fc.array(node, { minLength: 1, maxLength: 2 }),
    tails: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 }),
  });

  test.each(KV_DTYPES)(
    "gives the same bits for any tree of sequences, threads and page order, with %s pages",
    async (dtype) => {
      let saved = 0;
      for (const pageSize of [8, 16, 32]) {
        const [cascade, plain] = await pair({ dtype, pageSize, keyScales }, threads4);
        await fc.assert(
          fc.asyncProperty(programs, fc.constantFrom(1, 3, 5, 7), async (program, order) => {
            const sized = { ...program, pageSize };
            const [shared, own] = [await run(cascade, sized, order), await run(plain, sized)];
            const [a, b] = [cascade, plain].map(({ plan }) => addon.takePlanTimings(plan).positionsRead);
            saved += b - a;
            expect(bits(shared.logits!)).toEqual(bits(own.logits!));
          }),
          { numRuns: 12, seed: 11 },
        );
      }
      expect(saved).toBeGreaterThan(1000);
    },
  );
});

test("keys that f16 pages cannot hold end the step with an error that names the layer and the flag", async () => {
  const huge = Float32Array.from(keyScales, () => 1e-9);
  const { plan } = await tinyPlan(rt, { dtype: "f16", keyScales: huge });
  await expect(addon.runPlan(plan, step([{ tokens: [1] }]))).rejects.toThrow(
    "keys or values of layer 0 are too large for the f16 KV cache (above 65504); start with --kv-cache-dtype bf16 or f32",
  );
  const other = await tinyPlan(rt, { dtype: "bf16", keyScales: huge });
  await addon.runPlan(other.plan, step([{ tokens: [1] }]));
});

test("scales of keys change no product", async () => {
  const exact = await tinyPlan(rt, { dtype: "f32" });
  const scaled = await tinyPlan(rt, { dtype: "f32", keyScales });
  const sequence = { tokens: Array.from({ length: 40 }, (_, i) => (i * 11) % shape.vocab) };
  const [a, b] = [
    await addon.runPlan(exact.plan, step([sequence], [{ token: 39 }], { logits: true })),
    await addon.runPlan(scaled.plan, step([sequence], [{ token: 39 }], { logits: true })),
  ];
  const furthest = a.logits!.reduce((most, x, i) => Math.max(most, Math.abs(x - b.logits![i])), 0);
  expect(furthest).toBeLessThan(1e-4);
});
