/** Messages and tools of a chat request -> what the chat template takes. Every error carries the JSON pointer. */

import { z } from "zod";
import type { ChatMessage, ToolCall, ToolDefinition } from "../core/protocol.js";
import { field, flag, integer, jsonObject, OBJECT, TEXT, text } from "./fields.js";
import { messageSchema, REFUSED_MESSAGE } from "./openai-schema.js";
import { invalid, parseFields, unsupported } from "./validation.js";

/** Roles by what templates call them: they know neither `developer` nor `function`. */
const ROLES: Readonly<Record<string, string>> = {
  system: "system",
  developer: "system",
  user: "user",
  assistant: "assistant",
  tool: "tool",
  function: "tool",
};

const toolCallSchema = z.object({
  id: text().nullish(),
  type: text().nullish(),
  index: integer().nullish(),
  function: jsonObject(),
});
const calledFunctionSchema = z.object({
  name: text(),
  arguments: field("a JSON text or an object", TEXT, OBJECT).nullish(),
});
const toolSchema = z.object({ type: text().nullish(), function: jsonObject() });
const functionSchema = z.object({
  name: text(),
  description: text().nullish(),
  parameters: jsonObject().nullish(),
  strict: flag().nullish(),
});

/** @throws SglangError INVALID_REQUEST or UNSUPPORTED naming `messages[i]...` */
export function toMessages(messages: readonly unknown[]): ChatMessage[] {
  if (messages.length === 0) throw invalid("messages", "messages must not be an empty list.");
  return messages.map((message, i) => toMessage(message, `messages[${i}]`));
}

function toMessage(given: unknown, path: string): ChatMessage {
  const message = parseFields(messageSchema, given, { prefix: path, refused: REFUSED_MESSAGE });
  const name = message.role.toLowerCase();
  if (!Object.hasOwn(ROLES, name)) {
    throw invalid(
      `${path}.role`,
      `${path}.role must be one of ${Object.keys(ROLES).join(", ")}, got ${JSON.stringify(message.role)}.`,
    );
  }
  const role = ROLES[name];
  const calls = message.tool_calls ?? [];
  if (calls.length > 0 && role !== "assistant")
    throw invalid(
      `${path}.tool_calls`,
      `${path}.tool_calls belongs to assistant messages, but this one is of ${name}.`,
    );
  if ((message.content ?? null) === null && role !== "assistant")
    throw invalid(`${path}.content`, `${path}.content is required: a text or a list of content parts.`);
  const out: ChatMessage = { role, content: toText(message.content, `${path}.content`) };
  if (message.name) out.name = message.name;
  if (calls.length > 0) out.tool_calls = calls.map((call, i) => toCall(call, `${path}.tool_calls[${i}]`));
  if (message.tool_call_id) out.tool_call_id = message.tool_call_id;
  if (message.reasoning_content) out.reasoning_content = message.reasoning_content;
  return out;
}

/** Parts are joined with a space, as SGLang does for templates that take plain text. */
function toText(content: string | Record<string, unknown>[] | null | undefined, path: string): string {
  if (typeof content === "string") return content;
  return (content ?? [])
    .map((part, i) => {
      const at = `${path}[${i}]`;
      if (part.type === "text" || (part.type === undefined && typeof part.text === "string")) {
        if (typeof part.text === "string") return part.text;
        throw invalid(`${at}.text`, `${at}.text must be a text.`);
      }
      if (typeof part.type !== "string") throw invalid(`${at}.type`, `${at}.type must be "text".`);
      throw unsupported(
        `${at}.type`,
        `content parts of type ${JSON.stringify(part.type)} are not part of this version, only "text"`,
      );
    })
    .join(" ");
}

/** Templates print arguments as JSON themselves, so they are given the parsed object. */
function toCall(given: unknown, path: string): ToolCall {
  const call = parseFields(toolCallSchema, given, { prefix: path });
  const { name, arguments: args } = parseFields(calledFunctionSchema, call.function, { prefix: `${path}.function` });
  const out: ToolCall = {
    type: "function",
    function: { name, arguments: toArguments(args, `${path}.function.arguments`) },
  };
  if (call.id) out.id = call.id;
  return out;
}

function toArguments(
  given: string | Record<string, unknown> | null | undefined,
  path: string,
): Record<string, unknown> {
  if (typeof given !== "string") return given ?? {};
  if (given.trim() === "") return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(given);
  } catch {
    throw invalid(path, `${path} must be the JSON text of an object.`);
  }
  const object = jsonObject().safeParse(parsed);
  if (!object.success) throw invalid(path, `${path} must be the JSON text of ${object.error.issues[0].message}.`);
  return object.data;
}

/** @throws SglangError INVALID_REQUEST or UNSUPPORTED naming `tools[i]...` */
/** `strict`: names of tools whose arguments must fit their parameters. It is no part of what the template shows the model. */
export function toTools(tools: readonly unknown[]): { tools: ToolDefinition[]; strict: Set<string> } {
  const strict = new Set<string>();
  const definitions = tools.map((given, i) => {
    const path = `tools[${i}]`;
    const tool = parseFields(toolSchema, given, { prefix: path });
    if ((tool.type ?? "function") !== "function")
      throw unsupported(`${path}.type`, `only "function" tools are, got ${JSON.stringify(tool.type)}`);
    const described = parseFields(functionSchema, tool.function, { prefix: `${path}.function` });
    if (described.strict) strict.add(described.name);
    const out: ToolDefinition = { type: "function", function: { name: described.name } };
    if (described.description) out.function.description = described.description;
    if (described.parameters) out.function.parameters = described.parameters;
    return out;
  });
  return { tools: definitions, strict };
}
