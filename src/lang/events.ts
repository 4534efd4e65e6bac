/** What `program.stream` tells while a program runs, and the queue that carries it. */
import type { BackendUsage } from "./backends/backend.js";
import type { Meta } from "./variable.js";

/** `state` is the id of a state: "0" is the program's own, "0.1" its second fork, and so on. */
export type ProgramEvent =
  /** Text that the program wrote. */
  | { type: "text"; state: string; text: string }
  | { type: "image"; state: string; media: "image" | "video" }
  | { type: "started"; state: string; name: string; kind: "gen" | "select" }
  /** Text that the model wrote. */
  | { type: "delta"; state: string; name: string; text: string }
  | { type: "reasoning"; state: string; name: string; text: string }
  | { type: "tool"; state: string; name: string; tool: string; arguments: string; result: string }
  | { type: "done"; state: string; name: string; value: unknown; meta: Meta }
  | { type: "fork"; state: string; children: readonly string[] }
  | { type: "join"; state: string; mode: "gather" | "concatenate"; children: readonly string[] }
  /** A variable failed. The program goes on; it meets the error where it awaits the variable. */
  | { type: "error"; state: string; name: string; error: unknown }
  /** Tokens of the whole program so far, after each request. */
  | { type: "usage"; usage: BackendUsage & { calls: number } };

/** An unbounded queue with one reader. */
export class EventQueue<T> implements AsyncIterable<T> {
  #items: T[] = [];
  #ended: { error?: unknown } | undefined;
  #wake: (() => void) | undefined;
  readonly #onLeave: () => void;

  /** @param onLeave called when the reader leaves before the end */
  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  push(item: T): void {
    this.#items.push(item);
    this.#wake?.();
  }

  /** @param failure the reader meets `failure.error` after the last item */
  end(failure: { error?: unknown } = {}): void {
    this.#ended ??= failure;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    try {
      for (;;) {
        const items = this.#items;
        this.#items = [];
        yield* items;
        if (this.#items.length > 0) continue;
        if (this.#ended) {
          if ("error" in this.#ended) throw this.#ended.error;
          return;
        }
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
      }
    } finally {
      if (!this.#ended) this.#onLeave();
    }
  }
}
