/** Joins the bytes of tokens into text, as they come: the one place where ids become characters. */
import type { Pieces } from "./pieces.js";

export class PieceStream {
  readonly #pieces: Pieces;
  readonly #skipSpecial: boolean;
  /** Keeps the bytes of an unfinished character until the rest arrives. */
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  /** No token has been decoded yet. */
  #first = true;
  /** Spaces still to be left out, while nothing but such spaces has come. */
  #strip: number;

  constructor(pieces: Pieces, skipSpecialTokens: boolean) {
    this.#pieces = pieces;
    this.#skipSpecial = skipSpecialTokens;
    this.#strip = pieces.stripSpaces;
  }

  /** @returns the characters that are complete now. */
  push(ids: readonly number[]): string {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (const id of ids) {
      if (this.#skipSpecial && this.#pieces.isSpecial(id)) continue;
      let bytes = this.#pieces.bytes(id);
      // An id without a token is no token, so not the first one either.
      if (bytes.length === 0) continue;
      if (this.#first) bytes = this.#pieces.firstBytes(id);
      this.#first = false;
      parts.push(bytes);
      length += bytes.length;
    }
    if (length === 0) return "";
    return this.#trim(this.#decoder.decode(parts.length === 1 ? parts[0] : concat(parts, length), { stream: true }));
  }

  /** @returns U+FFFD for bytes that never became a character, else "". */
  flush(): string {
    return this.#trim(this.#decoder.decode());
  }

  #trim(text: string): string {
    if (this.#strip === 0) return text;
    let start = 0;
    while (this.#strip > 0 && text[start] === " ") {
      start++;
      this.#strip--;
    }
    if (start < text.length) this.#strip = 0;
    return start === 0 ? text : text.slice(start);
  }
}

function concat(parts: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
