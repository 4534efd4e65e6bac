/** Prompts that start alike: what they share, and warming it once in the backend's cache. */
import type { Backend, BackendPrompt, PromptMessage, PromptPart } from "./backends/backend.js";
import { partsText } from "./transcript.js";

/** Shorter prefixes are not worth a request. Source: SGLang. */
const MIN_PREFIX_CHARS = 64;

/** All text of a prompt, in order. */
export function promptText(prompt: BackendPrompt): string {
  return prompt.type === "text"
    ? partsText(prompt.parts)
    : prompt.messages.map(({ content }) => partsText(content)).join("\n");
}

function commonText(a: string, b: string): string {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  // Never half of a character.
  const last = a.charCodeAt(length - 1);
  return a.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length);
}

const equal = (a: unknown, b: unknown) => a === b || JSON.stringify(a) === JSON.stringify(b);

function commonParts(a: readonly PromptPart[], b: readonly PromptPart[]): PromptPart[] {
  const common: PromptPart[] = [];
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    const [x, y] = [a[index], b[index]];
    if (x.type === "text" && y.type === "text" && x.text !== y.text) {
      const text = commonText(x.text, y.text);
      if (text !== "") common.push({ type: "text", text });
      return common;
    }
    if (!equal(x, y)) return common;
    common.push(x);
  }
  return common;
}

/** The longest prompt that all of `prompts` start with, or null when they share nothing. */
export function commonPrefix(prompts: readonly BackendPrompt[]): BackendPrompt | null {
  let [common] = prompts;
  for (const next of prompts.slice(1)) {
    if (common.type === "text" && next.type === "text") {
      common = { type: "text", parts: commonParts(common.parts, next.parts) };
    } else if (common.type === "chat" && next.type === "chat") {
      const messages: PromptMessage[] = [];
      for (let index = 0; index < Math.min(common.messages.length, next.messages.length); index++) {
        const [x, y] = [common.messages[index], next.messages[index]];
        if (equal(x, y)) {
          messages.push(x);
          continue;
        }
        const content = x.role === y.role ? commonParts(x.content, y.content) : [];
        if (content.length > 0 && x.role !== "assistant" && x.role !== "tool") messages.push({ role: x.role, content });
        break;
      }
      common = { type: "chat", messages, continueFinal: false };
    } else {
      return null;
    }
  }
  return common;
}

/**
 * Has the backend compute what `prompts` share. A hint: a backend that cannot is left alone.
 * @returns whether something was sent
 */
export async function warmPrefix(
  backend: Backend,
  prompts: readonly BackendPrompt[],
  signal: AbortSignal,
): Promise<boolean> {
  if (!backend.capabilities.prefixHint || !backend.prefixHint || prompts.length === 0) return false;
  const common = commonPrefix(prompts);
  if (!common || promptText(common).length <= MIN_PREFIX_CHARS) return false;
  await backend.prefixHint(common, signal);
  return true;
}
