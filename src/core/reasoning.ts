/** Reasoning models think before they answer, between two marks: the formats, and a splitter of texts that have them. */
import { SglangError } from "./errors.js";
import { didYouMean } from "./near-miss.js";

export interface ReasoningFormat {
  start: string;
  end: string;
  /** The answer starts inside the thinking, without the start mark (the chat template wrote it). */
  startsInside?: boolean;
  /** A text that ends the thinking too, and begins the answer: models call tools without closing it. */
  interrupt?: string;
}

const THINK = { start: "<think>", end: "</think>" };
const INSIDE = { ...THINK, startsInside: true };
/** These models leave their thinking open when they call a tool. */
const CALLING = { ...THINK, interrupt: "<tool_call>" };

/** SGLang's names of formats (`--reasoning-parser`) to marks. */
export const REASONING_FORMATS = {
  "deepseek-r1": INSIDE,
  "deepseek-v3": THINK,
  glm45: CALLING,
  interns1: THINK,
  kimi: { start: "\u25c1think\u25b7", end: "\u25c1/think\u25b7" },
  kimi_k2: { ...THINK, interrupt: "<|tool_calls_section_begin|>" },
  mimo: THINK,
  minimax: INSIDE,
  mistral: { start: "[THINK]", end: "[/THINK]" },
  nemotron_3: THINK,
  qwen3: CALLING,
  "qwen3-thinking": { ...CALLING, startsInside: true },
  step3: INSIDE,
  step3p5: INSIDE,
} as const satisfies Record<string, ReasoningFormat>;

export type ReasoningFormatName = keyof typeof REASONING_FORMATS;

/** SGLang's formats that are no text between two marks, or not known well enough. */
const REFUSED_FORMATS: readonly string[] = [
  "apertus2509",
  "cohere_command4",
  "deepseek-v4",
  "gemma4",
  "gpt-oss",
  "hunyuan",
  "inkling",
  "kimi_k3",
  "minimax-append-think",
  "minimax-m3",
  "poolside_v1",
  "telechat4",
];

/**
 * @param field what the name was given as, for errors
 * @throws SglangError UNSUPPORTED for a format of SGLang that is not read here, INVALID_REQUEST for an unknown name
 */
export function reasoningFormat(
  format: string | ReasoningFormat,
  field = "separateReasoning",
  code: "INVALID_REQUEST" | "INVALID_ARGUMENT" = "INVALID_REQUEST",
): ReasoningFormat {
  if (typeof format !== "string") return format;
  if (Object.hasOwn(REASONING_FORMATS, format)) return REASONING_FORMATS[format as ReasoningFormatName];
  const names = Object.keys(REASONING_FORMATS);
  const details = { field, expected: names.join(", "), found: format };
  if (REFUSED_FORMATS.includes(format)) {
    throw new SglangError(
      "UNSUPPORTED",
      `${field}: the format "${format}" is not read by this version; ${names.join(", ")} are.`,
      details,
    );
  }
  throw new SglangError(
    code,
    `${field} must be one of ${names.join(", ")}, got ${JSON.stringify(format)}.${didYouMean(format, names)}`,
    details,
  );
}

/** Length of the longest end of `text` that is a start of `mark`: what must be held back until more arrives. */
function heldBack(text: string, mark: string): number {
  for (let length = Math.min(text.length, mark.length - 1); length > 0; length--) {
    if (text.endsWith(mark.slice(0, length))) return length;
  }
  return 0;
}

/** Line breaks after the thinking that are none of the answer's, where the answer's own white space counts. */
export const SEAM_LINES = 2;

export interface SplitterOptions {
  /**
   * What is dropped between thinking and answer: all white space, or at most {@link SEAM_LINES} line breaks, for answers
   * under a constraint, whose every character counts. @default "space"
   */
  seam?: "space" | "lines";
}

/** Splits a text that arrives in pieces. White space before the thinking goes with its mark. */
export class ReasoningSplitter {
  readonly #format: ReasoningFormat;
  readonly #seam: "space" | "lines";
  #where: "before" | "inside" | "after" = "before";
  #thought = false;
  #pending = "";
  #seamLines = SEAM_LINES;
  #answered = false;

  constructor(format: ReasoningFormat, { seam = "space" }: SplitterOptions = {}) {
    this.#format = format;
    this.#seam = seam;
  }

  /** before: it is not known yet whether the text begins with thinking. */
  get where(): "before" | "inside" | "after" {
    return this.#where;
  }

  /** There was thinking, if only an empty one. */
  get thought(): boolean {
    return this.#thought;
  }

  /** @returns what of the text so far is now known to be thinking or answer */
  push(text: string): { reasoning: string; text: string } {
    const { start, startsInside } = this.#format;
    this.#pending += text;
    if (this.#where === "before") {
      const trimmed = this.#pending.trimStart();
      if (trimmed.startsWith(start)) {
        this.#pending = trimmed.slice(start.length);
        this.#where = "inside";
      } else if (start.startsWith(trimmed)) {
        return { reasoning: "", text: "" };
      } else {
        this.#where = startsInside ? "inside" : "after";
        this.#answered = !startsInside;
      }
    }
    this.#thought ||= this.#where === "inside";
    const reasoning = this.#where === "inside" ? this.#think() : "";
    return { reasoning, text: this.#where === "after" ? this.#answer() : "" };
  }

  /** What was held back when the text ended. */
  finish(): { reasoning: string; text: string } {
    const rest = this.#pending;
    this.#pending = "";
    const thinking = this.#where === "inside" || (this.#where === "before" && this.#format.startsInside === true);
    return thinking ? { reasoning: rest, text: "" } : { reasoning: "", text: rest };
  }

  #think(): string {
    const { end, interrupt } = this.#format;
    const pending = this.#pending;
    const ended = pending.indexOf(end);
    const called = interrupt === undefined ? -1 : pending.indexOf(interrupt);
    if (ended >= 0 && (called < 0 || ended < called)) {
      this.#where = "after";
      this.#pending = pending.slice(ended + end.length);
      return pending.slice(0, ended);
    }
    if (called >= 0) {
      this.#where = "after";
      this.#pending = pending.slice(called);
      return pending.slice(0, called);
    }
    const held = Math.max(heldBack(pending, end), interrupt === undefined ? 0 : heldBack(pending, interrupt));
    this.#pending = pending.slice(pending.length - held);
    return pending.slice(0, pending.length - held);
  }

  #answer(): string {
    let answer = this.#pending;
    this.#pending = "";
    if (this.#answered) return answer;
    if (this.#seam === "space") answer = answer.trimStart();
    else {
      while (this.#seamLines > 0 && answer.startsWith("\n")) {
        answer = answer.slice(1);
        this.#seamLines--;
      }
    }
    this.#answered = answer !== "";
    return answer;
  }
}
