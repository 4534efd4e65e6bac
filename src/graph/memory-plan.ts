/**
 * Places the buffers of a plan in one arena: two buffers may share bytes when no instruction needs both.
 *
 * Largest first, each at the lowest free offset among the placed buffers whose lives overlap its own. For chains of
 * layers this finds the two or three slots a person would choose.
 */

/** A buffer and the instructions between which its bytes matter, both ends included. */
export interface Lifetime {
  readonly name: string;
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

export interface MemoryPlan {
  readonly lifetimes: readonly Lifetime[];
  /** Byte offset of each lifetime's buffer, a multiple of {@link ARENA_ALIGNMENT}. */
  readonly offsets: readonly number[];
  readonly arenaBytes: number;
}

/** One cache line; buffer offsets are stored in these units. */
export const ARENA_ALIGNMENT = 64;

/** Offsets for all buffers. Deterministic: equal input gives equal offsets. */
export function planMemory(lifetimes: readonly Lifetime[]): MemoryPlan {
  const offsets = new Array<number>(lifetimes.length).fill(0);
  const order = lifetimes.map((_, i) => i).sort((a, b) => lifetimes[b].bytes - lifetimes[a].bytes || a - b);
  const placed: number[] = []; // by offset, ascending
  let arenaBytes = 0;
  for (const i of order) {
    const { bytes, first, last } = lifetimes[i];
    let offset = 0;
    for (const j of placed) {
      const other = lifetimes[j];
      if (other.last < first || last < other.first) continue;
      if (offset + bytes <= offsets[j]) break;
      offset = Math.max(offset, align(offsets[j] + other.bytes));
    }
    offsets[i] = offset;
    arenaBytes = Math.max(arenaBytes, offset + align(bytes));
    const at = placed.findIndex((j) => offsets[j] > offset);
    placed.splice(at === -1 ? placed.length : at, 0, i);
  }
  return { lifetimes, offsets, arenaBytes };
}

/** One line per buffer: where it lies, how long it lives. */
export function printMemoryPlan({ lifetimes, offsets, arenaBytes }: MemoryPlan): string {
  const lines = lifetimes.map(
    ({ name, bytes, first, last }, i) => `${offsets[i]}..${offsets[i] + bytes}  live ${first}..${last}  ${name}`,
  );
  const sum = lifetimes.reduce((total, { bytes }) => total + bytes, 0);
  return [...lines, `arena ${arenaBytes} bytes for ${sum} bytes of buffers`].join("\n");
}

function align(bytes: number): number {
  return Math.ceil(bytes / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;
}
