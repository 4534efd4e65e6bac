/** A queue between the scheduler, which pushes and never waits, and one consumer, which awaits. */
export class ChunkStream<T> {
  readonly #items: T[] = [];
  readonly #waiting: { resolve: (result: IteratorResult<T, undefined>) => void; reject: (error: Error) => void }[] = [];
  #end: { error: Error | null } | null = null;

  push(item: T): void {
    if (this.#end) return;
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve({ value: item, done: false });
    else this.#items.push(item);
  }

  /** No more items. An error reaches the consumer after the items before it, once. */
  end(error: Error | null = null): void {
    if (this.#end) return;
    this.#end = { error };
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (this.#end.error) reject(this.#end.error);
      else resolve({ value: undefined, done: true });
      this.#end.error = null;
    }
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#items.length > 0) return Promise.resolve({ value: this.#items.shift() as T, done: false });
    if (!this.#end) return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    const { error } = this.#end;
    this.#end.error = null;
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
  }
}
