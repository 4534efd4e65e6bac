/** Ranges of key columns from weights alone, on graphs small enough to check by hand. */
import { expect, it } from "vitest";
import { recordGraph } from "../../src/graph/graph.js";
import { attention, embed, linear, rmsNorm, rope, slice, takeRows } from "../../src/graph/ops.js";
import { keyScales } from "../../src/models/key-scales.js";

const HEAD = 4;

/** One layer, two query heads over one kv head of 4; q, k and v in one matrix [16, 2]. */
function graph(normedKeys: boolean, bias: boolean) {
  return recordGraph((g) => {
    const h = embed(g.table("embed", 3, 2), g);
    const x = rmsNorm(h, g.vector("norm", [{ name: "norm", rows: 2 }]), 1e-6);
    const parts = ["q", "k", "v"].map((name, i) => ({ name, rows: i === 0 ? 8 : 4 }));
    const qkv = linear(x, g.matrix("qkv", parts, 2), bias ? g.vector("bias", parts) : null);
    const frequencies = g.constant("frequencies", Float32Array.of(1, 0.5));
    let k = slice(qkv, 8, HEAD);
    if (normedKeys) k = rmsNorm(k, g.vector("k_norm", [{ name: "k_norm", rows: HEAD }]), 1e-6);
    k = rope(k, { frequencies, heads: 1, headDim: HEAD, mscale: 1 });
    const attrs = { layer: 0, heads: 2, kvHeads: 1, headDim: HEAD, scale: 0.5, window: 0, causal: true };
    const out = attention(slice(qkv, 0, 8), k, slice(qkv, 12, HEAD), attrs);
    return { hidden: takeRows(out), logits: null };
  });
}

/** Rows of k: spreads 3, 6, 1, 0 after the norm's gain of (1, 2); columns 0 and 2, 1 and 3 are RoPE pairs. */
const K = [3, 0, 0, 3, 1, 0, 0, 0];
function read(weight: { name: string }, first: number, rows: number): Float32Array {
  const values: Record<string, number[]> = {
    norm: [1, 2],
    qkv: [...new Array(16).fill(99), ...K, ...new Array(8).fill(77)],
    bias: [...new Array(8).fill(55), 1, -2, 10, 0, ...new Array(4).fill(44)],
    k_norm: [1, 0.5, 2, -4],
  };
  const width = weight.name === "qkv" ? 2 : 1;
  return Float32Array.from(values[weight.name].slice(first * width, (first + rows) * width));
}

it("covers bias and three spreads, and gives the columns of a pair one scale", () => {
  // 3 x (3, 6, 1, 0) + (1, 2, 10, 0) = (10, 20, 13, 0); pairs (13, 20, 13, 20); smallest 1.
  expect([...keyScales(graph(false, true), read)]).toEqual([1, 20 / 13, 1, 20 / 13].map(Math.fround));
  expect([...keyScales(graph(false, false), read)]).toEqual([1, 2, 1, 2]);
});

it("takes the weight of a norm of the keys, whatever the projection is", () => {
  // 3 x (1, 0.5, 2, 4); pairs (6, 12, 6, 12).
  expect([...keyScales(graph(true, true), read)]).toEqual([1, 2, 1, 2]);
});
