/**
 * `--trace FILE`: what native threads and JavaScript do in each step, in Chrome's trace format. Open it in
 * https://ui.perfetto.dev. Two tracks: `native` has one slice per step, whose gaps are idle time; `loop` has the phases of
 * the scheduler (receive, schedule, queue, accept, masks, process) and, inside of them, the calls of the prefix cache.
 *
 * Events are written in blocks; a trace whose process was killed lacks the closing bracket, which readers accept.
 */
import { createWriteStream, openSync, type WriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { SglangError } from "../core/errors.js";

const FLUSH_EVENTS = 256;
const TRACKS = { native: 1, loop: 2 } as const;

/** Milliseconds of the monotonic clock that native threads read, from performance.now(). */
const CLOCK_OFFSET = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export class Trace {
  readonly #file: WriteStream;
  #events: string[] = [];
  #isFirst = true;

  /** @throws SglangError INVALID_ARGUMENT when the file cannot be written */
  constructor(path: string) {
    let fd: number;
    try {
      fd = openSync(path, "w");
    } catch (cause) {
      const message = `--trace: ${path} cannot be written: ${(cause as Error).message}`;
      throw new SglangError("INVALID_ARGUMENT", message, { field: "--trace", found: path }, { cause });
    }
    this.#file = createWriteStream(path, { fd });
    for (const [name, tid] of Object.entries(TRACKS))
      this.#push({ name: "thread_name", ph: "M", pid: 1, tid, args: { name } });
  }

  /** A phase of the loop, timed around `run`. */
  phase<T>(name: string, run: () => T): T {
    const start = performance.now();
    try {
      return run();
    } finally {
      this.#slice("loop", name, start + CLOCK_OFFSET, performance.now() + CLOCK_OFFSET);
    }
  }

  /** Makes each call of the named methods of `target` a phase of its own, called `label` and the method's name. */
  calls<T extends object>(label: string, target: T, methods: readonly (keyof T & string)[]): void {
    for (const method of methods) {
      const call = target[method] as (...args: unknown[]) => unknown;
      const value = (...args: unknown[]) => this.phase(`${label} ${method}`, () => call.apply(target, args));
      Object.defineProperty(target, method, { value });
    }
  }

  /** One native step; times in nanoseconds of the monotonic clock. */
  step(name: string, startNs: number, endNs: number, args: Readonly<Record<string, number>>): void {
    this.#slice("native", name, startNs / 1e6, endNs / 1e6, args);
  }

  async close(): Promise<void> {
    this.#flush();
    this.#file.end("\n]\n");
    await finished(this.#file);
  }

  #slice(track: keyof typeof TRACKS, name: string, startMs: number, endMs: number, args?: object): void {
    const ts = Number((startMs * 1e3).toFixed(3));
    const dur = Number(((endMs - startMs) * 1e3).toFixed(3));
    this.#push({ name, ph: "X", pid: 1, tid: TRACKS[track], ts, dur, args });
  }

  #push(event: object): void {
    if (this.#events.push(JSON.stringify(event)) >= FLUSH_EVENTS) this.#flush();
  }

  #flush(): void {
    if (this.#events.length === 0) return;
    this.#file.write((this.#isFirst ? "[\n" : ",\n") + this.#events.join(",\n"));
    this.#isFirst = false;
    this.#events = [];
  }
}
