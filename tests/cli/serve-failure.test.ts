import { afterEach, describe, expect, it, vi } from "vitest";
import { exitAfterFailure } from "../../src/cli/serve.js";
import { SglangError } from "../../src/core/errors.js";
import type { RunningServer } from "../../src/server/server.js";

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** What the process writes and ends with, over a server that closes as `close` does. */
async function exit(close: () => Promise<void>) {
  const exits = vi.spyOn(process, "exit").mockImplementation((() => {}) as never);
  const written = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const error = new SglangError("ENGINE_FAILED", "The scheduler stopped because of an internal error: a page was lost");
  const done = exitAfterFailure(error, { close } as RunningServer);
  await vi.runAllTimersAsync();
  await done;
  return { codes: exits.mock.calls.map(([code]) => code), text: written.mock.calls.map(([text]) => text).join("") };
}

describe("a server whose engine died", () => {
  it.each<[string, () => Promise<void>]>([
    ["once its replies are out", () => Promise.resolve()],
    ["even when the server does not close", () => new Promise(() => {})],
    ["even when closing fails", () => Promise.reject(new Error("no"))],
  ])("exits with 1 and one sentence, %s", async (_name, close) => {
    vi.useFakeTimers();
    const { codes, text } = await exit(close);
    expect(codes).toEqual([1]);
    expect(text).toBe("sglang-ts: The scheduler stopped because of an internal error: a page was lost\n");
  });
});
