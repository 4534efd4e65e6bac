/**
 * Finds stop strings and stop patterns in a growing text, and says how much of the text may be shown already.
 *
 * Text is held back while it might turn out to be (the beginning of) a stop: for strings the longest end of the text that
 * begins one; for patterns as many characters as a match can have, at most {@link MAX_REGEX_WINDOW}. A pattern without
 * a maximum length therefore streams that many characters late, and a match longer than the window is cut to it.
 *
 * The earliest stop wins; at the same place, strings before patterns and earlier in the list before later.
 */
import vm from "node:vm";
import { SglangError } from "../core/errors.js";
import { regexFacts } from "./regex-length.js";

/** Most characters before new text in which a pattern is searched. */
export const MAX_REGEX_WINDOW = 1024;
/** Time one search with a pattern that may explode can take: it runs on the event loop. */
const RISKY_SEARCH_MS = 20;

interface StopRegex {
  source: string;
  regex: RegExp;
  window: number;
  risky: boolean;
}

interface Found {
  start: number;
  end: number;
  matched: string;
}

let sandbox: { context: vm.Context; script: vm.Script } | undefined;

/** `regex.exec(text)` that gives up when it takes too long. */
function guardedExec(regex: RegExp, text: string): RegExpExecArray | null {
  sandbox ??= { context: vm.createContext({}), script: new vm.Script("regex.exec(text)") };
  Object.assign(sandbox.context, { regex, text });
  try {
    return sandbox.script.runInContext(sandbox.context, { timeout: RISKY_SEARCH_MS }) as RegExpExecArray | null;
  } catch (cause) {
    throw new SglangError(
      "INVALID_REQUEST",
      `stop_regex ${JSON.stringify(regex.source)} took more than ${RISKY_SEARCH_MS} ms on one text; write it without repetition inside repetition.`,
      { field: "stop_regex", found: regex.source },
      { cause },
    );
  }
}

export class StopMatcher {
  readonly #strings: readonly string[];
  readonly #regexes: StopRegex[];
  readonly #longestString: number;
  readonly #window: number;
  readonly #trim: boolean;
  /** The whole text while there are patterns (their `^` and look-behind see it); else an end long enough for the strings. */
  #text = "";
  #shown = 0;
  /** Stops that end before this are part of the text (minNewTokens). */
  #openFrom = 0;

  constructor(options: { strings: readonly string[]; regexes: readonly string[]; trim: boolean }) {
    this.#strings = options.strings;
    this.#trim = options.trim;
    this.#longestString = Math.max(0, ...options.strings.map((s) => s.length));
    this.#regexes = options.regexes.map((source) => {
      const { maxLength, risky } = regexFacts(source);
      return { source, regex: new RegExp(source, "gu"), window: Math.min(maxLength, MAX_REGEX_WINDOW), risky };
    });
    this.#window = Math.max(0, ...this.#regexes.map((r) => r.window));
  }

  /** Is there anything to find? Without, text passes straight through. */
  get active(): boolean {
    return this.#strings.length > 0 || this.#regexes.length > 0;
  }

  /**
   * Adds text; returns what may be shown now and the stop that was found. After a stop nothing more may be pushed.
   * @param mayStop false: stops in this text count as text
   * @throws SglangError INVALID_REQUEST when a pattern takes too long
   */
  push(text: string, mayStop = true): { text: string; matched: string | null } {
    if (!this.active) return { text, matched: null };
    const from = this.#text.length;
    this.#text += text;
    if (!mayStop) this.#openFrom = this.#text.length;
    const found = mayStop && text.length > 0 ? this.#find(from) : null;
    if (found)
      return { text: this.#show(this.#trim ? Math.max(found.start, this.#shown) : found.end), matched: found.matched };
    return { text: this.#show(this.#text.length - this.#held()), matched: null };
  }

  /** The text that is still held back: the answer ended without a stop. */
  flush(): string {
    return this.#show(this.#text.length);
  }

  #show(end: number): string {
    let to = Math.max(end, this.#shown);
    // Never half a surrogate pair.
    const next = this.#text.charCodeAt(to);
    if (to > this.#shown && next >= 0xdc00 && next <= 0xdfff) to--;
    const text = this.#text.slice(this.#shown, to);
    this.#shown = to;
    if (this.#regexes.length === 0) {
      const drop = Math.max(0, Math.min(to, this.#text.length - this.#longestString + 1));
      this.#text = this.#text.slice(drop);
      this.#openFrom = Math.max(0, this.#openFrom - drop);
      this.#shown = to - drop;
    }
    return text;
  }

  /** The earliest stop that ends after `from`, where the new text begins. */
  #find(from: number): Found | null {
    let best: Found | null = null;
    const consider = (start: number, end: number, matched: string) => {
      if (best === null || start < best.start) best = { start, end, matched };
    };
    for (const stop of this.#strings) {
      const start = this.#text.indexOf(stop, Math.max(0, from - stop.length + 1, this.#openFrom - stop.length + 1));
      if (start >= 0) consider(start, start + stop.length, stop);
    }
    for (const { source, regex, window, risky } of this.#regexes) {
      regex.lastIndex = Math.max(0, from - window + 1);
      for (;;) {
        const match: RegExpExecArray | null = risky ? guardedExec(regex, this.#text) : regex.exec(this.#text);
        if (!match) break;
        const end = match.index + match[0].length;
        if (end > this.#openFrom || this.#openFrom === 0) {
          consider(match.index, end, source);
          break;
        }
        regex.lastIndex = match.index + 1;
      }
    }
    return best;
  }

  /** Characters at the end of the text that may still become part of a stop. */
  #held(): number {
    if (!this.#trim) return 0;
    const hidden = this.#text.length - this.#shown;
    let held = Math.min(Math.max(this.#window - 1, 0), hidden);
    const most = Math.min(this.#longestString - 1, hidden);
    for (let length = most; length > held; length--) {
      const tail = this.#text.slice(this.#text.length - length);
      if (this.#strings.some((stop) => stop.startsWith(tail))) held = length;
    }
    return held;
  }
}
