/**
 * Encoding off the event loop. A worker thread holds a second copy of the library's tokenizer, made from the same
 * {@link TokenizerSpec}, and answers with the same ids.
 *
 * The worker's program is a few lines and stands here as text: it needs the library only, so it runs alike from
 * sources, from dist and from a bundle, with no file of its own to be found.
 */
import { createRequire } from "node:module";
import { serialize } from "node:v8";
import { Worker } from "node:worker_threads";
import { SglangError } from "../core/errors.js";
import type { TokenizerSpec } from "./tokenizer-spec.js";

/** Texts from this many UTF-16 units on are worth a thread: below it `encode` takes a few milliseconds (Chinese is slowest). */
export const LONG_TEXT_CHARS = 1024;

/** Mirrors createLibrary in hf-tokenizer.ts; the tables of byte pairs are left to the library, which has the time here. */
const WORKER_SOURCE = `
const { deserialize } = require("node:v8");
const { parentPort, workerData } = require("node:worker_threads");
const { Tokenizer } = require(workerData.library);
let spec = null;
let tokenizer = null;
function load() {
  const { json, mergeRanks, tokens: packedTokens, merges: packedMerges } = deserialize(spec);
  if (packedMerges) {
    const unpack = ({ text, ends }) => Array.from(ends, (end, i) => text.slice(i === 0 ? 0 : ends[i - 1], end));
    const [tokens, merges] = [unpack(packedTokens), unpack(packedMerges)];
    const vocab = Object.create(null);
    for (let id = tokens.length - 1; id >= 0; id--) vocab[tokens[id]] = id;
    const pair = (merge, space = merge.indexOf(" ", 1)) => [merge.slice(0, space), merge.slice(space + 1)];
    json.model = { ...json.model, vocab, merges: merges.map((merge) => pair(merge)) };
  }
  tokenizer = new Tokenizer(json, {});
  if (mergeRanks) {
    const { merges, bpe_ranks } = tokenizer.model;
    for (let i = 0; i < merges.length; i++) bpe_ranks.set(JSON.stringify(merges[i]), mergeRanks[i]);
  }
  spec = null;
}
parentPort.on("message", (message) => {
  if (message.spec) {
    spec = Buffer.from(message.spec);
    return;
  }
  try {
    if (tokenizer === null) load();
    const { ids } = tokenizer.encode(message.text, { add_special_tokens: message.addSpecialTokens });
    const packed = Uint32Array.from(ids);
    parentPort.postMessage({ job: message.job, ids: packed }, [packed.buffer]);
  } catch (error) {
    parentPort.postMessage({ job: message.job, error: String(error && error.message) });
  }
});
`;

interface Job {
  resolve(ids: number[]): void;
  reject(error: SglangError): void;
}
type Answer = { job: number; ids: Uint32Array; error?: undefined } | { job: number; error: string };

export class EncoderPool {
  /**
   * Serialised `{ json, mergeRanks, tokens, merges }`, shared with the worker: handing over a vocabulary of objects would take
   * a tenth of a second, and the worker that replaces a dead one must not hold up the event loop.
   */
  readonly #spec: SharedArrayBuffer;
  readonly #jobs = new Map<number, Job>();
  /** Started by the first long text: it takes memory. */
  #worker: Worker | null = null;
  #nextJob = 0;
  #closed = false;

  constructor(spec: TokenizerSpec) {
    const { json, mergeRanks, merges } = spec;
    const bytes = serialize({
      json,
      mergeRanks,
      ...(merges && { merges: joined(merges), tokens: joined(spec.tokens) }),
    });
    this.#spec = new SharedArrayBuffer(bytes.length);
    new Uint8Array(this.#spec).set(bytes);
  }

  /**
   * The ids of `tokenizer.encode(text, addSpecialTokens)`, computed in the worker. Jobs run in the order they came.
   * @throws SglangError SHUTTING_DOWN after `close`, ENGINE_FAILED when the worker died (the next call starts another).
   */
  encodeLong(text: string, addSpecialTokens = true): Promise<number[]> {
    if (this.#closed) return Promise.reject(shuttingDown());
    this.#worker ??= this.#start();
    const job = this.#nextJob++;
    // A waiting job keeps the process alive, an idle worker does not.
    if (this.#jobs.size === 0) this.#worker.ref();
    this.#worker.postMessage({ job, text, addSpecialTokens });
    return new Promise((resolve, reject) => this.#jobs.set(job, { resolve, reject }));
  }

  /** Ends the worker; waiting jobs are refused. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    this.#worker = null;
    this.#rejectAll(shuttingDown());
    await worker?.terminate();
  }

  #start(): Worker {
    const library = createRequire(import.meta.url).resolve("@huggingface/tokenizers");
    const worker = new Worker(WORKER_SOURCE, {
      eval: true,
      name: "sglang-encoder",
      workerData: { library },
      execArgv: [],
    });
    worker.on("message", (answer: Answer) => this.#settle(answer));
    worker.on("error", (error) => this.#fail(worker, error.message));
    worker.on("exit", (code) => this.#fail(worker, `it exited with code ${code}`));
    worker.postMessage({ spec: this.#spec });
    worker.unref();
    return worker;
  }

  #settle(answer: Answer): void {
    const job = this.#jobs.get(answer.job);
    this.#jobs.delete(answer.job);
    if (this.#jobs.size === 0) this.#worker?.unref();
    if (answer.error !== undefined) job?.reject(failed(answer.error));
    else job?.resolve(Array.from(answer.ids));
  }

  #fail(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    this.#rejectAll(failed(reason));
  }

  #rejectAll(error: SglangError): void {
    const jobs = [...this.#jobs.values()];
    this.#jobs.clear();
    for (const job of jobs) job.reject(error);
  }
}

/** Strings as one, with the place where each ends. A missing one becomes empty. */
function joined(strings: readonly (string | undefined)[]): { text: string; ends: Int32Array } {
  const ends = new Int32Array(strings.length);
  for (let i = 0, end = 0; i < strings.length; i++) {
    end += strings[i]?.length ?? 0;
    ends[i] = end;
  }
  return { text: strings.join(""), ends };
}

function shuttingDown(): SglangError {
  return new SglangError("SHUTTING_DOWN", "The encoder is closed and takes no more texts.");
}

function failed(reason: string): SglangError {
  return new SglangError("ENGINE_FAILED", `The encoder thread failed: ${reason}.`);
}
