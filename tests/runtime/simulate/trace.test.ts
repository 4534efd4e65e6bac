import { describe, expect, it } from "vitest";
import { formatTrace, makeTrace, parseTrace, promptTokens } from "../../../src/runtime/simulate/trace.js";

const OPTIONS = {
  requests: 2000,
  rate: 10,
  meanInput: 200,
  meanOutput: 50,
  prefixes: 20,
  prefixTokens: 100,
  blockTokens: 64,
  seed: 1,
};
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe("parseTrace", () => {
  it("reads Mooncake's lines, in order of time", () => {
    const text = `{"timestamp": 20, "input_length": 3, "output_length": 2, "hash_ids": [1, 2]}\n\n{"timestamp": 10.5, "input_length": 4, "output_length": 1, "tenant": "a", "priority": -2}\n`;
    expect(parseTrace(text, "t.jsonl")).toEqual([
      { at: 10.5, inputLength: 4, outputLength: 1, blocks: [], tenant: "a", priority: -2 },
      { at: 20, inputLength: 3, outputLength: 2, blocks: [1, 2] },
    ]);
  });

  it.each([
    ["{", /t\.jsonl:1: .*JSON/],
    ["[]", /t\.jsonl:1: a request must be a JSON object/],
    ['{"timestamp": 0, "input_length": 0, "output_length": 1}', /input_length must be an integer >= 1, got 0/],
    ['{"timestamp": 0, "output_length": 1}', /input_length must be an integer >= 1, got nothing/],
    ['{"timestamp": -1, "input_length": 1, "output_length": 1}', /timestamp must be a number >= 0, got -1/],
    ['{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 3}', /hash_ids must be a list/],
    ['{"timestamp": 0, "input_length": 1, "output_length": 1, "hashes": []}', /hashes is not a known field/],
    ["\n", /has no requests/],
  ])("refuses %s", (text, says) => {
    expect(() => parseTrace(text, "t.jsonl")).toThrow(says);
  });
});

describe("makeTrace", () => {
  it("keeps to its rate and means, and is the same for a seed", () => {
    const trace = makeTrace(OPTIONS);
    expect(trace).toEqual(makeTrace(OPTIONS));
    expect(trace[trace.length - 1].at / 1000).toBeGreaterThan(180);
    expect(trace[trace.length - 1].at / 1000).toBeLessThan(220);
    expect(mean(trace.map((r) => r.inputLength - 2 * 64))).toBeCloseTo(200, -1.3);
    expect(mean(trace.map((r) => r.outputLength))).toBeCloseTo(50, -1);
    expect(new Set(trace.map((r) => r.blocks[0])).size).toBe(20);
  });

  it("is read back as it was written", () => {
    const trace = makeTrace({ ...OPTIONS, requests: 50, tenants: ["a", "b"] });
    expect(parseTrace(formatTrace(trace), "t")).toEqual(trace);
  });
});

describe("promptTokens", () => {
  const tokens = (blocks: number[], index: number, inputLength = 10) =>
    promptTokens({ at: 0, inputLength, outputLength: 1, blocks }, index, 1000, 4);

  it("are equal where blocks are, and differ elsewhere", () => {
    expect(tokens([1, 2], 0).slice(0, 8)).toEqual(tokens([1, 2, 3], 1, 12).slice(0, 8));
    expect(tokens([1, 2], 0).slice(8)).not.toEqual(tokens([1, 2], 1).slice(8));
    expect(tokens([1, 2], 0).slice(4, 8)).not.toEqual(tokens([1, 3], 0).slice(4, 8));
    expect(tokens([], 0)).not.toEqual(tokens([], 1));
    expect(Math.max(...tokens([], 5, 1000))).toBeLessThan(1000);
  });
});
