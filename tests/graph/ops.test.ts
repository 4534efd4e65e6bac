import { describe, expect, it } from "vitest";
import { Graph, recordGraph, type Tensor } from "../../src/graph/graph.js";
import {
  add,
  attention,
  embed,
  gatedAct,
  linear,
  printGraph,
  rmsNorm,
  rope,
  slice,
  takeRows,
} from "../../src/graph/ops.js";
import { decoder, VOCAB } from "./graphs.js";

const g = new Graph();
const x = embed(g.table("table", 10, 8), g).as("x");
const narrow = slice(x, 0, 4).as("narrow");
const odd = slice(x, 0, 3).as("odd");
const rows = takeRows(x).as("rows");
const matrix = (rows: number, columns: number) => g.matrix(`m${rows}x${columns}`, [{ name: "m", rows }], columns);
const vector = (rows: number) => g.vector(`v${rows}`, [{ name: `v${rows}`, rows }]);
const frequencies = g.constant("f", new Float32Array(2));
const heads = { layer: 0, heads: 2, kvHeads: 1, headDim: 4, scale: 1, window: 0, causal: true };

describe("each op knows its shape", () => {
  it.each<[string, () => Tensor, string]>([
    ["embed gives a row per token", () => x, "tokens 8"],
    ["rmsNorm keeps it", () => rmsNorm(x, vector(8), 1e-5), "tokens 8"],
    ["rmsNorm in groups has a weight per group column", () => rmsNorm(x, vector(4), 1e-5, 2), "tokens 8"],
    ["add keeps it", () => add(x, x), "tokens 8"],
    ["linear has the matrix's rows as columns", () => linear(x, matrix(5, 8), vector(5)), "tokens 5"],
    ["linear works on rows too", () => linear(rows, matrix(5, 8)), "rows 5"],
    ["rope keeps it", () => rope(x, { frequencies, heads: 2, headDim: 4, mscale: 1 }), "tokens 8"],
    ["attention has the shape of its queries", () => attention(x, narrow, narrow, heads), "tokens 8"],
    ["gatedAct halves it", () => gatedAct(x, "silu"), "tokens 4"],
    ["takeRows turns tokens into rows", () => takeRows(narrow), "rows 4"],
    ["slice has its own columns", () => slice(x, 2, 3), "tokens 3"],
  ])("%s", (_name, make, expected) => {
    const { extent, columns } = make();
    expect(`${extent} ${columns}`).toBe(expected);
  });
});

describe("each op refuses what does not fit, naming it", () => {
  it.each<[string, () => Tensor, RegExp]>([
    [
      "a norm of another width",
      () => rmsNorm(x, vector(4), 1e-5),
      /rmsNorm of x \[tokens, 8\] in 1 groups needs a weight of 8, got 4/,
    ],
    ["adding other widths", () => add(x, narrow), /add of x \[tokens, 8\] and narrow \[tokens, 4\]/],
    ["adding rows to tokens", () => add(x, rows), /the shapes differ/],
    ["a matrix of another width", () => linear(narrow, matrix(5, 8)), /m5x8 has 8 columns/],
    ["a bias of another length", () => linear(x, matrix(5, 8), vector(4)), /bias v4 has 4 values for 5 rows/],
    [
      "heads that do not fill the columns",
      () => rope(x, { frequencies, heads: 3, headDim: 4, mscale: 1 }),
      /3 heads of 4/,
    ],
    [
      "more frequencies than pairs",
      () => rope(x, { frequencies, heads: 4, headDim: 2, mscale: 1 }),
      /rotates 4 of 2 columns/,
    ],
    ["rotating rows", () => rope(rows, { frequencies, heads: 2, headDim: 4, mscale: 1 }), /rope of rows/],
    [
      "uneven groups of heads",
      () => attention(x, odd, odd, { ...heads, kvHeads: 3 }),
      /2 heads are not a multiple of 3/,
    ],
    ["queries of another width", () => attention(narrow, narrow, narrow, heads), /q is narrow/],
    ["keys of another width", () => attention(x, x, narrow, heads), /x \[tokens, 8\] is not 1 heads of 4/],
    ["half a window", () => attention(x, narrow, narrow, { ...heads, window: 0.5 }), /window 0.5/],
    ["gate and up of different widths", () => gatedAct(odd, "silu"), /equally wide/],
    ["taking rows of rows", () => takeRows(rows), /only tokens/],
    ["columns beyond the end", () => slice(x, 6, 3), /columns \[6, 9\) of x/],
    ["no columns", () => slice(x, 0, 0), /columns \[0, 0\)/],
    [
      "a tensor of another graph",
      () => add(x, embed(new Graph().table("t", 1, 8), new Graph())),
      /belongs to another graph/,
    ],
  ])("%s", (_name, make, message) => {
    expect(make).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_MODEL", message: expect.stringMatching(message) }),
    );
  });
});

describe("a graph", () => {
  it("prints one line per node with shapes, weights and attributes", () => {
    const lines = printGraph(decoder(1, 5)).split("\n");
    expect(lines).toEqual([
      "embedded [tokens, 12] = embed(embedding 20x12; scale 2)",
      "t1 [tokens, 12] = rmsNorm(embedded; 0.norm 12; eps 0.00001)",
      "0.projected [tokens, 48] = linear(t1; 0.qkv 48x12; 0.bias 48)",
      "t3 [tokens, 36] = slice(0.projected; 0..36)",
      "0.rotated [tokens, 36] = rope(t3; frequencies 3; 6 heads x 6, mscale 1.1)",
      "t5 [tokens, 24] = slice(0.rotated; 0..24)",
      "t6 [tokens, 12] = slice(0.rotated; 24..36)",
      "t7 [tokens, 12] = slice(0.projected; 36..48)",
      "0.attended [tokens, 24] = attention(t5, t6, t7; layer 0, 4/2 heads x 6, window 5)",
      "t9 [tokens, 12] = linear(0.attended; 0.o 12x24)",
      "t10 [tokens, 12] = add(embedded, t9)",
      "t11 [tokens, 12] = rmsNorm(t10; 0.norm2 12; eps 0.00001)",
      "t12 [tokens, 14] = linear(t11; 0.up 14x12)",
      "t13 [tokens, 7] = gatedAct(t12; silu)",
      "t14 [tokens, 12] = linear(t13; 0.down 12x7)",
      "0.out [tokens, 12] = add(t10, t14)",
      "t16 [rows, 12] = takeRows(0.out)",
      "hidden [rows, 12] = rmsNorm(t16; last 12; eps 0.00001)",
      "logits [rows, 20] = linear(hidden; embedding 20x12)",
      "hidden = hidden",
      "logits = logits",
    ]);
  });

  it("finds tensors by name and takes each name once", () => {
    const graph = decoder(1);
    expect(graph.tensor("0.out").columns).toBe(12);
    expect(() => graph.tensor("nobody")).toThrow(/no tensor is named nobody/);
    expect(() => graph.tensor("0.out").as("hidden")).toThrow(/two tensors are named hidden/);
  });

  it("keeps one weight per name and refuses a second meaning", () => {
    const graph = new Graph();
    const first = graph.vector("w", [{ name: "w", rows: 3 }]);
    expect(graph.vector("w", [{ name: "w", rows: 3 }])).toBe(first);
    expect(() => graph.vector("w", [{ name: "w", rows: 4 }])).toThrow(/declared twice, differently/);
    expect(graph.weights).toEqual([first]);
  });

  it("has outputs on rows, once it is finished, and takes no nodes after that", () => {
    expect(() => new Graph().outputs).toThrow(/still being recorded/);
    const tokensOut = () =>
      recordGraph((graph) => ({ hidden: embed(graph.table("t", VOCAB, 4), graph), logits: null }));
    expect(tokensOut).toThrow(/must have extent rows/);
    const done = decoder(1);
    expect(() => takeRows(done.tensor("0.out"))).toThrow(/after the graph was finished/);
  });
});
