/**
 * A variable: the typed answer of a `gen` or `select` that may not be there yet.
 *
 * `await` waits for its value, `for await` gives its text as it comes, and in a template it is dataflow: the prompt that
 * uses it waits, the program does not. A failure is kept until somebody asks; nobody asking is not an error.
 */
import type { ToolCall } from "../core/protocol.js";
import type { BackendFinish, BackendTokenLogprob, BackendUsage } from "./backends/backend.js";

/** What is known of a finished generation beside its value. */
export interface Meta {
  /** `gen`: generated under a constraint or freely. `select`: chosen among texts. `scope`, `set`, `join`: no model. */
  kind: "gen" | "select" | "scope" | "set" | "join";
  /** The text in the prompt: of n > 1 answers the first. */
  text: string;
  /** Every answer's text, for n > 1. */
  texts: readonly string[];
  finish: BackendFinish | null;
  /** Stop text or token that ended the answer, when the backend tells. */
  matched?: string | number;
  usage: BackendUsage;
  /** Of the first answer, where the backend gives them. */
  tokenIds: readonly number[];
  /** Of the first answer, with `logprobs`. */
  logprobs: readonly BackendTokenLogprob[];
  topLogprobs: readonly (readonly BackendTokenLogprob[])[];
  /** What the model thought, apart from the answer: with `separateReasoning`, or where the backend splits it. */
  reasoning: string;
  toolCalls: readonly ToolCall[];
  /** `select`: how each choice fared. */
  choices?: readonly ChoiceMeta[];
  /** Requests sent for it: more than 1 after retries and tool calls. */
  attempts: number;
  /** `performance.now()` when it was sent, when its first text came, and when it was done. */
  startMs: number;
  firstTextMs: number;
  endMs: number;
}

export interface ChoiceMeta {
  choice: string;
  /** What the method compared; the highest wins, ties go to the first. */
  score: number;
  /** The choice's tokens with their logprobs after the prompt. */
  tokens: readonly BackendTokenLogprob[];
  /** Without the prompt; for methods that ask. */
  unconditional?: readonly (number | null)[];
}

type Settled<T> = { ok: true; value: T; meta: Meta } | { ok: false; error: unknown };

/** The side of a variable that the interpreter writes to. */
export interface VariableWriter<T> {
  write(delta: string): void;
  resolve(value: T, meta: Meta): void;
  reject(error: unknown): void;
}

export class Variable<T> implements PromiseLike<T>, AsyncIterable<string> {
  readonly name: string;
  #text = "";
  #settled: Settled<T> | undefined;
  /** Called once on the next change; readers register again. */
  #waiters: (() => void)[] | undefined;

  private constructor(name: string) {
    this.name = name;
  }

  /** A variable and the only hand that can fill it. */
  static create<T>(name: string): { variable: Variable<T>; writer: VariableWriter<T> } {
    const variable = new Variable<T>(name);
    const settle = (settled: Settled<T>) => {
      if (variable.#settled) return;
      variable.#settled = settled;
      variable.#wake();
    };
    const writer: VariableWriter<T> = {
      write: (delta) => {
        variable.#text += delta;
        variable.#wake();
      },
      resolve: (value, meta) => {
        if (variable.#text === "") variable.#text = meta.text;
        settle({ ok: true, value, meta });
      },
      reject: (error) => settle({ ok: false, error }),
    };
    return { variable, writer };
  }

  /** Whether it has a value or an error. */
  get settled(): boolean {
    return this.#settled !== undefined;
  }

  // biome-ignore lint/suspicious/noThenProperty: a variable is awaitable by design
  then<A = T, B = never>(
    onValue?: ((value: T) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#wait()
      .then((settled) => settled.value)
      .then(onValue, onError);
  }

  catch<B = never>(onError?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.then(undefined, onError);
  }

  /** Tokens, logprobs, times, tool calls. Waits; @throws what the variable failed with */
  async meta(): Promise<Meta> {
    return (await this.#wait()).meta;
  }

  /** Its text in the prompt. Waits; @throws what the variable failed with */
  async text(): Promise<string> {
    return (await this.#wait()).meta.text;
  }

  /** Pieces of its text from the beginning, as they come; all at once when the program does not stream. */
  async *[Symbol.asyncIterator](): AsyncIterator<string> {
    let sent = 0;
    for (;;) {
      if (this.#text.length > sent) {
        const piece = this.#text.slice(sent);
        sent = this.#text.length;
        yield piece;
        continue;
      }
      const settled = this.#settled;
      if (settled) {
        if (!settled.ok) throw settled.error;
        return;
      }
      await new Promise<void>((resolve) => this.#onChange(resolve));
    }
  }

  /** Calls `done` when it is settled: at once if it is. For the interpreter. */
  whenSettled(done: () => void): void {
    if (this.#settled) done();
    else this.#onChange(() => this.whenSettled(done));
  }

  async #wait(): Promise<Settled<T> & { ok: true }> {
    if (!this.#settled) await new Promise<void>((resolve) => this.whenSettled(resolve));
    const settled = this.#settled as unknown as Settled<T>;
    if (!settled.ok) throw settled.error;
    return settled;
  }

  #onChange(waiter: () => void): void {
    this.#waiters ??= [];
    this.#waiters.push(waiter);
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = undefined;
    if (waiters) for (const waiter of waiters) waiter();
  }
}

/** Meta of a value that no model made. */
export function plainMeta(kind: Meta["kind"], text: string): Meta {
  const now = performance.now();
  return {
    kind,
    text,
    texts: [text],
    finish: null,
    usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
    tokenIds: [],
    logprobs: [],
    topLogprobs: [],
    reasoning: "",
    toolCalls: [],
    attempts: 0,
    startMs: now,
    firstTextMs: now,
    endMs: now,
  };
}
