/** Small graphs and seeded weights for the tests of this room. */
import type { Graph, Tensor, Weight } from "../../src/graph/graph.js";
import { recordGraph } from "../../src/graph/graph.js";
import { add, attention, embed, gatedAct, linear, rmsNorm, rope, slice, takeRows } from "../../src/graph/ops.js";
import type { ReadWeight } from "../../src/graph/reference.js";

export const VOCAB = 20;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_DIM = 6;
/** Not a multiple of a cache line's 16 floats, so that strides and columns differ. */
const HIDDEN = 12;

/** A decoder of `layers` layers with every op of the vocabulary. */
export function decoder(layers: number, window = 0): Graph {
  return recordGraph((g) => {
    const vector = (name: string, rows: number) => g.vector(name, [{ name, rows }]);
    const frequencies = g.constant("frequencies", Float32Array.of(1, 0.3, 0.1));
    const norm = (x: Tensor, name: string) => rmsNorm(x, vector(name, HIDDEN), 1e-5);
    const [q, kv] = [HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM];
    let h = embed(g.table("embedding", VOCAB, HIDDEN), g, 2).as("embedded");
    for (let layer = 0; layer < layers; layer++) {
      const name = (part: string) => `${layer}.${part}`;
      const parts = [
        { name: name("q"), rows: q },
        { name: name("k"), rows: kv },
        { name: name("v"), rows: kv },
      ];
      const qkv = linear(
        norm(h, name("norm")),
        g.matrix(name("qkv"), parts, HIDDEN),
        vector(name("bias"), q + 2 * kv),
      ).as(name("projected"));
      const qk = rope(slice(qkv, 0, q + kv), {
        frequencies,
        heads: HEADS + KV_HEADS,
        headDim: HEAD_DIM,
        mscale: 1.1,
      }).as(name("rotated"));
      const attended = attention(slice(qk, 0, q), slice(qk, q, kv), slice(qkv, q + kv, kv), {
        layer,
        heads: HEADS,
        kvHeads: KV_HEADS,
        headDim: HEAD_DIM,
        scale: 0.4,
        window,
        causal: true,
      }).as(name("attended"));
      h = add(h, linear(attended, g.matrix(name("o"), [{ name: name("o"), rows: HIDDEN }], q)));
      const halves = ["gate", "up"].map((half) => ({ name: name(half), rows: 7 }));
      const gateUp = linear(norm(h, name("norm2")), g.matrix(name("up"), halves, HIDDEN));
      h = add(
        h,
        linear(gatedAct(gateUp, "silu"), g.matrix(name("down"), [{ name: name("down"), rows: HIDDEN }], 7)),
      ).as(name("out"));
    }
    const hidden = norm(takeRows(h), "last").as("hidden");
    const logits = linear(hidden, g.matrix("embedding", [{ name: "embedding", rows: VOCAB }], HIDDEN)).as("logits");
    return { hidden, logits };
  });
}

/** The same numbers for the same weight name, in [-0.8, 0.8]. */
export const readSeeded: ReadWeight = (weight: Weight) => {
  if (weight.kind === "constant") return weight.values;
  const seed = [...weight.name].reduce((sum, char) => sum * 31 + char.charCodeAt(0), 7) % 1000;
  const size = weight.kind === "vector" ? weight.rows : weight.rows * weight.columns;
  return Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i * 1.7) * 0.8);
};
