/**
 * How large the KV pool becomes.
 *
 * The budget is `memFractionStatic` of the memory available at start, less weights and work space. Of that the pool takes
 * what `maxRunningRequests` full contexts could use, but by default no more than {@link DEFAULT_KV_BYTES} or one full
 * context, whichever is more. Pages are only touched when used, so a large pool costs nothing at start.
 */
import { SglangError } from "../core/errors.js";
import type { AvailableMemory } from "./memory.js";

/** Cap of the pool when `--max-total-tokens` is not given. */
export const DEFAULT_KV_BYTES = 2 * 2 ** 30;
/** A pool for fewer tokens than this is of no use. */
const MIN_TOKENS = 128;

export interface MemoryNeeds {
  available: AvailableMemory;
  memFractionStatic: number;
  weightsBytes: number;
  arenaBytes: number;
  kvBytesPerToken: number;
  pageSize: number;
  contextLength: number;
  maxRunningRequests: number;
  maxTotalTokens: number | null;
}

function gib(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

/**
 * Refuses a model that cannot fit before hours of packing are spent on it.
 * @throws SglangError OUT_OF_MEMORY
 */
export function checkWeightsFit(weightsBytes: number, available: AvailableMemory): void {
  if (weightsBytes <= available.bytes) return;
  throw new SglangError(
    "OUT_OF_MEMORY",
    `The model's weights take ${gib(weightsBytes)}, but only ${gib(available.bytes)} of memory are available (${available.source}); free memory or use a smaller model.`,
    { expected: `${weightsBytes} bytes`, found: `${available.bytes} bytes` },
  );
}

/** What the native side and the system say when an allocation or a mapping fails. */
const NATIVE_OUT_OF_MEMORY = /out of memory|could not be allocated|cannot allocate memory/i;

/**
 * A failed native allocation as an OUT_OF_MEMORY error; anything else as it is. The budget above counts what the machine
 * has, so this is met under limits it does not see: `ulimit -v`, or memory that others took meanwhile.
 */
export function asMemoryError(error: unknown, model: string): unknown {
  if (SglangError.isInstance(error) || !(error instanceof Error) || !NATIVE_OUT_OF_MEMORY.test(error.message))
    return error;
  return new SglangError(
    "OUT_OF_MEMORY",
    `${model} does not fit into the memory this process may take (${error.message}); free memory, raise the process's limit (ulimit -v), or lower --max-total-tokens.`,
    {},
    { cause: error },
  );
}

/**
 * Pages of the KV pool.
 * @throws SglangError OUT_OF_MEMORY with the numbers when the budget is too small
 */
export function planKvPages(needs: MemoryNeeds): number {
  const { available, memFractionStatic, weightsBytes, arenaBytes, kvBytesPerToken, pageSize, contextLength } = needs;
  const budget = available.bytes * memFractionStatic - weightsBytes - arenaBytes;
  const affordable = Math.floor(budget / (kvBytesPerToken * pageSize));
  const pagesFor = (tokens: number) => Math.ceil(tokens / pageSize);
  const least = pagesFor(needs.maxTotalTokens ?? Math.min(MIN_TOKENS, contextLength));
  if (affordable < least) {
    const wanted = least * pageSize * kvBytesPerToken;
    throw new SglangError(
      "OUT_OF_MEMORY",
      `A KV cache of ${least * pageSize} tokens takes ${gib(wanted)}, but --mem-fraction-static ${memFractionStatic} of the ` +
        `${gib(available.bytes)} available (${available.source}) leaves ${gib(Math.max(0, budget))} after ${gib(weightsBytes)} of weights and ` +
        `${gib(arenaBytes)} of work space; free memory, lower --max-total-tokens, or raise --mem-fraction-static.`,
      {
        field: "--mem-fraction-static",
        expected: `${wanted} bytes`,
        found: `${Math.max(0, Math.floor(budget))} bytes`,
      },
    );
  }
  if (needs.maxTotalTokens !== null) return least;
  const capped = Math.max(Math.floor(DEFAULT_KV_BYTES / (kvBytesPerToken * pageSize)), pagesFor(contextLength));
  return Math.min(affordable, capped, needs.maxRunningRequests * pagesFor(contextLength));
}
