/** What becomes of grammars that are being tried when their thread ends. */
import { EventEmitter } from "node:events";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { GrammarTrials } from "../../src/runtime/grammar-trial.js";

/** What each thread does with its grammars, by its number. */
const threads: ((worker: EventEmitter) => void)[] = [];
let started = 0;

vi.mock("node:worker_threads", () => ({
  Worker: class extends EventEmitter {
    readonly #answer = threads[started++];
    postMessage(): void {
      setImmediate(() => this.#answer(this));
    }
    ref(): void {}
    unref(): void {}
    async terminate(): Promise<void> {}
  },
}));

const compiles = (worker: EventEmitter) => worker.emit("message", { error: null });
const spec = { kind: "regex", pattern: "a" } as const;

beforeEach(() => {
  started = 0;
});

describe("a grammar thread that ends", () => {
  it.each([
    ["by itself", (worker: EventEmitter) => worker.emit("exit", 3), /ended with code 3/],
    [
      "by an error",
      (worker: EventEmitter) => {
        worker.emit("error", new Error("boom"));
        worker.emit("exit", 1);
      },
      /boom/,
    ],
  ])("%s answers the grammar it had at once, and the others go on in a new one", async (_, ends, message) => {
    threads.splice(0, threads.length, ends, compiles);
    const trials = new GrammarTrials({ seconds: 1000 });
    const first = trials.run(spec);
    const others = [trials.run(spec), trials.run(spec)];
    await expect(first).rejects.toMatchObject({ code: "ENGINE_FAILED", message: expect.stringMatching(message) });
    await Promise.all(others);
    expect(started).toBe(2);
    await trials.close();
  });
});
