/** Where a text leaves a grammar, and what was allowed there: for people who wonder why an output is refused. */
import { type Automaton, DEAD } from "./automaton.js";
import { bytesToText, describeBytes } from "./compressed-fsm.js";

export interface Explanation {
  /** "accepted": a whole text. "incomplete": a beginning of one. "refused": no text of the grammar begins so. */
  verdict: "accepted" | "incomplete" | "refused";
  /** Characters (code points) that were read. */
  position: number;
  /** The text read so far. */
  read: string;
  /** The first character that is not allowed; "" unless refused. */
  character: string;
  /** What may come at `position`, in words. */
  allowed: string[];
  /** Text that has to come next, whatever the model. */
  forced: string;
  /** Whether the text may end at `position`. */
  mayEnd: boolean;
}

const utf8 = new TextEncoder();
/** Forced text longer than this is cut. */
const MAX_FORCED = 200;

/** Reads `text` character by character through `automaton`. */
export function explainText(automaton: Automaton, text: string): Explanation {
  let at = automaton.start;
  let read = "";
  let position = 0;
  let character = "";
  for (const char of text) {
    const next = automaton.read(at, utf8.encode(char));
    if (next === DEAD) {
      character = char;
      break;
    }
    at = next;
    read += char;
    position++;
  }
  const mayEnd = automaton.accepts(at);
  const verdict = character !== "" ? "refused" : mayEnd ? "accepted" : "incomplete";
  return {
    verdict,
    position,
    read,
    character,
    allowed: allowedNext(automaton, at),
    forced: forcedText(automaton, at),
    mayEnd,
  };
}

/** What may follow a configuration, in words: a class of ASCII characters, other characters, the end of the text. */
export function allowedNext(automaton: Automaton, configuration: number): string[] {
  const ascii: number[] = [];
  const leads: number[] = [];
  for (let byte = 0; byte < 256; byte++) {
    if (automaton.next(configuration, byte) !== DEAD) (byte < 0x80 ? ascii : leads).push(byte);
  }
  const allowed: string[] = [];
  if (ascii.length === 1) allowed.push(JSON.stringify(String.fromCharCode(ascii[0])));
  else if (ascii.length > 64 && leads.length > 0) {
    const missing = Array.from({ length: 128 }, (_, byte) => byte).filter((byte) => !ascii.includes(byte));
    allowed.push(missing.length === 0 ? "any ASCII character" : `any ASCII character but ${describeBytes(missing)}`);
  } else if (ascii.length > 0) allowed.push(describeBytes(ascii));
  // 0xC2 to 0xF4 begin all characters from U+0080 on.
  if (leads.length > 0)
    allowed.push(leads.length >= 0xf4 - 0xc2 + 1 ? "any other character" : "some characters beyond ASCII");
  if (automaton.accepts(configuration)) allowed.push("the end of the text");
  return allowed;
}

function forcedText(automaton: Automaton, configuration: number): string {
  const bytes: number[] = [];
  for (let at = configuration; bytes.length < MAX_FORCED; ) {
    const byte = automaton.forcedByte(at);
    if (byte < 0) break;
    bytes.push(byte);
    at = automaton.next(at, byte);
  }
  // A choice may begin inside a character: its first bytes alone are no text to show.
  while (bytes.length > 0 && bytesToText(bytes).includes("\\x")) bytes.pop();
  return bytesToText(bytes);
}
