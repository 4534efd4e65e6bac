/**
 * Traces of requests: JSON lines with Mooncake's fields. A line is one request:
 *
 *   {"timestamp": 1250, "input_length": 1800, "output_length": 220, "hash_ids": [7, 8, 41]}
 *
 * `timestamp` is milliseconds from the start. `hash_ids` name the prompt's blocks of `blockTokens` tokens: equal ids at
 * the start of two prompts are a shared prefix. Without them a prompt shares nothing. Our own optional fields: `priority`
 * and `tenant`. Answers are never found again by later prompts, as their tokens are not in the file.
 */
import { SglangError } from "../../core/errors.js";
import { createRandom } from "../random.js";

export interface TraceRequest {
  /** Milliseconds from the start. */
  at: number;
  inputLength: number;
  outputLength: number;
  /** Names of the prompt's blocks; [] = nothing is shared. */
  blocks: readonly number[];
  priority?: number;
  tenant?: string;
}

/** Tokens of a block in Mooncake's traces. */
export const BLOCK_TOKENS = 512;

const FIELDS = ["timestamp", "input_length", "output_length", "hash_ids", "priority", "tenant"];

/** @throws SglangError MALFORMED_FILE naming the line and field */
export function parseTraceLine(line: string, where: string): TraceRequest {
  const fail = (what: string): never => {
    throw new SglangError("MALFORMED_FILE", `${where}: ${what}.`, { file: where });
  };
  let given: Record<string, unknown>;
  try {
    given = JSON.parse(line);
  } catch (error) {
    return fail((error as Error).message);
  }
  if (typeof given !== "object" || given === null || Array.isArray(given)) fail("a request must be a JSON object");
  const unknown = Object.keys(given).find((key) => !FIELDS.includes(key));
  if (unknown !== undefined) fail(`${unknown} is not a known field (${FIELDS.join(", ")})`);
  const number = (field: string, least: number, integer = true): number => {
    const value = given[field];
    const ok =
      typeof value === "number" && (integer ? Number.isSafeInteger(value) : Number.isFinite(value)) && value >= least;
    if (!ok)
      fail(
        `${field} must be ${integer ? "an integer" : "a number"} >= ${least}, got ${JSON.stringify(value) ?? "nothing"}`,
      );
    return value as number;
  };
  const blocks = given.hash_ids ?? [];
  if (!Array.isArray(blocks) || !blocks.every(Number.isSafeInteger)) fail("hash_ids must be a list of integers");
  if (given.tenant !== undefined && typeof given.tenant !== "string") fail("tenant must be a text");
  return {
    at: number("timestamp", 0, false),
    inputLength: number("input_length", 1),
    outputLength: number("output_length", 1),
    blocks: blocks as number[],
    ...(given.priority !== undefined && { priority: number("priority", Number.MIN_SAFE_INTEGER) }),
    ...(given.tenant !== undefined && { tenant: given.tenant as string }),
  };
}

/** A whole file, in order of time. Empty lines are skipped. */
export function parseTrace(text: string, file: string): TraceRequest[] {
  const trace: TraceRequest[] = [];
  for (const [i, line] of text.split("\n").entries())
    if (line.trim() !== "") trace.push(parseTraceLine(line, `${file}:${i + 1}`));
  if (trace.length === 0) throw new SglangError("MALFORMED_FILE", `${file} has no requests.`, { file });
  return trace.sort((a, b) => a.at - b.at);
}

export function formatTrace(trace: readonly TraceRequest[]): string {
  const line = ({ at, inputLength, outputLength, blocks, priority, tenant }: TraceRequest) =>
    JSON.stringify({
      timestamp: at,
      input_length: inputLength,
      output_length: outputLength,
      hash_ids: blocks,
      priority,
      tenant,
    });
  return `${trace.map(line).join("\n")}\n`;
}

function mix(a: number, b: number): number {
  let h = Math.imul(a ^ Math.imul(b + 1, 0x9e3779b1), 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Token ids of a trace's prompt: equal for equal blocks, else different.
 * @param index of the request, which names its unnamed blocks
 */
export function promptTokens(request: TraceRequest, index: number, vocabSize: number, blockTokens: number): number[] {
  const { inputLength, blocks } = request;
  const ids = new Array<number>(inputLength);
  for (let block = 0, at = 0; at < inputLength; block++) {
    const seed = block < blocks.length ? mix(1, blocks[block]) : mix(mix(2, index), block);
    const end = Math.min(at + blockTokens, inputLength);
    for (let i = 0; at < end; at++, i++) ids[at] = mix(seed, i) % vocabSize;
  }
  return ids;
}

export interface TraceOptions {
  requests: number;
  /** Requests per second; arrivals are a Poisson process. */
  rate: number;
  /** Mean tokens of a prompt after what it shares, and of an answer; lengths are log-normal. */
  meanInput: number;
  meanOutput: number;
  /** Prefixes that prompts begin with, and their mean tokens. 0 = nothing is shared. */
  prefixes: number;
  prefixTokens: number;
  blockTokens: number;
  /** Names that take turns at random. */
  tenants?: readonly string[];
  seed: number;
}

/** Makes a trace up: Poisson arrivals, log-normal lengths, prefixes with a few favourites (Zipf). */
export function makeTrace(options: TraceOptions): TraceRequest[] {
  const { requests, rate, meanInput, meanOutput, prefixes, prefixTokens, blockTokens, tenants = [], seed } = options;
  const random = createRandom(seed);
  const gauss = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const SPREAD = 0.6;
  const length = (mean: number) => Math.max(1, Math.round(mean * Math.exp(SPREAD * gauss() - SPREAD ** 2 / 2)));
  const prefixBlocks = Math.ceil(prefixTokens / blockTokens);
  let at = 0;
  return Array.from({ length: requests }, () => {
    at += (-Math.log(1 - random()) / rate) * 1000;
    const prefix = prefixes > 0 ? Math.floor((prefixes + 1) ** random()) - 1 : -1;
    const blocks = prefix < 0 ? [] : Array.from({ length: prefixBlocks }, (_, i) => prefix * prefixBlocks + i);
    return {
      at,
      inputLength: blocks.length * blockTokens + length(meanInput),
      outputLength: length(meanOutput),
      blocks,
      ...(tenants.length > 0 && { tenant: tenants[Math.floor(random() * tenants.length)] }),
    };
  });
}
