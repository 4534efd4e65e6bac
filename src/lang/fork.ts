/** A group of forks: states that share their parent's prompt and go on side by side. */
import { SglangError } from "../core/errors.js";
import { resolveReturned } from "./returned.js";
import type { Run } from "./run.js";
import type { State, TemplatePart } from "./state.js";

/** What becomes of forks: their variables gathered in lists, or their texts appended in order. */
export type JoinMode = "gather" | "concatenate";

export interface ForkOptions {
  /** Forks whose functions run at the same time. @default all of them */
  concurrency?: number;
  /** What happens when all are done. `none`: nothing, the states stay open. @default "gather" */
  join?: JoinMode | "none";
}

/** What the parent lends its forks. */
export interface ForkParent {
  run: Run;
  /** Makes lists of the forks' new variables in the parent. */
  gather(states: readonly State[]): void;
  /** Appends the forks' texts to the parent when `ready`. */
  concatenate(states: readonly State[], ready: Promise<unknown>): void;
  drained(state: State): Promise<void>;
  end(states: readonly State[], mode: JoinMode): void;
}

export class ForkGroup<T> implements PromiseLike<T[]>, Iterable<State> {
  readonly states: readonly State[];
  readonly #parent: ForkParent;
  readonly #outcomes: Promise<PromiseSettledResult<T>[]>;
  #joined = false;

  constructor(
    parent: ForkParent,
    states: readonly State[],
    work: ((state: State, index: number) => unknown) | undefined,
    options: ForkOptions,
  ) {
    this.states = states;
    this.#parent = parent;
    const { concurrency = states.length, join = "gather" } = options;
    if (!work) {
      this.#outcomes = Promise.resolve(states.map(() => ({ status: "fulfilled", value: undefined as T })));
      return;
    }
    parent.run.begin();
    const outcomes = this.#runAll(work, Math.max(1, concurrency));
    if (join === "concatenate") {
      this.#joined = true;
      parent.concatenate(states, outcomes);
    }
    this.#outcomes = outcomes.then((settled) => {
      if (join === "gather") parent.gather(states);
      if (join !== "none") parent.end(states, join);
      this.#joined ||= join !== "none";
      parent.run.done();
      return settled;
    });
  }

  // biome-ignore lint/suspicious/noThenProperty: a group is awaitable by design
  then<A = T[], B = never>(
    onValue?: ((value: T[]) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.settled()
      .then((outcomes) =>
        outcomes.map((outcome) => {
          if (outcome.status === "rejected") throw outcome.reason;
          return outcome.value;
        }),
      )
      .then(onValue, onError);
  }

  /** How each fork's function ended; never rejects. */
  settled(): Promise<PromiseSettledResult<T>[]> {
    return this.#outcomes;
  }

  [Symbol.iterator](): Iterator<State> {
    return this.states[Symbol.iterator]();
  }

  /** Appends the same to every fork, or what a function of the index says. */
  append(part: TemplatePart | ((index: number) => TemplatePart)): this {
    this.states.forEach((state, index) => {
      state.append(typeof part === "function" ? (part as (index: number) => TemplatePart)(index) : part);
    });
    return this;
  }

  /**
   * Ends the forks. `gather`: each variable that is new in them becomes a list in the parent, of which every entry may
   * still be pending. `concatenate`: their texts follow in the parent's prompt, in order.
   */
  join(mode: JoinMode = "gather"): Promise<void> {
    if (this.#joined) throw new SglangError("INVALID_REQUEST", "These forks have been joined already.");
    this.#joined = true;
    const ready = Promise.all(this.states.map((state) => this.#parent.drained(state))).then(() => {});
    if (mode === "gather") this.#parent.gather(this.states);
    else this.#parent.concatenate(this.states, ready);
    this.#parent.end(this.states, mode);
    return ready;
  }

  async #runAll(
    work: (state: State, index: number) => unknown,
    concurrency: number,
  ): Promise<PromiseSettledResult<T>[]> {
    const outcomes = new Array<PromiseSettledResult<T>>(this.states.length);
    let next = 0;
    const one = async (index: number) => {
      const state = this.states[index];
      try {
        outcomes[index] = { status: "fulfilled", value: (await resolveReturned(work(state, index))) as T };
      } catch (reason) {
        this.#parent.run.firstError ??= { error: reason };
        outcomes[index] = { status: "rejected", reason };
      }
      await this.#parent.drained(state);
    };
    const worker = async () => {
      while (next < this.states.length) await one(next++);
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, this.states.length) }, worker));
    return outcomes;
  }
}
