/** Reading prompts: texts and images of their parts, and what only some prompts can carry. */
import { CapabilityError } from "../errors.js";
import type { BackendGenerateRequest, BackendPrompt, ImagePart, PromptPart } from "./backend.js";

/** The text of parts that hold nothing else. */
export function textOf(parts: readonly PromptPart[]): string {
  return parts.map((part) => (part.type === "text" ? part.text : "")).join("");
}

export const isText = (parts: readonly PromptPart[]) => parts.every((part) => part.type === "text");

/** Nothing that a model could be given yet. */
export function isEmpty(prompt: BackendPrompt): boolean {
  return prompt.type === "text" ? prompt.parts.length === 0 : prompt.messages.length === 0;
}

/** `data:` URL of an image's bytes, or its own URL. */
export function imageUrl({ data, url, mediaType = "image/png" }: ImagePart): string {
  return data ? `data:${mediaType};base64,${base64(data)}` : (url as string);
}

/** Bytes turned to text per step: `String.fromCharCode` takes its bytes as arguments, which have a limit. */
const STEP = 0x8000;

export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += STEP) text += String.fromCharCode(...bytes.subarray(at, at + STEP));
  return btoa(text);
}

/** @throws CapabilityError when tools come with raw text: calls are part of the assistant's turn */
export function refuseToolsInText(backend: string, request: BackendGenerateRequest): void {
  if (request.prompt.type === "text" && request.tools && request.tools.length > 0)
    throw new CapabilityError(backend, "tools", "raw text has no tool calls; gen inside s.assistant.");
}

/** The prompt with `continuation` after it, as one text or as the assistant's text so far. */
export function withContinuation(prompt: BackendPrompt, continuation: string): BackendPrompt {
  if (prompt.type === "text") return { ...prompt, parts: joined(prompt.parts, continuation) };
  const { messages, continueFinal } = prompt;
  const last = messages.at(-1);
  if (continueFinal && last) {
    const final = { ...last, content: joined(last.content, continuation) };
    return { ...prompt, messages: [...messages.slice(0, -1), final] };
  }
  const turn = { role: "assistant" as const, content: joined([], continuation) };
  return { type: "chat", messages: [...messages, turn], continueFinal: true };
}

function joined(parts: readonly PromptPart[], text: string): PromptPart[] {
  const last = parts.at(-1);
  if (last?.type !== "text") return [...parts, { type: "text", text }];
  return [...parts.slice(0, -1), { type: "text", text: last.text + text }];
}

/** An id for a tool call whose server gave none. */
export function newCallId(): string {
  // `crypto.randomUUID` is missing on pages without HTTPS; these ids need to differ, not to be secret.
  const digits = () => Math.random().toString(36).slice(2, 12).padEnd(10, "0");
  return `call_${digits()}${digits()}`;
}
