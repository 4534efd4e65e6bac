import { describe, expect, it } from "vitest";
import { type Graph, recordGraph, type Tensor, type Weight } from "../../src/graph/graph.js";
import {
  type ActivationName,
  add,
  attention,
  embed,
  gatedAct,
  linear,
  rmsNorm,
  rope,
  slice,
  takeRows,
} from "../../src/graph/ops.js";
import { Reference } from "../../src/graph/reference.js";
import { roundWeights } from "../../src/graph/rotated.js";
import { decoder, readSeeded } from "./graphs.js";

/** Runs `model` on rows of a table given as literals; one token per row of the table. */
function compute(
  table: number[][],
  model: (x: Tensor, g: Graph) => Tensor,
  weights: Record<string, number[]> = {},
): number[] {
  const graph = recordGraph((g) => {
    const result = model(embed(g.table("table", table.length, table[0].length), g), g).as("result");
    return { hidden: takeRows(result), logits: null };
  });
  const read = (weight: Weight) => Float32Array.from(weight.name === "table" ? table.flat() : weights[weight.name]);
  const tokens = table.map((_, i) => i);
  return [...new Reference(graph, read).step({ sequences: [{ key: "s", tokens }] }).tensors.get("result")!];
}
const close = (values: readonly number[]) => values.map((x) => expect.closeTo(x, 6));
const vector = (g: Graph, name: string, rows: number) => g.vector(name, [{ name, rows }]);

describe("the reference defines each op", () => {
  it("rmsNorm divides by the root of the mean square and multiplies by the weight", () => {
    const result = compute([[3, 4]], (x, g) => rmsNorm(x, vector(g, "w", 2), 0), { w: [1, 10] });
    expect(result).toEqual(close([3 / Math.sqrt(12.5), 40 / Math.sqrt(12.5)]));
  });
  it("rmsNorm in groups norms each group by itself", () => {
    const result = compute([[3, 3, 0.5, 0.5]], (x, g) => rmsNorm(x, vector(g, "w", 2), 0, 2), { w: [1, 2] });
    expect(result).toEqual(close([1, 2, 1, 2]));
  });
  it("rmsNorm adds eps inside the root", () => {
    expect(compute([[0, 0]], (x, g) => rmsNorm(x, vector(g, "w", 2), 1e-5), { w: [1, 1] })).toEqual([0, 0]);
  });
  it("linear multiplies by the transposed matrix and adds the bias", () => {
    const m = (g: Graph) => g.matrix("m", [{ name: "m", rows: 3 }], 2);
    const result = compute(
      [
        [1, 2],
        [0, 1],
      ],
      (x, g) => linear(x, m(g), vector(g, "b", 3)),
      { m: [1, 0, 0, 1, 5, 7], b: [0, 0, 100] },
    );
    expect(result).toEqual([1, 2, 119, 0, 1, 107]);
  });
  it("add, slice and takeRows move numbers as they are", () => {
    expect(
      compute(
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        (x) => add(slice(x, 1, 2), slice(x, 0, 2)),
      ),
    ).toEqual([3, 5, 9, 11]);
  });
  it("rope turns pair (i, i + n) by position times frequency and keeps other columns", () => {
    const row = [1, 2, 0, 0, 9];
    const result = compute([row, row], (x, g) =>
      rope(x, { frequencies: g.constant("f", Float32Array.of(Math.PI / 2, 0)), heads: 1, headDim: 5, mscale: 1 }),
    );
    expect(result).toEqual(close([1, 2, 0, 0, 9, 0, 2, 1, 0, 9]));
  });
  it("rope multiplies cos and sin by mscale", () => {
    const frequencies = (g: Graph) => g.constant("f", Float32Array.of(1));
    expect(
      compute([[1, 2]], (x, g) => rope(x, { frequencies: frequencies(g), heads: 1, headDim: 2, mscale: 2 })),
    ).toEqual([2, 4]);
  });

  const heads = { layer: 0, heads: 1, kvHeads: 1, headDim: 1, scale: 1, window: 0, causal: true };
  const column = (x: Tensor, i: number) => slice(x, i, 1);
  const attend = (rows: number[][], attrs: object) =>
    compute(rows, (x) => attention(column(x, 0), column(x, 1), column(x, 2), { ...heads, ...attrs }));
  it("attention of equal scores is the mean of the values so far", () => {
    expect(
      attend(
        [
          [0, 1, 2],
          [0, 1, 4],
          [0, 1, 12],
        ],
        {},
      ),
    ).toEqual(close([2, 3, 6]));
  });
  it("attention sees `window` positions, itself included", () => {
    expect(
      attend(
        [
          [0, 1, 2],
          [0, 1, 4],
          [0, 1, 12],
        ],
        { window: 2 },
      ),
    ).toEqual(close([2, 3, 8]));
  });
  it("attention that is not causal sees the whole sequence", () => {
    expect(
      attend(
        [
          [0, 1, 2],
          [0, 1, 4],
        ],
        { causal: false },
      ),
    ).toEqual(close([3, 3]));
  });
  it("attention weighs by the softmax of scaled scores", () => {
    const [, second] = attend(
      [
        [1, 0, 0],
        [2, Math.log(3), 1],
      ],
      { scale: 0.5 },
    );
    expect(second).toBeCloseTo(3 / 4, 6);
  });
  it("attention gives each group of heads its kv head", () => {
    const result = compute([[0, 0, 0, 0, 0, 0, 5, 7]], (x) =>
      attention(slice(x, 0, 4), slice(x, 4, 2), slice(x, 6, 2), { ...heads, heads: 4, kvHeads: 2 }),
    );
    expect(result).toEqual([5, 5, 7, 7]);
  });

  it.each<[ActivationName, number, number]>([
    ["silu", 1, 0.7310585786],
    ["silu", -3, -0.1422776195],
    ["gelu_erf", 1, 0.8413447461],
    ["gelu_erf", -2, -0.0455002639],
    ["gelu_erf", 7, 7],
    ["gelu_tanh", 1, 0.8411919906],
    ["gelu_tanh", -2, -0.0454023059],
  ])("gatedAct %s(%f) is %f", (activation, x, expected) => {
    expect(compute([[x, 1]], (t) => gatedAct(t, activation))).toEqual(close([expected]));
  });
  it("gatedAct gates the second half by the first", () => {
    expect(compute([[0, 100, 5, 3]], (x) => gatedAct(x, "silu"))).toEqual(close([0, 300]));
  });
});

describe("numerics fast", () => {
  const rotated = (x: number[], w: number[]) => {
    const graph = recordGraph((g) => {
      const result = linear(
        embed(g.table("table", 1, x.length), g),
        g.matrix("matrix", [{ name: "matrix", rows: 1 }], x.length),
      ).as("result");
      return { hidden: takeRows(result), logits: null };
    });
    const read = ({ name }: Weight) => Float32Array.from(name === "table" ? x : w);
    return new Reference(graph, read, "fast")
      .step({ sequences: [{ key: "s", tokens: [0] }] })
      .tensors.get("result")![0];
  };

  it("is exact where the rotated values are codes", () => {
    // (127, 0) and (0, 127) rotate to (127, 127) and (127, -127).
    expect(rotated([127, 0], [127, 0])).toBe(127 * 127);
    expect(rotated([127, 0], [0, 127])).toBe(0);
    expect(rotated([0, 0, 0], [1, 2, 3])).toBe(0);
  });
  it("spreads an outlier, and rounds to 254 steps", () => {
    // Without rotation the small values would be lost beside the large one: 0.3 is below half a step of 1000 / 127.
    const x = Array.from({ length: 16 }, (_, i) => (i === 3 ? 1000 : 3 * Math.sin(i)));
    const w = Array.from({ length: 16 }, (_, i) => (i === 3 ? 0 : Math.sin(i)));
    const truth = x.reduce((sum, value, i) => sum + value * w[i], 0);
    expect(Math.abs(rotated(x, w) - truth)).toBeLessThan((0.25 * Math.hypot(...x) * Math.hypot(...w)) / 127);
    expect(rotated(x, w)).not.toBe(Math.fround(truth));
  });
  it("rounds halves of a step to even codes", () => {
    const { codes } = roundWeights(Float32Array.of(127, 0.5, 1.5, -0.5, -2.5, 3, 4));
    expect([...codes]).toEqual([127, 0, 2, 0, -2, 3, 4]);
  });
  it("runs a whole model, near to exact arithmetic", () => {
    const step = { sequences: [{ key: "x", tokens: [3, 1, 4, 1, 5] }] };
    const exact = new Reference(decoder(2), readSeeded).step(step).logits!;
    const fast = new Reference(decoder(2), readSeeded, "fast").step(step).logits!;
    const distance = Math.hypot(...exact.map((x, i) => x - fast[i])) / Math.hypot(...exact);
    expect(distance).toBeGreaterThan(0);
    expect(distance).toBeLessThan(0.1);
  });
});

describe("the reference's sequences", () => {
  const tokens = [3, 1, 4, 1, 5, 9, 2, 6];
  const whole = (window = 0) =>
    new Reference(decoder(2, window), readSeeded).step({ sequences: [{ key: "x", tokens }] }).logits!;

  it.each([0, 3])("give the same logits however the prompt is cut (window %i)", (window) => {
    const reference = new Reference(decoder(2, window), readSeeded);
    for (const part of [tokens.slice(0, 1), tokens.slice(1, 6), tokens.slice(6, 7)])
      reference.step({ sequences: [{ key: "x", tokens: part }] });
    expect(reference.step({ sequences: [{ key: "x", tokens: tokens.slice(7) }] }).logits).toEqual(whole(window));
  });
  it("do not see each other", () => {
    const reference = new Reference(decoder(2), readSeeded);
    const { logits } = reference.step({
      sequences: [
        { key: "y", tokens: [7, 7] },
        { key: "x", tokens },
        { key: "z", tokens: [2] },
      ],
      rows: [9],
    });
    expect(logits).toEqual(whole());
  });
  it("start anew after they were forgotten", () => {
    const reference = new Reference(decoder(2), readSeeded);
    reference.step({ sequences: [{ key: "x", tokens: [8, 8] }] });
    reference.forget("x");
    expect(reference.step({ sequences: [{ key: "x", tokens }] }).logits).toEqual(whole());
  });
  it("answer for the rows asked for, in that order", () => {
    const reference = new Reference(decoder(1), readSeeded);
    const { logits, hidden, tensors } = reference.step({ sequences: [{ key: "x", tokens }], rows: [7, 0] });
    expect(hidden.length).toBe(2 * 12);
    expect(tensors.get("0.out")!.length).toBe(8 * 12);
    const alone = new Reference(decoder(1), readSeeded).step({ sequences: [{ key: "x", tokens: tokens.slice(0, 1) }] });
    expect(logits!.slice(20)).toEqual(alone.logits);
  });
});
