import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ChatMessage, ToolDefinition } from "../../src/core/protocol.js";
import { createChatTemplate } from "../../src/tokenizer/index.js";

/** Made by tests/golden/chat_templates.py with transformers and jinja2. */
interface Golden {
  cases: Record<string, { messages: ChatMessage[]; options: Record<string, unknown> }>;
  templates: Record<string, { template: string; variables: Record<string, string>; rendered: Record<string, string> }>;
}
const golden = JSON.parse(
  readFileSync(new URL("../golden/data/chat-templates.json", import.meta.url), "utf8"),
) as Golden;

describe.each(Object.entries(golden.templates))(
  "the chat template of %s renders as in transformers:",
  (_, { template, variables, rendered }) => {
    const chat = createChatTemplate({ templates: [{ name: "default", template }], variables });
    it.each(Object.entries(golden.cases))("%s", (name, { messages, options }) => {
      const { tools, add_generation_prompt: add, continue_final_message: continues, ...kwargs } = options;
      const text = chat.render(messages, {
        tools: tools as ToolDefinition[] | undefined,
        addGenerationPrompt: add as boolean | undefined,
        continueFinalMessage: continues as boolean | undefined,
        kwargs,
      });
      expect(text).toBe(rendered[name]);
    });
  },
);
