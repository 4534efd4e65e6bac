/**
 * A program over many items: so many at a time, results in order, failures kept apart, cut-off work resumed.
 *
 * Items are taken from their source only when there is room for them, so the source may be endless. The first two
 * programs are held at their first request until both prompts are known: what they share is computed once, then all go.
 */
import { invalidField, SglangError } from "../core/errors.js";
import type { BackendPrompt } from "./backends/backend.js";
import { type Checkpoint, digest, openCheckpoint } from "./checkpoint.js";
import type { RunOptions } from "./program.js";
import { type Progress, progressBar } from "./progress.js";
import type { Run } from "./run.js";
import type { TraceUsage } from "./trace.js";

export interface BatchControls {
  /** Items in work at the same time. @default 64 */
  concurrency?: number;
  /** true: a bar on standard error. A function gets every change. @default false */
  progress?: boolean | ((progress: Progress) => void);
  /** A JSONL file (Node) or an object: items that are in it are not run again. */
  checkpoint?: string | Checkpoint;
  /** Compute what the prompts share once, before the rest is sent. @default true */
  sharedPrefix?: boolean;
}

export interface BatchOptions<I, A extends unknown[]> extends RunOptions, BatchControls {
  /** The program's arguments for an item. @default the item is its only argument */
  args?: (item: I, index: number) => A;
}

export type BatchItem<R> =
  | { index: number; ok: true; value: R; usage: TraceUsage; resumed: boolean }
  | { index: number; ok: false; error: unknown };

export interface BatchHooks {
  onFirstPrompt?: (prompt: BackendPrompt) => Promise<void>;
  onRun?: (run: Run) => void;
}

type Work<I> = (item: I, index: number, hooks: BatchHooks) => Promise<{ value: unknown; usage: TraceUsage }>;
type Warm = (prompts: readonly BackendPrompt[], signal: AbortSignal) => Promise<boolean>;

const DEFAULT_CONCURRENCY = 64;
/** Results that may wait for an earlier one, per item in work. */
const HELD = 4;
/** Prompts that are compared to find what all share. */
const COMPARED = 2;

/** Holds programs at their first prompt until enough are there to compare, then warms what they share. */
class PrefixGate {
  readonly #warm: (prompts: readonly BackendPrompt[]) => Promise<unknown>;
  readonly #prompts: BackendPrompt[] = [];
  readonly #opened: Promise<void>;
  #open!: () => void;
  #expected = COMPARED;
  #started = false;

  constructor(warm: (prompts: readonly BackendPrompt[]) => Promise<unknown>) {
    this.#warm = warm;
    this.#opened = new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  arrive(prompt: BackendPrompt): Promise<void> {
    if (!this.#started) {
      this.#prompts.push(prompt);
      this.#check();
    }
    return this.#opened;
  }

  /** A program ended, or there are no more: fewer prompts will come. */
  expectFewer(): void {
    this.#expected--;
    this.#check();
  }

  #check(): void {
    if (this.#started || this.#prompts.length < this.#expected) return;
    this.#started = true;
    // One prompt shares nothing with others; a failed hint leaves everything to the requests themselves.
    const warmed = this.#prompts.length < COMPARED ? Promise.resolve() : this.#warm(this.#prompts);
    warmed.then(this.#open, this.#open);
  }
}

export class Batch<R> implements PromiseLike<BatchItem<R>[]>, AsyncIterable<BatchItem<R>> {
  readonly #source: Iterable<unknown> | AsyncIterable<unknown>;
  readonly #controls: BatchControls & { signal?: AbortSignal };
  readonly #work: Work<unknown>;
  readonly #warm: Warm;
  #all: Promise<BatchItem<R>[]> | undefined;
  #taken = false;

  constructor(
    source: Iterable<unknown> | AsyncIterable<unknown>,
    controls: BatchControls & { signal?: AbortSignal },
    work: Work<unknown>,
    warm: Warm,
  ) {
    const { concurrency = DEFAULT_CONCURRENCY } = controls;
    if (!Number.isSafeInteger(concurrency) || concurrency < 1)
      throw invalidField("concurrency", "an integer >= 1", concurrency);
    this.#source = source;
    this.#controls = controls;
    this.#work = work;
    this.#warm = warm;
  }

  // biome-ignore lint/suspicious/noThenProperty: a batch is awaitable by design
  then<A = BatchItem<R>[], B = never>(
    onValue?: ((value: BatchItem<R>[]) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#all ??= (async () => {
      const items: BatchItem<R>[] = [];
      for await (const item of this) items.push(item);
      return items;
    })();
    return this.#all.then(onValue, onError);
  }

  /** Results in the order of the items, each as soon as it and those before it are there. */
  async *[Symbol.asyncIterator](): AsyncIterator<BatchItem<R>> {
    if (this.#taken)
      throw new SglangError("INVALID_REQUEST", "This batch has been read already; await it once or iterate once.");
    this.#taken = true;
    const { concurrency = DEFAULT_CONCURRENCY, signal, sharedPrefix = true } = this.#controls;
    const checkpoint = this.#controls.checkpoint === undefined ? undefined : openCheckpoint(this.#controls.checkpoint);
    const known = await checkpoint?.load();
    const report = this.#reporter();
    const runs = new Set<Run>();
    const warming = new AbortController();
    const abort = (reason: unknown) => {
      warming.abort(reason);
      for (const run of runs) run.abort(reason);
    };
    let wake = () => {};
    const onAbort = () => {
      abort(signal?.reason);
      wake();
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    const gate =
      sharedPrefix && concurrency > 1 ? new PrefixGate((prompts) => this.#warm(prompts, warming.signal)) : undefined;

    const one = async (item: unknown, index: number): Promise<BatchItem<R>> => {
      let run: Run | undefined;
      try {
        const { value, usage } = await this.#work(item, index, {
          onRun: (started) => {
            run = started;
            runs.add(started);
            if (signal?.aborted) started.abort(signal.reason);
          },
          ...(gate ? { onFirstPrompt: (prompt: BackendPrompt) => gate.arrive(prompt) } : {}),
        });
        await checkpoint?.save({ index, item: digest(item), value, usage });
        report.count(usage);
        return { index, ok: true, value: value as R, usage, resumed: false };
      } catch (error) {
        report.fail();
        return { index, ok: false, error };
      } finally {
        if (run) runs.delete(run);
        gate?.expectFewer();
      }
    };

    const isAsync = Symbol.asyncIterator in this.#source;
    const source = isAsync
      ? (this.#source as AsyncIterable<unknown>)[Symbol.asyncIterator]()
      : (this.#source as Iterable<unknown>)[Symbol.iterator]();
    // Results that wait for an earlier one hold their place: memory stays bounded however slow that one is.
    const window: Promise<BatchItem<R>>[] = [];
    let running = 0;
    let index = 0;
    let ended = false;
    /** Aborted before all items were taken. */
    let cutOff = false;
    const hasRoom = () => running < concurrency && window.length < HELD * concurrency;
    const end = () => {
      ended = true;
      for (let missing = 0; missing < COMPARED; missing++) gate?.expectFewer();
      report.total(index);
    };
    const take = (next: IteratorResult<unknown>) => {
      if (next.done) {
        end();
        return;
      }
      const at = index++;
      const before = known?.get(at);
      if (!before) {
        running++;
        const work = one(next.value, at).finally(() => {
          running--;
          wake();
        });
        window.push(work);
        return;
      }
      if (before.item !== digest(next.value)) {
        const message = `Item ${at} is not the one that the checkpoint was written for; use a new checkpoint.`;
        throw new SglangError("INVALID_REQUEST", message, { field: "checkpoint" });
      }
      report.resume();
      const { usage } = before;
      window.push(Promise.resolve({ index: at, ok: true, value: before.value as R, usage, resumed: true }));
    };
    const freed = () =>
      new Promise<"freed">((resolve) => {
        wake = () => resolve("freed");
      });
    let reading: Promise<"read"> | undefined;
    const read = () => {
      while (!ended && !reading && hasRoom()) {
        const next = source.next();
        if (!isAsync) {
          take(next as IteratorResult<unknown>);
          continue;
        }
        reading = (next as Promise<IteratorResult<unknown>>).then((result): "read" => {
          reading = undefined;
          take(result);
          return "read";
        });
        // Met where it is awaited; the reader may be gone by then.
        reading.catch(() => {});
      }
    };

    try {
      if (Array.isArray(this.#source)) report.total(this.#source.length);
      for (;;) {
        // Aborted: nothing more is taken, and what was taken ends with the abort.
        if (signal?.aborted && !ended) {
          cutOff = true;
          end();
        }
        read();
        if (window.length === 0 && ended) break;
        const racers: Promise<BatchItem<R> | "read" | "freed">[] = [];
        if (window.length > 0) racers.push(window[0]);
        if (!ended) racers.push(freed());
        if (!ended && reading) racers.push(reading);
        const first = await Promise.race(racers);
        if (typeof first === "string") continue;
        window.shift();
        yield first;
      }
      report.end();
      if (cutOff)
        throw new SglangError("ABORTED", `The batch was aborted after ${index} items.`, {}, { cause: signal?.reason });
    } finally {
      signal?.removeEventListener("abort", onAbort);
      if (runs.size > 0) abort(new SglangError("ABORTED", "The reader of the batch left."));
      const closed = Promise.resolve(source.return?.());
      // A source that is waited for closes when it answers; nobody waits for that.
      if (reading) closed.catch(() => {});
      else await closed;
    }
  }

  #reporter() {
    const { progress = false } = this.#controls;
    const startedAt = performance.now();
    const state: Progress = {
      done: 0,
      failed: 0,
      resumed: 0,
      total: undefined,
      promptTokens: 0,
      completionTokens: 0,
      elapsedMs: 0,
    };
    const bar = progress === true ? progressBar() : undefined;
    const show = (ended = false) => {
      state.elapsedMs = performance.now() - startedAt;
      bar?.(state, ended);
      if (typeof progress === "function" && !ended) progress({ ...state });
    };
    return {
      count: (usage: TraceUsage) => {
        state.done++;
        state.promptTokens += usage.promptTokens;
        state.completionTokens += usage.completionTokens;
        show();
      },
      fail: () => {
        state.done++;
        state.failed++;
        show();
      },
      resume: () => {
        state.done++;
        state.resumed++;
        show();
      },
      total: (count: number) => {
        state.total = count;
      },
      end: () => show(true),
    };
  }
}
