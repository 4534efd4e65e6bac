/**
 * The byte alphabet of GPT-2's byte-level BPE: every byte 0..255 is written as one printable character, so that
 * vocabularies and merges are plain text. Printable Latin-1 bytes stand for themselves, the other 68 for U+0100...
 */

const CHAR_OF_BYTE: readonly string[] = (() => {
  const chars = new Array<string>(256);
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    chars[byte] = String.fromCharCode(printable ? byte : next++);
  }
  return chars;
})();

/** By UTF-16 unit; -1 outside the alphabet, all of which is below U+0144. */
const BYTE_OF_CHAR: Int16Array = (() => {
  const bytes = new Int16Array(0x144).fill(-1);
  for (const [byte, char] of CHAR_OF_BYTE.entries()) bytes[char.charCodeAt(0)] = byte;
  return bytes;
})();

const ENCODER = new TextEncoder();

/** Writes the UTF-8 bytes of `text` in the byte alphabet. */
export function toByteLevel(text: string): string {
  let out = "";
  for (const byte of ENCODER.encode(text)) out += CHAR_OF_BYTE[byte];
  return out;
}

/**
 * Bytes that a byte-level vocabulary entry stands for. An entry with a character outside the alphabet is not
 * byte-level text; it stands for its own UTF-8, as in Hugging Face tokenizers.
 */
export function fromByteLevel(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHAR[token.charCodeAt(i)] ?? -1;
    if (byte < 0) return ENCODER.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}
