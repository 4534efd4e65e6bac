/** The thinking of one answer: whether it has any, and how many of its tokens are spent on it. */
import type { GenerateChunk, Prompt } from "../core/protocol.js";
import { type ReasoningFormat, ReasoningSplitter } from "../core/reasoning.js";

/**
 * How an answer to this prompt thinks: as the format says, unless the prompt itself ends with a mark of it, as written by
 * the chat template. null: the thinking is over, or the answer has begun.
 * @param tail the end of the prompt as text
 */
export function thinkingAfter(format: ReasoningFormat, prompt: Prompt, tail: string): ReasoningFormat | null {
  const { start, end } = format;
  if ("messages" in prompt && prompt.continueFinalMessage) {
    const { content = null } = prompt.messages.at(-1) ?? {};
    const begun = typeof content === "string" ? content : (content ?? []).map((part) => part.text).join("");
    const opened = begun.lastIndexOf(start);
    if (opened >= 0 && begun.indexOf(end, opened) < 0) return { ...format, startsInside: true };
    if (begun.trim() !== "") return null;
  }
  const text = tail.trimEnd();
  if (text.endsWith(end)) return null;
  return text.endsWith(start) ? { ...format, startsInside: true } : format;
}

export interface AnswerThinkingOptions {
  /** Thinking goes apart from the text. */
  separate: boolean;
  /** What lies between thinking and answer; see ReasoningSplitter. */
  seam: "space" | "lines";
}

/** One answer: tells its thinking from its text, and counts the tokens of the thinking, marks among them. */
export class AnswerThinking {
  /** null: there is none. */
  readonly #format: ReasoningFormat | null;
  readonly #options: AnswerThinkingOptions;
  /** Over the text, and over the bytes of tokens, as characters: the text comes later and in larger pieces. */
  readonly #text: ReasoningSplitter | null;
  readonly #tokens: ReasoningSplitter | null;
  #count = 0;

  constructor(format: ReasoningFormat | null, options: AnswerThinkingOptions) {
    this.#format = format;
    this.#options = options;
    this.#text = format && options.separate ? new ReasoningSplitter(format, { seam: options.seam }) : null;
    this.#tokens = format && new ReasoningSplitter(inBytes(format));
  }

  get tokens(): number {
    return this.#format?.startsInside || this.#tokens?.thought ? this.#count : 0;
  }

  /** The next token of the answer. */
  push(bytes: Uint8Array): void {
    const splitter = this.#tokens;
    if (!splitter || splitter.where === "after") return;
    const { text } = splitter.push(latin1(bytes));
    // What interrupts the thinking is the answer's.
    const { interrupt } = this.#format ?? {};
    if (interrupt === undefined || !text.startsWith(latin1(Buffer.from(interrupt)))) this.#count++;
  }

  /** The next piece of the answer's text; `ended`: its last. */
  split(text: string, ended: boolean): Pick<GenerateChunk, "textDelta" | "reasoningDelta"> {
    const splitter = this.#text;
    if (!splitter) return { textDelta: text, ...(this.#options.separate && { reasoningDelta: "" }) };
    const piece = splitter.push(text);
    if (!ended) return { textDelta: piece.text, reasoningDelta: piece.reasoning };
    const rest = splitter.finish();
    return { textDelta: piece.text + rest.text, reasoningDelta: piece.reasoning + rest.reasoning };
  }
}

function inBytes({ start, end, interrupt, ...rest }: ReasoningFormat): ReasoningFormat {
  const mark = (text: string) => latin1(Buffer.from(text));
  return {
    ...rest,
    start: mark(start),
    end: mark(end),
    ...(interrupt !== undefined && { interrupt: mark(interrupt) }),
  };
}

/** Bytes as characters: a token may end within a character. */
const latin1 = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
