/**
 * Trial compilations in a worker thread, one after another. A trial that passes its time or memory limit is ended with
 * its thread; those that wait go on in a new one.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { SglangError } from "../core/errors.js";
import type { GrammarSpec } from "../grammar/index.js";
import type { TrialAnswer } from "./grammar-worker.js";

export interface TrialLimits {
  /** @default 10 */
  seconds?: number;
  /** @default 1024 */
  megabytes?: number;
}

interface Trial {
  spec: GrammarSpec;
  resolve(): void;
  reject(error: SglangError): void;
}

/** The worker's file: beside this one, or, when this runs from its TypeScript source, where the compiler puts it. */
function workerFile(): URL {
  const beside = new URL("./grammar-worker.js", import.meta.url);
  return existsSync(fileURLToPath(beside)) ? beside : new URL("../../dist/runtime/grammar-worker.js", import.meta.url);
}

export class GrammarTrials {
  readonly #seconds: number;
  readonly #megabytes: number;
  /** Trials that were given up because they took too long. */
  timedOut = 0;
  readonly #waiting: Trial[] = [];
  #current: Trial | null = null;
  #worker: Worker | null = null;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor({ seconds = 10, megabytes = 1024 }: TrialLimits = {}) {
    this.#seconds = seconds;
    this.#megabytes = megabytes;
  }

  /**
   * Resolves when `spec` can be compiled within the limits.
   * @throws SglangError what compiling throws; UNSUPPORTED when it takes too long or too much memory; SHUTTING_DOWN
   */
  run(spec: GrammarSpec): Promise<void> {
    if (this.#closed) return Promise.reject(closing());
    return new Promise((resolve, reject) => {
      this.#waiting.push({ spec, resolve, reject });
      this.#next();
    });
  }

  /** Ends the thread; trials under way are refused. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const trials = [this.#current, ...this.#waiting.splice(0)];
    this.#current = null;
    clearTimeout(this.#timer);
    for (const trial of trials) trial?.reject(closing());
    await this.#stopWorker();
  }

  #next(): void {
    if (this.#current || this.#closed) return;
    const trial = this.#waiting.shift();
    if (!trial) {
      this.#worker?.unref();
      return;
    }
    this.#current = trial;
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#timer = setTimeout(() => {
      this.timedOut++;
      void this.#stopWorker();
      this.#end(tooMuch(`more than ${this.#seconds} s`));
    }, this.#seconds * 1000);
    this.#worker.postMessage(trial.spec);
  }

  #start(): Worker {
    const worker = new Worker(workerFile(), {
      name: "sglang-grammar",
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: this.#megabytes },
    });
    worker.on("message", ({ error }: TrialAnswer) => {
      if (worker === this.#worker) this.#end(error && new SglangError(error.code, error.message, error.details));
    });
    worker.on("error", (cause: Error & { code?: string }) => {
      if (worker !== this.#worker) return;
      this.#worker = null;
      const isMemory = cause.code === "ERR_WORKER_OUT_OF_MEMORY";
      this.#end(
        isMemory
          ? tooMuch(`more than ${this.#megabytes} MB`)
          : new SglangError("ENGINE_FAILED", `The grammar thread failed: ${cause.message}`, {}, { cause }),
      );
    });
    // After an error too, then with no worker any more. What ended it (process.exit in it, say) is not known.
    worker.on("exit", (code) => {
      if (worker !== this.#worker) return;
      this.#worker = null;
      this.#end(
        new SglangError("ENGINE_FAILED", `The grammar thread ended with code ${code}; send the request again.`),
      );
    });
    return worker;
  }

  #end(error: SglangError | null): void {
    clearTimeout(this.#timer);
    const trial = this.#current;
    this.#current = null;
    if (error) trial?.reject(error);
    else trial?.resolve();
    this.#next();
  }

  async #stopWorker(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }
}

function tooMuch(what: string): SglangError {
  return new SglangError(
    "UNSUPPORTED",
    `Compiling the grammar takes ${what}; make it smaller, or bound its repetitions and its nesting.`,
    { field: "grammar" },
  );
}

function closing(): SglangError {
  return new SglangError("SHUTTING_DOWN", "The engine is closing and compiles no more grammars.");
}
