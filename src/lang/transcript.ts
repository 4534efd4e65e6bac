/**
 * The prompt of one state: turns that are closed, and the text that is being written.
 *
 * Copies share the list of closed turns until one of them adds to it, so a fork costs the same however long the prompt.
 */
import type { ToolCall } from "../core/protocol.js";
import type { BackendPrompt, ImagePart, PromptMessage, PromptPart, Role, VideoPart } from "./backends/backend.js";

export interface TurnFacts {
  toolCallId?: string;
  name?: string;
}

export class Transcript {
  #messages: PromptMessage[] = [];
  /** `#messages` is somebody else's too: copy before adding. */
  #shared = false;
  #role: Role | null = null;
  #facts: TurnFacts = {};
  /** Raw text, or the turn that is open. */
  #parts: PromptPart[] = [];
  #toolCalls: readonly ToolCall[] = [];

  get role(): Role | null {
    return this.#role;
  }

  get isEmpty(): boolean {
    return this.#messages.length === 0 && this.#parts.length === 0;
  }

  /** Closed turns so far. */
  get turns(): number {
    return this.#messages.length;
  }

  copy(): Transcript {
    const copy = new Transcript();
    copy.#messages = this.#messages;
    copy.#shared = this.#shared = true;
    copy.#role = this.#role;
    copy.#facts = this.#facts;
    copy.#parts = this.#parts.slice();
    copy.#toolCalls = this.#toolCalls;
    return copy;
  }

  addText(text: string): void {
    if (text === "") return;
    const last = this.#parts.at(-1);
    // A new part instead of a longer one: prompts that were handed out must not change.
    if (last?.type === "text") this.#parts[this.#parts.length - 1] = { type: "text", text: last.text + text };
    else this.#parts.push({ type: "text", text });
  }

  addPart(part: ImagePart | VideoPart): void {
    this.#parts.push(part);
  }

  begin(role: Role, facts: TurnFacts = {}): void {
    this.#role = role;
    this.#facts = facts;
  }

  /** Calls that the open assistant turn made. */
  addToolCalls(calls: readonly ToolCall[]): void {
    this.#toolCalls = [...this.#toolCalls, ...calls];
  }

  end(): void {
    const role = this.#role as Role;
    this.push({
      role,
      content: this.#parts,
      ...(this.#toolCalls.length > 0 ? { toolCalls: this.#toolCalls } : {}),
      ...this.#facts,
    });
    this.#role = null;
    this.#parts = [];
    this.#facts = {};
    this.#toolCalls = [];
  }

  /** Adds a whole turn. */
  push(message: PromptMessage): void {
    if (this.#shared) {
      this.#messages = this.#messages.slice();
      this.#shared = false;
    }
    this.#messages.push(message);
  }

  /** The first call that no tool turn has answered yet. */
  unansweredCall(): ToolCall | undefined {
    const last = this.#messages.findLastIndex((message) => message.role === "assistant");
    if (last < 0) return undefined;
    const answered = new Set(this.#messages.slice(last + 1).map((message) => message.toolCallId));
    return this.#messages[last].toolCalls?.find((call) => !answered.has(call.id));
  }

  messages(): readonly PromptMessage[] {
    const open = this.#openMessage();
    if (open) return [...this.#messages, open];
    this.#shared = true;
    return this.#messages;
  }

  /** What a backend completes. An empty assistant turn is opened by the backend itself. */
  prompt(): BackendPrompt {
    if (this.#role === null && this.#messages.length === 0) return { type: "text", parts: this.#parts.slice() };
    const continueFinal = this.#role === "assistant" && this.#parts.length > 0;
    return { type: "chat", messages: this.messages(), continueFinal };
  }

  /** For people: raw text as it is, turns as `role: text` lines. */
  text(): string {
    const raw = this.#role === null && this.#messages.length === 0;
    if (raw) return partsText(this.#parts);
    return this.messages()
      .map(({ role, content }) => `${role}: ${partsText(content)}\n`)
      .join("");
  }

  /** Text of the raw prompt or of the open turn. */
  openText(): string {
    return partsText(this.#parts);
  }

  /** Length of {@link openText}. */
  get openLength(): number {
    return this.#parts.reduce((sum, part) => sum + (part.type === "text" ? part.text.length : part.type.length + 2), 0);
  }

  #openMessage(): PromptMessage | null {
    if (this.#role === null || this.#parts.length === 0) return null;
    return { role: this.#role, content: this.#parts.slice(), ...this.#facts };
  }
}

/** Texts of parts in a row; pictures as `[image]`, `[video]`. */
export function partsText(parts: readonly PromptPart[]): string {
  return parts.map((part) => (part.type === "text" ? part.text : `[${part.type}]`)).join("");
}
