/** What a request will cost in tokens, as far as a limit must know before the reply. */
import type { BackendPrompt } from "./backends/backend.js";
import type { Run } from "./run.js";
import { partsText } from "./transcript.js";

const CHARS_PER_TOKEN = 4;

/** Tokens of a prompt; 0 when no limit asks. */
export function estimateTokens(run: Run, prompt: BackendPrompt): number {
  if (run.setup.limiters.length === 0) return 0;
  const parts = prompt.type === "text" ? prompt.parts : prompt.messages.flatMap((message) => message.content);
  const text = partsText(parts);
  return run.backend.countTokens?.(text) ?? Math.ceil(text.length / CHARS_PER_TOKEN);
}
