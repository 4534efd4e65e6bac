/**
 * Tool calls in a model's text: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` (Hermes and Qwen).
 *
 * The parser is one automaton over characters, so its result does not depend on how the text was cut into chunks. A
 * block that is not such a call (broken JSON, a tool nobody offered) is given back as text: nothing the model said is
 * lost. White space around calls is dropped. Arguments keep the digits and the order in which they were written.
 */
import { rawMembers } from "./json-members.js";

const OPEN = "<tool_call>";
const CLOSE = "</tool_call>";

export type ToolCallEvent = { type: "text"; text: string } | { type: "call"; name: string; arguments: string };

const isSpace = (c: string) => c === " " || c === "\n" || c === "\t" || c === "\r";
/** Characters that JSON has outside of strings. */
const JSON_PLAIN = /[\s\d{}[\]:,.+\-a-zE]/;

/** Where the scan of an open block stands. */
interface Scan {
  state: "before" | "object" | "after";
  /** Next character of the buffer to look at. */
  at: number;
  start: number;
  end: number;
  depth: number;
  inString: boolean;
  escaped: boolean;
}

export class ToolCallParser {
  readonly #tools: ReadonlySet<string>;
  /** Text mode: what may be the start of a tag. Block mode: everything after the tag. */
  #buffer = "";
  /** White space before the open tag, dropped once the block turns out to be a call. */
  #space = "";
  #scan: Scan | null = null;
  #calls = 0;

  constructor(toolNames: Iterable<string>) {
    this.#tools = new Set(toolNames);
  }

  /** Calls found so far. */
  get calls(): number {
    return this.#calls;
  }

  push(text: string): ToolCallEvent[] {
    this.#buffer += text;
    const events: ToolCallEvent[] = [];
    while (this.#scan ? this.#block(events) : this.#text(events));
    return events;
  }

  /** The end of the answer. A call whose JSON is complete counts even without its closing tag. */
  flush(): ToolCallEvent[] {
    const events: ToolCallEvent[] = [];
    while (this.#scan) {
      const { state, start, end } = this.#scan;
      const unclosed = state === "after" && CLOSE.startsWith(this.#buffer.slice(end).trimStart());
      const call = unclosed ? this.#toCall(this.#buffer.slice(start, end)) : null;
      if (call) {
        events.push(call);
        this.#buffer = "";
        this.#scan = null;
      } else {
        this.#giveUp(events);
        while (this.#scan ? this.#block(events) : this.#text(events));
      }
    }
    if (this.#calls === 0 || this.#buffer.trim() !== "") emit(events, this.#buffer);
    this.#buffer = "";
    return events;
  }

  /** Text mode. true when a block was opened. */
  #text(events: ToolCallEvent[]): boolean {
    const at = this.#buffer.indexOf(OPEN);
    let keep = at >= 0 ? at : this.#buffer.length - partialTag(this.#buffer);
    while (keep > 0 && isSpace(this.#buffer[keep - 1])) keep -= 1;
    emit(events, this.#buffer.slice(0, keep));
    if (at < 0) {
      this.#buffer = this.#buffer.slice(keep);
      return false;
    }
    this.#space = this.#buffer.slice(keep, at);
    this.#buffer = this.#buffer.slice(at + OPEN.length);
    this.#scan = { state: "before", at: 0, start: 0, end: 0, depth: 0, inString: false, escaped: false };
    return true;
  }

  /** Block mode. true when the block has ended, one way or the other. */
  #block(events: ToolCallEvent[]): boolean {
    const scan = this.#scan as Scan;
    const text = this.#buffer;
    for (; scan.at < text.length; scan.at++) {
      const c = text[scan.at];
      if (scan.state === "before") {
        if (isSpace(c)) continue;
        if (c !== "{") return this.#giveUp(events);
        scan.state = "object";
        scan.start = scan.at;
        scan.depth = 1;
      } else if (scan.state === "object") {
        if (!scanObject(scan, c)) return this.#giveUp(events);
        if (scan.depth === 0) {
          scan.state = "after";
          scan.end = scan.at + 1;
        }
      } else {
        const tail = text.slice(scan.end, scan.at + 1).trimStart();
        if (!CLOSE.startsWith(tail)) return this.#giveUp(events);
        if (tail === CLOSE) return this.#close(events);
      }
    }
    return false;
  }

  #close(events: ToolCallEvent[]): true {
    const { start, end, at } = this.#scan as Scan;
    const call = this.#toCall(this.#buffer.slice(start, end));
    if (call) events.push(call);
    else emit(events, this.#space + OPEN + this.#buffer.slice(0, at + 1));
    this.#buffer = this.#buffer.slice(at + 1);
    this.#scan = null;
    return true;
  }

  /** The tag was just text; what follows it is read again as text. */
  #giveUp(events: ToolCallEvent[]): true {
    emit(events, this.#space + OPEN);
    this.#scan = null;
    return true;
  }

  #toCall(source: string): ToolCallEvent | null {
    let parsed: { name?: unknown; arguments?: unknown; parameters?: unknown };
    try {
      parsed = JSON.parse(source);
    } catch {
      return null;
    }
    if (typeof parsed.name !== "string" || !this.#tools.has(parsed.name)) return null;
    const key = parsed.arguments === undefined ? "parameters" : "arguments";
    const given = parsed[key] ?? {};
    let args = "{}";
    if (typeof given === "string" && isObjectText(given)) args = given;
    else if (typeof given !== "object" || Array.isArray(given)) return null;
    else if (parsed[key]) args = rawMembers(source).get(key) as string;
    this.#calls += 1;
    return { type: "call", name: parsed.name, arguments: args };
  }
}

/** Advances over one character inside the object; false when it cannot be JSON. */
function scanObject(scan: Scan, c: string): boolean {
  if (scan.escaped) scan.escaped = false;
  else if (scan.inString) {
    if (c < " ") return false;
    if (c === "\\") scan.escaped = true;
    else if (c === '"') scan.inString = false;
  } else if (c === '"') scan.inString = true;
  else if (c === "{" || c === "[") scan.depth += 1;
  else if (c === "}" || c === "]") scan.depth -= 1;
  else return JSON_PLAIN.test(c);
  return true;
}

/** Characters at the end of `text` that may become an open tag. */
function partialTag(text: string): number {
  for (let length = Math.min(OPEN.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(OPEN.slice(0, length))) return length;
  }
  return 0;
}

function isObjectText(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** Neighbouring texts are one event. */
function emit(events: ToolCallEvent[], text: string): void {
  if (text === "") return;
  const last = events.at(-1);
  if (last?.type === "text") last.text += text;
  else events.push({ type: "text", text });
}
