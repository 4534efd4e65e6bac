/**
 * Jump-forward: tokens that can be written without asking the model, because the grammar leaves no choice.
 *
 * Two forms. {@link certainTokens} are those for which every mask on the way has exactly one bit: whatever the model
 * computes, sampling could give nothing else, so output and randomness of other positions are unchanged.
 * {@link forcedTokens} are the tokens in which the tokenizer itself would write the forced *bytes*. The model might have
 * split them otherwise: use them as drafts and verify each against what is sampled, or take them as they are where the
 * user asked for speed over the model's own splits.
 */
import type { Matcher } from "./matcher.js";

/** What is needed of a tokenizer: `Tokenizer` fits. */
export interface TextEncoding {
  encode(text: string, addSpecialTokens?: boolean): number[];
}

/** Longest stretch of forced bytes that is tokenised at once. */
const MAX_FORCED_BYTES = 4_096;
/** Tokens before the forced bytes that are tokenised with them, so that the seam is where the tokenizer would put it. */
const CONTEXT_TOKENS = 4;

/**
 * Tokens that must come next, as far as each is the only one allowed; end tokens are not among them. The matcher is left
 * as it was.
 * @param limit most tokens to return.
 */
export function certainTokens(matcher: Matcher, limit = 64): number[] {
  const out: number[] = [];
  while (out.length < limit && !matcher.isTerminated()) {
    const id = onlyToken(matcher.mask());
    if (id < 0 || matcher.grammar.vocabulary.ordinary[id] !== 1) break;
    matcher.acceptToken(id);
    out.push(id);
  }
  matcher.rollback(out.length);
  return out;
}

/** The only bit of a mask, or -1 when there are more or none. */
export function onlyToken(mask: Int32Array | Uint32Array): number {
  let found = -1;
  for (let i = 0; i < mask.length; i++) {
    const word = mask[i] as number;
    if (word === 0) continue;
    if (found >= 0 || (word & (word - 1)) !== 0) return -1;
    found = 32 * i + (31 - Math.clz32(word));
  }
  return found;
}

/**
 * The forced bytes as the tokenizer writes them after `previous`, without the tokens at the end that something longer
 * could still replace (token healing). The matcher is left as it was.
 * @param previous ids of the text so far, prompt included; the last few are enough.
 */
export function forcedTokens(matcher: Matcher, tokenizer: TextEncoding, previous: readonly number[] = []): number[] {
  const { vocabulary } = matcher.grammar;
  const bytes = wholeCharacters(matcher.forcedBytes(MAX_FORCED_BYTES));
  if (bytes.length === 0) return [];
  const context: number[] = [];
  for (let i = previous.length - 1; i >= 0 && context.length < CONTEXT_TOKENS; i--) {
    const id = previous[i] as number;
    if (vocabulary.ordinary[id] !== 1) break;
    context.unshift(id);
  }
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let ids: number[] | undefined;
  // A context that begins inside a character is no text; a shorter one may be.
  for (let from = 0; from <= context.length && ids === undefined; from++) {
    const kept = context.slice(from);
    try {
      const all = tokenizer.encode(decoder.decode(concat([...kept.map((id) => vocabulary.bytesOf(id)), bytes])), false);
      if (kept.every((id, i) => all[i] === id)) ids = all.slice(kept.length);
    } catch {
      // Not text.
    }
  }
  return ids === undefined ? [] : acceptable(matcher, ids);
}

/** The ids the grammar takes, less those at the end that a longer token could replace. */
function acceptable(matcher: Matcher, ids: readonly number[]): number[] {
  const { vocabulary, automaton } = matcher.grammar;
  const places: number[] = [matcher.configuration];
  for (const id of ids) {
    const to = vocabulary.ordinary[id] === 1 ? automaton.read(places.at(-1) as number, vocabulary.bytesOf(id)) : 0;
    if (to === 0) break;
    places.push(to);
  }
  const out = ids.slice(0, places.length - 1);
  let tail = new Uint8Array(0);
  for (let keep = out.length, i = out.length - 1; ; i--) {
    if (i < 0) return out.slice(0, keep);
    tail = concat([vocabulary.bytesOf(out[i] as number), tail]);
    if (tail.length >= vocabulary.longestToken) return out.slice(0, keep);
    if (matcher.grammar.masks.allowsLonger(places[i] as number, tail)) keep = i;
  }
}

/** Without the first bytes of a character that is not finished. */
function wholeCharacters(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  for (let i = 1; i <= Math.min(3, bytes.length); i++) {
    const byte = bytes[bytes.length - i] as number;
    if (byte < 0x80) break;
    if (byte < 0xc0) continue;
    const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (size > i) end = bytes.length - i;
    break;
  }
  return bytes.subarray(0, end);
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
