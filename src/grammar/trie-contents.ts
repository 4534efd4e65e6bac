/**
 * What lies below each node of a token trie: which kinds of bytes. A state of an automaton that reads all these kinds and
 * stays what it is takes all tokens below at once.
 *
 * ASCII bytes come in kinds that patterns tend to treat alike. Other characters are one kind, as long as they are
 * complete and well-formed but for the last of a token.
 */

/** Kinds of bytes are bits; characters beyond ASCII are one. */
export const BEYOND_ASCII = 1 << 29;
/** Bytes that form no characters. */
const MALFORMED = 1 << 28;
/** The node is inside a character, where a state is not what it was before. */
const INSIDE = 1 << 30;

const KINDS = ["abcdef", "ABCDEF", "()", "[]", "{}", "<>", "'!$*;^`|~"];
const ALONE = '_-. /:,@+#%&=?"\\';

/** The kind of each ASCII byte, as a bit. */
export const KIND_OF: Int32Array = makeKinds();

function makeKinds(): Int32Array {
  const kinds = new Int32Array(128);
  let bit = 1;
  const add = (bytes: Iterable<number>): void => {
    for (const byte of bytes) if (kinds[byte] === 0) kinds[byte] = bit;
    bit <<= 1;
  };
  const range = (lo: number, hi: number): number[] => Array.from({ length: hi - lo + 1 }, (_, i) => lo + i);
  for (const text of [...KINDS, ...ALONE]) add([...text].map((c) => c.charCodeAt(0)));
  add(range(0x30, 0x39));
  add(range(0x67, 0x7a));
  add(range(0x47, 0x5a));
  add(range(0, 127));
  return kinds;
}

/** @returns by node: the kinds of all bytes below it, and bits that are no kind where they are not to be relied on. */
export function kindsBelow(label: Int32Array, skip: Int32Array, size: number, maxDepth: number): Int32Array {
  const below = new Int32Array(size);
  /** By depth: continuation bytes still to come; -1 when what is above forms no characters. */
  const missing = new Int8Array(maxDepth + 1);
  /** By depth: the least and the most the next byte may be. */
  const least = new Uint8Array(maxDepth + 1);
  const most = new Uint8Array(maxDepth + 1);
  for (let i = 0; i < size; i++) {
    const depth = (label[i] as number) >> 8;
    const byte = (label[i] as number) & 255;
    const open = missing[depth - 1] as number;
    least[depth] = 0x80;
    most[depth] = 0xbf;
    if (open > 0) {
      const fits = byte >= (least[depth - 1] as number) && byte <= (most[depth - 1] as number);
      missing[depth] = fits ? open - 1 : -1;
    } else if (open < 0) missing[depth] = -1;
    else if (byte < 0x80) missing[depth] = 0;
    else {
      missing[depth] = byte < 0xc2 || byte > 0xf4 ? -1 : byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
      if (byte === 0xe0) least[depth] = 0xa0;
      else if (byte === 0xed) most[depth] = 0x9f;
      else if (byte === 0xf0) least[depth] = 0x90;
      else if (byte === 0xf4) most[depth] = 0x8f;
    }
    if (missing[depth] !== 0) below[i] = (missing[depth] as number) < 0 ? INSIDE | MALFORMED : INSIDE;
  }
  for (let i = size - 1; i >= 0; i--) {
    let kinds = 0;
    for (let child = i + 1; child < (skip[i] as number); child = skip[child] as number) {
      const byte = (label[child] as number) & 255;
      kinds |= (below[child] as number) & ~INSIDE;
      kinds |= byte < 0x80 ? (KIND_OF[byte] as number) : BEYOND_ASCII;
    }
    below[i] = (below[i] as number) | kinds;
  }
  return below;
}
