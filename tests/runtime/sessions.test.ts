import { describe, expect, it } from "vitest";
import type { GenerateRequest, SessionParams } from "../../src/core/protocol.js";
import type { Engine } from "../../src/runtime/engine.js";
import { until } from "../server/harness.js";
import { collect, encode, greedy } from "./collect.js";
import { expectedTokens, fakeEngine } from "./fake-runner.js";

const say = (engine: Engine, rid: string, text: string, session: SessionParams, more: Partial<GenerateRequest> = {}) =>
  collect(engine, { prompt: { text }, samplingParams: { ...greedy, maxNewTokens: 8 }, rid, session, ...more });
const answer = (ids: readonly number[]) => expectedTokens(ids, { maxNewTokens: 8, stopIds: [] });

describe("sessions", () => {
  it("continue an earlier request as if its tokens had been sent again", async () => {
    const { engine } = fakeEngine();
    const id = engine.openSession();
    const one = await say(engine, "1", "Hello", { id });
    const two = await say(engine, "2", " and", { id, rid: "1" });
    expect(one.ids).toEqual(answer(encode("Hello")));
    const prompt = [...encode("Hello"), ...one.ids, ...encode(" and")];
    expect(two.last.usage.promptTokens).toBe(prompt.length);
    expect(two.last.usage.cachedTokens).toBeGreaterThan(8);
    expect(two.ids).toEqual(answer(prompt));
    await engine.close();
  });

  it.each<[string, Partial<SessionParams>, (first: number[], output: number[]) => number[]]>([
    ["all of it", {}, (first, output) => [...first, ...output]],
    ["an offset", { offset: 3 }, (first) => first.slice(0, 3)],
    ["an offset from the end", { offset: -1 }, (first, output) => [...first, ...output].slice(0, -1)],
    ["the prompt alone", { dropPreviousOutput: true }, (first) => first],
    ["an offset in the prompt alone", { dropPreviousOutput: true, offset: -2 }, (first) => first.slice(0, -2)],
  ])("keep %s of it", async (_, params, kept) => {
    const { engine } = fakeEngine();
    const id = engine.openSession({ id: "s" });
    const first = await say(engine, "1", "Hello", { id });
    const second = await say(engine, "2", " you", { id, rid: "1", ...params });
    expect(second.ids).toEqual(answer([...kept([...encode("Hello")], first.ids), ...encode(" you")]));
    await engine.close();
  });

  it("are trees: branches grow from one request, and replace cuts them", async () => {
    const { engine } = fakeEngine();
    const id = engine.openSession();
    const root = await say(engine, "root", "Hello", { id });
    await say(engine, "left", " l", { id, rid: "root" });
    await say(engine, "right", " r", { id, rid: "root" });
    const anew = await say(engine, "anew", " n", { id, rid: "root", replace: true });
    expect(anew.ids).toEqual(answer([...encode("Hello"), ...root.ids, ...encode(" n")]));
    await expect(say(engine, "x", "", { id, rid: "left" }, { prompt: { text: "a" } })).rejects.toMatchObject({
      details: { field: "session_params.rid" },
      message: expect.stringMatching(/"left" is no request of session/),
    });
    await say(engine, "fresh", "Bye", { id, replace: true });
    await expect(say(engine, "y", "a", { id, rid: "root" })).rejects.toThrow(/no request of session/);
    await engine.close();
  });

  it("do not continue what still runs, unless it is replaced", async () => {
    const { engine } = fakeEngine({}, { onStep: () => new Promise((resolve) => setTimeout(resolve, 2)) });
    const id = engine.openSession();
    const long = say(engine, "1", "Hello", { id }, { samplingParams: { ...greedy, maxNewTokens: 200 } });
    await until(() => engine.stats().counters.decodeSteps > 3, "it runs");
    await expect(say(engine, "2", "a", { id, rid: "1" })).rejects.toThrow(/has not finished/);
    const second = await say(engine, "3", " x", { id, rid: "1", replace: true, dropPreviousOutput: true });
    expect((await long).last.finishReason?.type).toBe("abort");
    expect(second.ids).toEqual(answer([...encode("Hello"), ...encode(" x")]));
    await engine.close();
  });

  it("refuse what cannot be meant", async () => {
    const { engine } = fakeEngine();
    const id = engine.openSession({ id: "s", capacity: 20 });
    expect(() => engine.openSession({ id })).toThrow(/"s" is open already/);
    expect(() => engine.openSession({ capacity: -1 })).toThrow(/capacity_of_str_len/);
    expect(() => engine.openSession({ timeoutSeconds: 0 })).toThrow(/timeout/);
    await expect(say(engine, "1", "a", { id: "t" })).rejects.toMatchObject({ details: { field: "session_params.id" } });
    const two = { samplingParams: { ...greedy, maxNewTokens: 8, n: 2 } };
    await expect(say(engine, "1", "a", { id }, two)).rejects.toThrow(/sampling_params\.n must be 1 in a session/);
    await say(engine, "1", "Hello", { id });
    await expect(say(engine, "1", "Hello", { id })).rejects.toThrow(/taken by an earlier request/);
    await expect(say(engine, "2", "Hello", { id, rid: "1" })).rejects.toThrow(
      /keep 31 tokens, more than its capacity of 20/,
    );
    // A request that was refused is no part of the session.
    await expect(say(engine, "3", "a", { id, rid: "2" })).rejects.toThrow(/no request of session/);
    await engine.close();
  });

  it("are forgotten when they are closed, or not used for their timeout", async () => {
    const { engine } = fakeEngine();
    const id = engine.openSession();
    expect(engine.closeSession(id)).toBe(true);
    expect(engine.closeSession(id)).toBe(false);
    engine.openSession({ id: "short", timeoutSeconds: 0.03 });
    await until(() => !engine.closeSession("short"), "it closes itself").catch(() => {});
    await expect(say(engine, "1", "a", { id: "short" })).rejects.toThrow(/is not open/);
    await engine.close();
  });
});
