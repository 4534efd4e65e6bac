import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { loadEngineParts, modelDefaults } from "../../src/runtime/load.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

describe("modelDefaults", () => {
  it.each([
    [
      "SGLang's five values",
      { temperature: 0.7, top_p: 0.8, top_k: 20, min_p: 0.1, repetition_penalty: 1.05, max_new_tokens: 9 },
      { temperature: 0.7, topP: 0.8, topK: 20, minP: 0.1, repetitionPenalty: 1.05 },
    ],
    ["top_k 0 as no limit", { top_k: 0 }, { topK: -1 }],
    ["nothing from an empty file", {}, {}],
    ["nothing for null", { temperature: null }, {}],
    ["nothing that is out of range", { temperature: -1, top_p: 0.9 }, { topP: 0.9 }],
  ])("takes %s", (_name, generationConfig, expected) => {
    expect(modelDefaults(generationConfig, 100)).toEqual(expected);
  });
});

describe("loadEngineParts", () => {
  it("refuses a catalog model that cannot be served before anything is fetched", async () => {
    const messages: string[] = [];
    const loading = loadEngineParts("gemma3-270m", { offline: true, onMessage: (line) => messages.push(line) });
    await expect(loading).rejects.toMatchObject({
      code: "UNSUPPORTED_MODEL",
      message: expect.stringMatching(/^gemma3-270m can be fetched and inspected but not served: .*gemma3/),
    });
    expect(messages).toEqual([]);
  });
});
