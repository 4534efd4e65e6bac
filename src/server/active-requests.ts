/** The requests that run now, by id: what /abort_request aborts and what a closing server waits for. */
import { invalid } from "./validation.js";

export class ActiveRequests {
  readonly #controllers = new Map<string, AbortController>();
  #idle: (() => void)[] = [];

  get size(): number {
    return this.#controllers.size;
  }

  /**
   * Enters all of `rids` or none.
   * @throws SglangError INVALID_REQUEST when one is in use or given twice
   */
  enter(rids: readonly string[]): AbortController[] {
    const seen = new Set<string>();
    for (const rid of rids) {
      if (seen.has(rid)) throw invalid("rid", `rid must be unique, got ${JSON.stringify(rid)} twice in one request.`);
      if (this.#controllers.has(rid))
        throw invalid("rid", `rid must not be in use, but request ${JSON.stringify(rid)} is still running.`);
      seen.add(rid);
    }
    return rids.map((rid) => {
      const controller = new AbortController();
      this.#controllers.set(rid, controller);
      return controller;
    });
  }

  leave(rids: readonly string[]): void {
    for (const rid of rids) this.#controllers.delete(rid);
    if (this.#controllers.size > 0) return;
    for (const resolve of this.#idle) resolve();
    this.#idle = [];
  }

  /** Aborts every request whose id begins with `rid`, as SGLang does: a request, a batch `rid_0`, `rid_1`... Returns how many. */
  abort(rid: string): number {
    let aborted = 0;
    for (const [name, controller] of this.#controllers) {
      if (!name.startsWith(rid)) continue;
      controller.abort();
      aborted += 1;
    }
    return aborted;
  }

  abortAll(): number {
    for (const controller of this.#controllers.values()) controller.abort();
    return this.#controllers.size;
  }

  /** Resolves true once nothing runs, false after `milliseconds`. */
  async whenIdle(milliseconds: number): Promise<boolean> {
    if (this.size === 0) return true;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), milliseconds);
      this.#idle.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }
}
