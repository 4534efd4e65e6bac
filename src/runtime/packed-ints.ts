/**
 * A growable array of integers in [0, 2^32) that takes 2, 3 or 4 bytes for each, as the largest one needs: two planes of
 * bits, which the loops of page-chains.ts read and write themselves. Token ids and page ids are the bulk of what the radix tree keeps, and few vocabularies and pools need 32 bits.
 */
export class PackedInts {
  /** Bits 0 to 15. */
  low: Uint16Array;
  /** Bits from 16 on; null while all are 0. */
  high: Uint8Array | Uint16Array | null = null;

  constructor(length: number) {
    this.low = new Uint16Array(length);
  }

  get length(): number {
    return this.low.length;
  }

  get bytes(): number {
    return this.low.byteLength + (this.high?.byteLength ?? 0);
  }

  get(index: number): number {
    return this.high === null ? this.low[index] : this.low[index] | (this.high[index] << 16);
  }

  /** Makes room for values up to `largest`; the planes may be replaced. */
  widen(largest: number): void {
    const top = largest >>> 16;
    if (top === 0 || this.high instanceof Uint16Array || (this.high && top < 256)) return;
    const high = top < 256 ? new Uint8Array(this.length) : new Uint16Array(this.length);
    if (this.high) high.set(this.high);
    this.high = high;
  }

  /** Longer by zeros. */
  grow(length: number): void {
    const low = new Uint16Array(length);
    low.set(this.low);
    this.low = low;
    if (this.high === null) return;
    const high = this.high instanceof Uint8Array ? new Uint8Array(length) : new Uint16Array(length);
    high.set(this.high);
    this.high = high;
  }
}
