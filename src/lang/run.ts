/**
 * One run of a program: the backend, the limits, the abort and the accounts that all its states share.
 *
 * Every request of a run goes through {@link Run.call}: place in the limiter, timeout, abort, retry. A request has its
 * own AbortController, so that no signal gathers listeners however many requests a run makes.
 */
import { SglangError } from "../core/errors.js";
import type { Backend, BackendPrompt, BackendUsage } from "./backends/backend.js";
import type { ProgramEvent } from "./events.js";
import type { SamplingOptions } from "./gen-options.js";
import type { Limiter } from "./limits.js";
import { type ResolvedRetry, retryDelay, sleep } from "./retry.js";
import type { TracerLike } from "./telemetry.js";
import type { TraceUsage } from "./trace.js";

/** Prices per million tokens, in any currency. */
export interface Pricing {
  prompt: number;
  completion: number;
  /** Prompt tokens from a cache. @default the price of `prompt` */
  cached?: number;
}

export interface RunSetup {
  backend: Backend;
  sampling: SamplingOptions;
  limiters: readonly Limiter[];
  retry: ResolvedRetry;
  pricing: Pricing | undefined;
  tracer: TracerLike | undefined;
  /** Ask backends for pieces as they come. */
  streaming: boolean;
  emit: ((event: ProgramEvent) => void) | undefined;
  /** No backend is asked: answers are placeholders. */
  symbolic: boolean;
  /** Tokens to generate past a gen, in the hope that they match what the program writes next; 0 = off. */
  apiSpeculation: number;
  /** Sees the first prompt that a model or a fork needs, before it is used. */
  onFirstPrompt: ((prompt: BackendPrompt) => void | Promise<void>) | undefined;
}

/** Most model calls of a symbolic run: loops that wait for an answer would never end. */
const MAX_SYMBOLIC_CALLS = 256;

export class Run {
  readonly setup: RunSetup;
  readonly backend: Backend;
  readonly #usage: BackendUsage & { calls: number } = {
    calls: 0,
    promptTokens: 0,
    completionTokens: 0,
    cachedTokens: 0,
  };
  /** What is in flight, and how to stop waiting for it. */
  readonly #calls = new Map<AbortController, (error: unknown) => void>();
  /** Runs of programs that this one called. */
  readonly #children = new Set<Run>();
  readonly #parent: Run | undefined;
  /** What runs in the background: queues and fork functions. */
  #busy = 0;
  #idle: (() => void)[] = [];
  #abort: { reason: unknown } | undefined;
  #firstPrompt: Promise<void> | null = null;
  #symbolicCalls = 0;
  #names = 0;
  firstError: { error: unknown } | undefined;

  /** @param parent counts what this run uses, and aborts it when it is aborted itself */
  constructor(setup: RunSetup, parent?: Run) {
    this.setup = setup;
    this.backend = setup.backend;
    this.#parent = parent;
    if (!parent) return;
    parent.#children.add(this);
    if (parent.#abort) this.abort(parent.#abort.reason);
  }

  /** Nothing will run any more. */
  close(): void {
    if (this.#parent) this.#parent.#children.delete(this);
  }

  /** A name for a variable that has none. */
  nextName(): string {
    return `_${++this.#names}`;
  }

  emit(event: ProgramEvent): void {
    this.setup.emit?.(event);
  }

  usage(): TraceUsage {
    const { calls, promptTokens, completionTokens, cachedTokens } = this.#usage;
    const { pricing } = this.setup;
    let cost: number | null = null;
    if (pricing) {
      const { prompt, completion, cached = prompt } = pricing;
      cost = ((promptTokens - cachedTokens) * prompt + cachedTokens * cached + completionTokens * completion) / 1e6;
    }
    return { calls, promptTokens, completionTokens, cachedTokens, cost };
  }

  begin(): void {
    this.#busy++;
  }

  done(): void {
    if (--this.#busy > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  /** Resolves when no queue and no fork function runs. */
  async whenIdle(): Promise<void> {
    while (this.#busy > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  get aborted(): { reason: unknown } | undefined {
    return this.#abort;
  }

  /** Stops every request; what waits fails. */
  abort(reason: unknown): void {
    if (this.#abort) return;
    this.#abort = { reason };
    for (const [controller, stop] of this.#calls) {
      controller.abort(reason);
      stop(this.abortError());
    }
    for (const child of this.#children) child.abort(reason);
  }

  abortError(): SglangError {
    const reason = this.#abort?.reason;
    return new SglangError("ABORTED", "The program was aborted.", {}, { cause: reason });
  }

  /** Every request and fork passes here with its prompt; the first one may be held back. */
  firstPrompt(prompt: () => BackendPrompt): Promise<void> | undefined {
    const { onFirstPrompt } = this.setup;
    if (!onFirstPrompt) return undefined;
    this.#firstPrompt ??= Promise.resolve(onFirstPrompt(prompt()));
    return this.#firstPrompt;
  }

  countSymbolicCall(): void {
    if (++this.#symbolicCalls > MAX_SYMBOLIC_CALLS) {
      throw new SglangError("INVALID_REQUEST", `A symbolic trace ends after ${MAX_SYMBOLIC_CALLS} model calls.`);
    }
  }

  /** Waits for something that is not a request; @throws ABORTED when the run is aborted meanwhile */
  async outside<T>(work: PromiseLike<T>): Promise<T> {
    return this.#raceAbort(new AbortController(), () => Promise.resolve(work));
  }

  /**
   * One request, tried again when it may succeed later.
   * @param label the variable it is for
   * @param estimate tokens it will use, for limits
   * @param work sends it; `tokens` of the outcome are what it really used
   * @param mayRetry false once something of the answer has been shown
   */
  async call<T>(
    label: string,
    estimate: number,
    timeoutMs: number | undefined,
    work: (signal: AbortSignal) => Promise<{ value: T; usage: BackendUsage }>,
    mayRetry: () => boolean,
  ): Promise<{ value: T; attempts: number }> {
    for (let attempt = 1; ; attempt++) {
      const controller = new AbortController();
      try {
        const value = await this.#raceAbort(controller, () =>
          this.#attempt(label, estimate, timeoutMs, controller, work),
        );
        return { value, attempts: attempt };
      } catch (error) {
        const delay = this.#abort || !mayRetry() ? null : retryDelay(error, attempt, this.setup.retry);
        if (delay === null) throw error;
        const pause = new AbortController();
        await this.#raceAbort(pause, () => sleep(delay, pause.signal));
      }
    }
  }

  async #attempt<T>(
    label: string,
    estimate: number,
    timeoutMs: number | undefined,
    controller: AbortController,
    work: (signal: AbortSignal) => Promise<{ value: T; usage: BackendUsage }>,
  ): Promise<T> {
    const { signal } = controller;
    const releases = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let tokens: number | undefined;
    try {
      for (const limiter of this.setup.limiters) releases.push(await limiter.acquire(estimate, signal));
      if (timeoutMs !== undefined) {
        const error = new SglangError("ABORTED", `"${label}" took longer than its timeout of ${timeoutMs} ms.`, {
          field: "timeoutMs",
        });
        timer = setTimeout(() => {
          controller.abort(error);
          this.#calls.get(controller)?.(error);
        }, timeoutMs);
      }
      const { value, usage } = await work(signal);
      tokens = usage.promptTokens + usage.completionTokens;
      this.#account(usage);
      return value;
    } finally {
      clearTimeout(timer);
      for (const release of releases) release(tokens);
    }
  }

  /** `work`, or the abort of `controller` or of the run, whichever comes first: a backend that ignores its signal cannot hang a program. */
  async #raceAbort<T>(controller: AbortController, work: () => Promise<T>): Promise<T> {
    if (this.#abort) throw this.abortError();
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#calls.set(controller, reject);
        work().then(resolve, reject);
      });
    } catch (error) {
      throw this.#abort ? this.abortError() : error;
    } finally {
      this.#calls.delete(controller);
    }
  }

  #account(usage: BackendUsage): void {
    this.#usage.calls++;
    this.#usage.promptTokens += usage.promptTokens;
    this.#usage.completionTokens += usage.completionTokens;
    this.#usage.cachedTokens += usage.cachedTokens;
    if (this.setup.emit) this.emit({ type: "usage", usage: { ...this.#usage } });
    if (this.#parent) this.#parent.#account(usage);
  }
}
