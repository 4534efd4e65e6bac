/**
 * Runs short synchronous jobs (tokenising, chat templates, making requests) in the order they came, but never for more
 * than a few milliseconds at a stretch: a burst of a thousand requests must not keep the streams of running ones waiting.
 */

/** Longest stretch of jobs before other work gets its turn. One job may exceed it. */
const SLICE_MS = 4;

export class TimeSlices {
  readonly #queue: (() => void)[] = [];
  /** Time spent since the event loop last turned; null = it has turned since the last job. */
  #spent: number | null = null;

  /** Runs `job` now if this turn of the event loop has time left, else in a later turn. */
  run<T>(job: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#queue.push(() => {
        try {
          resolve(job());
        } catch (error) {
          reject(error);
        }
      });
      if (this.#spent === null) {
        this.#spent = 0;
        setImmediate(() => this.#turn());
      }
      this.#drain();
    });
  }

  #drain(): void {
    while (this.#spent !== null && this.#spent < SLICE_MS) {
      const job = this.#queue.shift();
      if (!job) return;
      const start = performance.now();
      job();
      this.#spent += performance.now() - start;
    }
  }

  #turn(): void {
    if (this.#queue.length === 0) {
      this.#spent = null;
      return;
    }
    this.#spent = 0;
    setImmediate(() => this.#turn());
    this.#drain();
  }
}
