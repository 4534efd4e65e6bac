/** Noticing silence in calls to something remote. */

/**
 * A signal that follows the caller's, and fires by itself after too long a silence.
 * `start` begins to count (again), `pause` stops counting while the caller has the word, `end` lets go of everything.
 */
export class Watch {
  readonly #controller = new AbortController();
  readonly #ms: number;
  readonly #outer: AbortSignal;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The silence was too long. */
  expired = false;

  constructor(ms: number, outer: AbortSignal) {
    this.#ms = ms;
    this.#outer = outer;
    outer.addEventListener("abort", this.#follow, { once: true });
    if (outer.aborted) this.#follow();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  start(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.expired = true;
      this.#controller.abort();
    }, this.#ms);
  }

  pause(): void {
    clearTimeout(this.#timer);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener("abort", this.#follow);
  }

  readonly #follow = (): void => this.#controller.abort(this.#outer.reason);
}
