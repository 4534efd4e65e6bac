/** Splits what a reasoning model thinks from what it answers, by the marks around the thinking. */
import { SglangError } from "../core/errors.js";
import { didYouMean } from "../core/near-miss.js";

export interface ReasoningFormat {
  start: string;
  end: string;
  /** The answer starts inside the thinking, without the start mark (the chat template wrote it). */
  startsInside?: boolean;
}

const THINK = { start: "<think>", end: "</think>" };
const KIMI = { start: "\u25c1think\u25b7", end: "\u25c1/think\u25b7" };

/** SGLang's names of formats (`--reasoning-parser`) to marks. */
export const REASONING_FORMATS = {
  "deepseek-r1": { ...THINK, startsInside: true },
  "deepseek-v3": THINK,
  glm45: THINK,
  kimi: KIMI,
  qwen3: THINK,
  "qwen3-thinking": { ...THINK, startsInside: true },
  step3: { ...THINK, startsInside: true },
} as const satisfies Record<string, ReasoningFormat>;

export type ReasoningFormatName = keyof typeof REASONING_FORMATS;

/** @throws SglangError INVALID_REQUEST for an unknown name */
export function reasoningFormat(format: ReasoningFormatName | ReasoningFormat): ReasoningFormat {
  if (typeof format !== "string") return format;
  if (Object.hasOwn(REASONING_FORMATS, format)) return REASONING_FORMATS[format];
  const names = Object.keys(REASONING_FORMATS);
  throw new SglangError(
    "INVALID_REQUEST",
    `separateReasoning must be one of ${names.join(", ")} or { start, end }, got "${format}".${didYouMean(format, names)}`,
    { field: "separateReasoning", expected: names.join(", "), found: format },
  );
}

/** Length of the longest end of `text` that is a start of `mark`: what must be held back until more arrives. */
function heldBack(text: string, mark: string): number {
  for (let length = Math.min(text.length, mark.length - 1); length > 0; length--) {
    if (text.endsWith(mark.slice(0, length))) return length;
  }
  return 0;
}

/** Splits a text that arrives in pieces. White space around the answer's seam goes with the thinking. */
export class ReasoningSplitter {
  readonly #format: ReasoningFormat;
  #where: "before" | "inside" | "after" = "before";
  #pending = "";
  #answered = false;

  constructor(format: ReasoningFormat) {
    this.#format = format;
  }

  /** @returns what of the text so far is now known to be thinking or answer */
  push(text: string): { reasoning: string; text: string } {
    const { start, end, startsInside } = this.#format;
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
    let reasoning = "";
    if (this.#where === "inside") {
      const at = this.#pending.indexOf(end);
      const upTo = at >= 0 ? at : this.#pending.length - heldBack(this.#pending, end);
      reasoning = this.#pending.slice(0, upTo);
      this.#pending = this.#pending.slice(at >= 0 ? at + end.length : upTo);
      if (at < 0) return { reasoning, text: "" };
      this.#where = "after";
    }
    const answer = this.#answered ? this.#pending : this.#pending.trimStart();
    this.#pending = "";
    this.#answered ||= answer !== "";
    return { reasoning, text: answer };
  }

  /** What was held back when the text ended. */
  finish(): { reasoning: string; text: string } {
    const rest = this.#pending;
    this.#pending = "";
    const thinking = this.#where === "inside" || (this.#where === "before" && this.#format.startsInside === true);
    return thinking ? { reasoning: rest, text: "" } : { reasoning: "", text: rest };
  }
}
