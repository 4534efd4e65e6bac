/**
 * How long can a match of a regular expression be, and can matching it explode? Read off the pattern's text (JavaScript
 * syntax, flag `u`, already known to compile). Lengths are upper bounds in UTF-16 units.
 */
export interface RegexFacts {
  /** Most characters a match can have, look-ahead included; Infinity = no bound. */
  maxLength: number;
  /** Repetition inside repetition, or several unbounded ones: matching may take exponential or polynomial time. */
  risky: boolean;
}

/** Escapes of one UTF-16 unit; upper-case classes and \p may match a surrogate pair. */
const ONE_UNIT_ESCAPE = /[dwsntrfv0^$\\.*+?()[\]{}|/-]/;
/** A repetition above this many is treated like an unbounded one. */
const MANY = 64;

class Reader {
  readonly #pattern: string;
  #at = 0;
  #unbounded = 0;
  nested = false;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  get unbounded(): number {
    return this.#unbounded;
  }

  disjunction(): number {
    let longest = 0;
    let current = 0;
    while (this.#at < this.#pattern.length && this.#pattern[this.#at] !== ")") {
      if (this.#pattern[this.#at] === "|") {
        this.#at++;
        longest = Math.max(longest, current);
        current = 0;
      } else {
        current += this.#term();
      }
    }
    return Math.max(longest, current);
  }

  #term(): number {
    const isGroup = this.#pattern[this.#at] === "(";
    const length = this.#atom();
    const most = this.#quantifier();
    if (most === null) return length;
    if (most > MANY) {
      this.#unbounded++;
      if (isGroup) this.nested = true;
    }
    return length === 0 || most === 0 ? 0 : length * most;
  }

  #atom(): number {
    const char = this.#pattern[this.#at++];
    if (char === "^" || char === "$") return 0;
    if (char === "(") return this.#group();
    if (char === "[") return this.#class();
    if (char === "\\") return this.#escape();
    if (char === ".") return 2;
    return 1;
  }

  #group(): number {
    const rest = this.#pattern.slice(this.#at);
    const [opening] = /^\?(?:<?[=!]|<[^>]*>|[a-z]*(?:-[a-z]+)?:)/.exec(rest) ?? [""];
    this.#at += opening.length;
    const length = this.disjunction();
    this.#at++;
    return opening.startsWith("?<=") || opening.startsWith("?<!") ? 0 : length;
  }

  #class(): number {
    const from = this.#at;
    while (this.#pattern[this.#at] !== "]") this.#at += this.#pattern[this.#at] === "\\" ? 2 : 1;
    const inside = this.#pattern.slice(from, this.#at++);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the range is "ASCII"
    return /^(?!\^)(?:[\x00-\x5b\x5d-\x7f]|\\[^DWSpPu])*$/.test(inside) ? 1 : 2;
  }

  #escape(): number {
    const char = this.#pattern[this.#at++];
    const rest = this.#pattern.slice(this.#at);
    const skip = (pattern: RegExp) => {
      this.#at += pattern.exec(rest)?.[0].length ?? 0;
    };
    if (char === "b" || char === "B") return 0;
    if (char === "k" || (char >= "1" && char <= "9")) {
      skip(char === "k" ? /^<[^>]*>/ : /^\d*/);
      return Number.POSITIVE_INFINITY;
    }
    if (char === "x") skip(/^[0-9a-fA-F]{2}/);
    else if (char === "c") skip(/^./);
    else if (char === "u") {
      skip(/^(?:\{[^}]*\}|[0-9a-fA-F]{4})/);
      return 2;
    } else if (char === "p" || char === "P") {
      skip(/^\{[^}]*\}/);
      return 2;
    }
    return char === "x" || char === "c" || ONE_UNIT_ESCAPE.test(char) ? 1 : 2;
  }

  /** Most repetitions the quantifier here allows; null when there is none. */
  #quantifier(): number | null {
    const match = /^(?:[*+?]|\{(\d+)(,?)(\d*)\})\??/.exec(this.#pattern.slice(this.#at));
    if (!match) return null;
    this.#at += match[0].length;
    if (match[0][0] === "?") return 1;
    if (match[1] === undefined || (match[2] && !match[3])) return Number.POSITIVE_INFINITY;
    return Number(match[2] ? match[3] : match[1]);
  }
}

export function regexFacts(pattern: string): RegexFacts {
  const reader = new Reader(pattern);
  const maxLength = reader.disjunction();
  return { maxLength, risky: reader.nested || reader.unbounded > 1 };
}
