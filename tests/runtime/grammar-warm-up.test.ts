/** Grammars are warmed up beside the first requests, never in their way, and nothing of it is counted or kept. */
import { afterEach, describe, expect, it } from "vitest";
import { GrammarManager } from "../../src/runtime/grammar-manager.js";
import { TimeSlices } from "../../src/runtime/time-slices.js";
import { makeVocabulary } from "../../src/runtime/vocabulary-cache.js";
import { fakeTokenizer, VOCAB } from "./fake-runner.js";

let manager: GrammarManager;
afterEach(() => manager.close());

function make(): GrammarManager {
  const vocabulary = makeVocabulary(fakeTokenizer, VOCAB);
  manager = new GrammarManager(fakeTokenizer, vocabulary, new TimeSlices(), { anyWhitespace: true });
  return manager;
}

describe("warming up grammars", () => {
  it("asks before each piece whether it is in the way, and leaves the statistics alone", async () => {
    let asked = 0;
    await make().warmUp(async () => {
      asked++;
    });
    expect(asked).toBeGreaterThan(100);
    expect(manager.stats()).toMatchObject({ requests: 0, compiled: 0, refused: 0, timedOut: 0 });
    const grammar = await manager.compile({ type: "regex", pattern: "[a-c]+" }, new AbortController().signal);
    expect(grammar.matcher().acceptText("abc")).toBe(true);
    expect(manager.stats()).toMatchObject({ requests: 1, cacheHits: 0, compiled: 1 });
  });

  it("waits while requests run, and ends when the manager is closed", async () => {
    let idle = () => {};
    let asked = 0;
    const warmUp = make().warmUp(() => {
      asked++;
      return new Promise((resolve) => {
        idle = resolve;
      });
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(asked).toBe(1);
    await manager.close();
    idle();
    await new Promise((resolve) => setTimeout(resolve, 20));
    idle();
    await warmUp;
    expect(asked).toBe(2);
  });
});

describe("a constraint of no known type", () => {
  it("is refused by name", async () => {
    const constraint = { type: "json_schema", schema: {} } as never;
    await expect(make().compile(constraint, new AbortController().signal)).rejects.toMatchObject({
      code: "INVALID_REQUEST",
      message: expect.stringMatching(/constraint\.type.*jsonSchema.*json_schema/s),
    });
  });
});
