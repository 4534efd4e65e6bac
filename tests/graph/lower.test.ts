import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Graph, recordGraph, type Tensor } from "../../src/graph/graph.js";
import { BUFFER_WORDS, INSTRUCTION_WORDS, Opcode } from "../../src/graph/instructions.js";
import { kvShape, type LoweredPlan, lower, printPlan } from "../../src/graph/lower.js";
import { add, attention, embed, gatedAct, linear, rmsNorm, rope, slice, takeRows } from "../../src/graph/ops.js";
import { Reference, type ReferenceStep } from "../../src/graph/reference.js";
import { decoder, readSeeded, VOCAB } from "./graphs.js";
import { PlanInterpreter } from "./plan-interpreter.js";

const OPTIONS = { maxTokens: 16, maxRows: 3, vocabSize: VOCAB };
const names = Object.keys(Opcode);
const opcodes = (plan: LoweredPlan) =>
  Array.from(
    { length: plan.instructions.length / INSTRUCTION_WORDS },
    (_, i) => names[plan.instructions[i * INSTRUCTION_WORDS]],
  );
const operands = (plan: LoweredPlan, opcode: number) => {
  const at = plan.drafts.findIndex((draft) => draft.opcode === opcode);
  return [...plan.instructions.subarray(at * INSTRUCTION_WORDS + 1, (at + 1) * INSTRUCTION_WORDS)];
};
const buffer = (plan: LoweredPlan, index: number) => [
  ...plan.buffers.subarray(index * BUFFER_WORDS, (index + 1) * BUFFER_WORDS),
];

/** Steps through a plan and through the reference must give the same numbers. */
function expectSameNumbers(graph: Graph, plan: LoweredPlan, steps: readonly ReferenceStep[]): void {
  const reference = new Reference(graph, readSeeded);
  const interpreter = new PlanInterpreter(plan, readSeeded);
  for (const step of steps) {
    const expected = reference.step(step);
    const { logits, hidden } = interpreter.step(step);
    const difference = (a: number[], b: Float32Array) => Math.max(...a.map((x, i) => Math.abs(x - b[i])));
    expect(logits.length).toBe(expected.logits!.length);
    expect(difference(logits, expected.logits!)).toBeLessThan(1e-4);
    expect(difference(hidden, expected.hidden)).toBeLessThan(1e-4);
  }
}

describe("lower", () => {
  it.each([{ keepAll: false }, { keepAll: true }])(
    "gives a plan that computes what the graph says ($keepAll)",
    ({ keepAll }) => {
      const graph = decoder(3, 5);
      const plan = lower(graph, { ...OPTIONS, keepAll });
      expectSameNumbers(graph, plan, [
        {
          sequences: [
            { key: "a", tokens: [1, 2, 3, 4, 5, 6, 7] },
            { key: "b", tokens: [9] },
          ],
          rows: [0, 7, 3, 6, 6, 1, 2],
        },
        {
          sequences: [
            { key: "b", tokens: [3, 1] },
            { key: "c", tokens: [0, 19] },
          ],
        },
        {
          sequences: [
            { key: "a", tokens: [8] },
            { key: "b", tokens: [2] },
            { key: "c", tokens: [5] },
          ],
        },
      ]);
    },
  );

  it("fuses adds with norms and gate and up with their activation, and attends after writing keys and values", () => {
    expect(opcodes(lower(decoder(2), OPTIONS))).toEqual([
      ..."Embed RmsNorm Linear Rope KvWrite Attention Linear AddRmsNorm GatedLinear Linear".split(" "),
      ..."AddRmsNorm Linear Rope KvWrite Attention Linear AddRmsNorm GatedLinear Linear Add".split(" "),
      ..."TakeRows RmsNorm Logits".split(" "),
    ]);
  });

  it("has no buffer for gate and up, and keeps both when all is kept", () => {
    const [fused, kept] = [false, true].map((keepAll) => lower(decoder(1), { ...OPTIONS, keepAll }));
    const gateUp = [...kept.bufferOf.keys()].filter((name) => !fused.bufferOf.has(name));
    expect(gateUp).toHaveLength(1);
    expect(opcodes(kept).filter((name) => ["Linear", "GatedAct"].includes(name))).toEqual(
      "Linear Linear Linear GatedAct Linear Linear".split(" "),
    );
  });

  it("runs the norm and the head on rows only", () => {
    const plan = lower(decoder(2), OPTIONS);
    expect(opcodes(plan).slice(plan.headStart)).toEqual(["TakeRows", "RmsNorm", "Logits"]);
    expect(buffer(plan, plan.logits).slice(3)).toEqual([VOCAB, 1]);
    expect(buffer(plan, plan.hidden)[4]).toBe(1);
  });

  it("rotates queries and keys where they were projected, and reads values from the same rows", () => {
    const plan = lower(decoder(1), OPTIONS);
    const [qkv, rotated] = [operands(plan, Opcode.Linear)[0], operands(plan, Opcode.Rope)[0]].map((index) =>
      buffer(plan, index),
    );
    expect(rotated).toEqual([qkv[0], qkv[1], 0, 36, 0]);
    const [k, v] = operands(plan, Opcode.KvWrite)
      .slice(0, 2)
      .map((index) => buffer(plan, index));
    expect([k, v]).toEqual([
      [qkv[0], qkv[1], 24, 12, 0],
      [qkv[0], qkv[1], 36, 12, 0],
    ]);
  });

  it("adds onto the residual stream in place", () => {
    const plan = lower(decoder(1), OPTIONS);
    const [sum, , a] = operands(plan, Opcode.AddRmsNorm);
    expect(buffer(plan, sum)).toEqual(buffer(plan, a));
  });

  it("begins every row on a cache line", () => {
    const plan = lower(decoder(1), OPTIONS);
    for (let i = 0; i < plan.buffers.length; i += BUFFER_WORDS) expect(plan.buffers[i + 1] % 16).toBe(0);
  });

  it("needs an arena that does not grow with the number of layers", () => {
    expect(lower(decoder(8), OPTIONS).arenaBytes).toBe(lower(decoder(2), OPTIONS).arenaBytes);
    expect(lower(decoder(8), { ...OPTIONS, keepAll: true }).arenaBytes).toBeGreaterThan(
      lower(decoder(2), { ...OPTIONS, keepAll: true }).arenaBytes,
    );
  });

  it("names each weight once, tied embeddings as a table and as a matrix", () => {
    const { weights } = lower(decoder(2), OPTIONS);
    expect(new Set(weights).size).toBe(weights.length);
    expect(weights.filter(({ name }) => name === "embedding").map(({ kind }) => kind)).toEqual(["table", "matrix"]);
    expect(weights.filter(({ kind }) => kind === "constant")).toHaveLength(1);
  });

  it("keeps a value that is read after an add", () => {
    const graph = recordGraph((g) => {
      const x = embed(g.table("embedding", VOCAB, 4), g);
      const y = linear(x, g.matrix("m", [{ name: "m", rows: 4 }], 4));
      const sum = add(x, y);
      const hidden = takeRows(add(sum, x)).as("hidden");
      return { hidden, logits: linear(hidden, g.matrix("embedding", [{ name: "embedding", rows: VOCAB }], 4)) };
    });
    expectSameNumbers(graph, lower(graph, OPTIONS), [{ sequences: [{ key: "a", tokens: [3, 4] }] }]);
  });

  it("does not add in place when the other operand overlaps", () => {
    const graph = recordGraph((g) => {
      const x = embed(g.table("embedding", VOCAB, 8), g);
      return { hidden: takeRows(add(slice(x, 1, 4), slice(x, 0, 4))), logits: null };
    });
    const plan = lower(graph, { ...OPTIONS, vocabSize: 4 });
    const [out, a] = operands(plan, Opcode.Add).map((index) => buffer(plan, index));
    expect(out[0]).not.toBe(a[0]);
  });

  it("computes any order of ops, reads and views like the reference", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(5), fc.nat(100), fc.nat(100)), { maxLength: 14 }),
        fc.nat(100),
        (choices, last) => {
          const graph = recordGraph((g) => {
            const tensors = [embed(g.table("embedding", VOCAB, 8), g)];
            const matrix = (rows: number, columns: number, i: number) =>
              g.matrix(`m${i}`, [{ name: `m${i}`, rows }], columns);
            for (const [i, [op, first, second]] of choices.entries()) {
              const x = tensors[first % tensors.length];
              const alike = tensors.filter((t) => t.columns === x.columns);
              const y = alike[second % alike.length];
              if (op === 0) tensors.push(add(x, y));
              else if (op === 1)
                tensors.push(rmsNorm(x, g.vector(`n${i}`, [{ name: `n${i}`, rows: x.columns }]), 1e-3));
              else if (op === 2) tensors.push(linear(x, matrix(8, x.columns, i)));
              else if (op === 3) tensors.push(linear(x, matrix(6, x.columns, i)));
              else if (op === 4 && x.columns % 2 === 0) tensors.push(gatedAct(x, "silu"));
              else if (op === 5 && x.columns > 2) tensors.push(slice(x, second % 3, x.columns - 2));
            }
            const rows = takeRows(tensors[last % tensors.length]);
            const hidden = linear(rows, matrix(4, rows.columns, 99));
            return { hidden, logits: add(hidden, linear(rows, matrix(4, rows.columns, 100))) };
          });
          expectSameNumbers(graph, lower(graph, { ...OPTIONS, vocabSize: 4 }), [
            { sequences: [{ key: "a", tokens: [3, 4, 5] }], rows: [2, 0, 1, 1] },
          ]);
        },
      ),
      { numRuns: 150 },
    );
  });

  it("prints body, head and operands", () => {
    const text = printPlan(lower(decoder(1), OPTIONS));
    expect(text).toContain("body: 11 instructions over at most 16 tokens\n0 Embed embedded@0 {embedding 20x12} 2\n");
    expect(text).toContain("head: 3 instructions over at most 3 rows\n11 TakeRows ");
    expect(text).toMatch(/KvWrite t\d+@\d+ t\d+@\d+ 0\n/);
    expect(text).toMatch(/13 Logits logits@\d+ hidden@\d+ \{embedding 20x12\} -\n/);
  });
});

describe("lower refuses", () => {
  const embedded = (model: (x: Tensor, g: Graph) => Tensor) => () =>
    lower(
      recordGraph((g) => {
        const hidden = model(embed(g.table("embedding", VOCAB, 8), g), g);
        return { hidden, logits: null };
      }),
      OPTIONS,
    );
  const attributes = (g: Graph) => ({
    frequencies: g.constant("f", Float32Array.of(1)),
    heads: 4,
    headDim: 2,
    mscale: 1,
  });

  it("a rotation whose input is read again", () => {
    expect(embedded((x, g) => takeRows(add(rope(x, attributes(g)), x)))).toThrow(/rope rotates .* in place/);
  });
  it("tokens computed after rows", () => {
    expect(
      embedded((x, g) => {
        const rows = takeRows(x);
        rope(x, attributes(g));
        return rows;
      }),
    ).toThrow(/works on tokens after the head began/);
  });
  it("a vocabulary wider than the logits", () => {
    expect(() => lower(decoder(1), { ...OPTIONS, vocabSize: VOCAB + 1 })).toThrow(/vocabulary of 21/);
  });
});

describe("kvShape", () => {
  const layer = (x: Tensor, index: number, kvHeads: number) => {
    const k = slice(x, 0, kvHeads * 2);
    return attention(x, k, k, { layer: index, heads: 4, kvHeads, headDim: 2, scale: 1, window: 0, causal: true });
  };
  const graph = (...kvHeads: number[]) =>
    recordGraph((g) => {
      const last = kvHeads.reduce((x, heads, i) => layer(x, i, heads), embed(g.table("embedding", VOCAB, 8), g));
      return { hidden: takeRows(last), logits: null };
    });

  it("counts layers and tells the shape of their pages", () => {
    expect(kvShape(graph(2, 2, 2))).toEqual({ layers: 3, kvHeads: 2, headDim: 2 });
  });
  it("refuses layers with pages of different shapes, and a model without attention", () => {
    expect(() => kvShape(graph(2, 4))).toThrow(/layer 1 has 4 kv heads of 2, layer 0 2 of 2/);
    expect(() => kvShape(graph())).toThrow(/no layer attends/);
  });
});
