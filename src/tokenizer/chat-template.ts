/**
 * Chat templates: the Jinja that a model ships, rendered as transformers' apply_chat_template renders it, with
 * messages prepared as SGLang prepares them.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { invalidField, SglangError } from "../core/errors.js";
import type { ChatMessage } from "../core/protocol.js";
import {
  type Node,
  PYTHON_GLOBALS,
  rstrip,
  strftime,
  stripBoth,
  usePythonSemantics,
  visitNodes,
} from "./jinja-python.js";
import type { ChatTemplate } from "./tokenizer.js";
import type { Json, NamedTemplate } from "./tokenizer-spec.js";

export interface ChatTemplateSet {
  /** "default", "tool_use" (taken when tools are given), and others a caller can't choose. */
  templates: readonly NamedTemplate[];
  /** bos_token, eos_token, ... */
  variables?: Readonly<Record<string, unknown>>;
}

type RenderOptions = NonNullable<Parameters<ChatTemplate["render"]>[1]>;

/** Marks where the final message ends, so that what the template appends to it can be cut off. */
const CONTINUE_TAG = "CONTINUE_FINAL_MESSAGE_TAG ";
/** Variables that are ours to set. */
const RESERVED = ["messages", "tools", "add_generation_prompt"];

/** @throws SglangError INVALID_REQUEST when there is no template. */
export function createChatTemplate(set: ChatTemplateSet): ChatTemplate {
  const byName = new Map(set.templates.map(({ name, template }) => [name, new CompiledTemplate(template)]));
  const plain = byName.get("default") ?? (set.templates.length === 1 ? byName.get(set.templates[0]!.name) : undefined);
  const toolUse = byName.get("tool_use") ?? plain;
  return {
    source: plain?.source ?? set.templates[0]!.template,
    render: (messages, options = {}) => {
      const template = options.tools !== undefined && options.tools.length > 0 ? toolUse : plain;
      if (template === undefined) {
        throw new SglangError(
          "INVALID_REQUEST",
          `The model has chat templates named ${[...byName.keys()].join(", ")} and none named default; give one with --chat-template.`,
        );
      }
      return renderChat(template, messages, options, set.variables ?? {});
    },
  };
}

function renderChat(
  template: CompiledTemplate,
  messages: readonly ChatMessage[],
  options: RenderOptions,
  variables: Readonly<Record<string, unknown>>,
): string {
  const continues = options.continueFinalMessage === true;
  if (continues && options.addGenerationPrompt === true) {
    throw invalidField("continue_final_message", "false when add_generation_prompt is true", true);
  }
  for (const name of RESERVED) {
    if (options.kwargs !== undefined && Object.hasOwn(options.kwargs, name)) {
      throw invalidField(
        `chat_template_kwargs.${name}`,
        "absent, since the request itself sets it",
        options.kwargs[name],
      );
    }
  }
  const prepared = messages.map((message, i) => prepareMessage(message, i, template.takesParts));
  const finalText = continues ? tagFinalMessage(prepared) : "";
  const context = {
    tools: options.tools !== undefined && options.tools.length > 0 ? options.tools : null,
    documents: null,
    ...variables,
    ...options.kwargs,
    messages: prepared,
    add_generation_prompt: !continues && (options.addGenerationPrompt ?? true),
  };
  const rendered = template.render(context);
  return continues ? cutAfterFinalMessage(rendered, finalText) : rendered;
}

/** As SGLang: no content is "", absent fields are left out, tool arguments are objects, text parts become one text. */
function prepareMessage(message: ChatMessage, index: number, takesParts: boolean): Json {
  const prepared: Json = {};
  // gpt-oss templates read the reasoning under this name, as transformers provides it.
  if (message.reasoning_content != null) prepared.thinking = message.reasoning_content;
  for (const [key, value] of Object.entries(message)) if (value !== undefined && value !== null) prepared[key] = value;
  if (!Array.isArray(message.content)) prepared.content = message.content ?? "";
  else if (!takesParts) prepared.content = message.content.map((part) => part.text).join(" ");
  else prepared.content = message.content.map((part) => ({ ...part }));
  if (message.tool_calls != null) {
    prepared.tool_calls = message.tool_calls.map((call, i) => ({
      ...call,
      function: {
        ...call.function,
        arguments: parseArguments(call.function.arguments, `messages[${index}].tool_calls[${i}].function.arguments`),
      },
    }));
  }
  return prepared;
}

/** Templates want the arguments themselves, not their JSON text. */
function parseArguments(value: string | Record<string, unknown>, field: string): unknown {
  if (typeof value !== "string") return value ?? {};
  if (value.trim() === "") return {};
  try {
    return JSON.parse(value);
  } catch {
    throw invalidField(field, "an object or its JSON text", value);
  }
}

/** Appends the tag to the final message's text. @returns the text without it. */
function tagFinalMessage(messages: readonly Json[]): string {
  const final = messages.at(-1);
  const content = final?.content;
  if (typeof content === "string") {
    final!.content = content + CONTINUE_TAG;
    return content;
  }
  const part = Array.isArray(content)
    ? (content as { text: string }[]).findLast((item) => typeof item.text === "string")
    : undefined;
  if (part === undefined) throw invalidField("messages", "a list whose final message has text to continue", "none");
  const text = part.text;
  part.text = text + CONTINUE_TAG;
  return text;
}

function cutAfterFinalMessage(rendered: string, finalText: string): string {
  const at = rendered.lastIndexOf(CONTINUE_TAG.trimEnd());
  if (at === -1 || !rendered.includes(stripBoth(finalText))) {
    throw new SglangError(
      "INVALID_REQUEST",
      "continue_final_message is set, but the chat template leaves out or rewrites the final message; send the prompt as text instead.",
      {
        field: "continue_final_message",
      },
    );
  }
  // Where the template trimmed the message, the tag's own space is gone, and the message's last spaces go with it.
  return rendered.startsWith(CONTINUE_TAG, at) ? rendered.slice(0, at) : rstrip(rendered.slice(0, at));
}

/** Thrown by a template's own `raise_exception`. */
class TemplateRaised extends Error {}

class CompiledTemplate {
  readonly source: string;
  #program: ReturnType<typeof parse> | null = null;
  #takesParts = false;

  constructor(source: string) {
    this.source = source;
  }

  /** The template walks through a message's content itself, so a list of parts is kept. */
  get takesParts(): boolean {
    this.#compile();
    return this.#takesParts;
  }

  render(context: Readonly<Record<string, unknown>>): string {
    const program = this.#compile();
    const variables: Record<string, unknown> = { ...globals(), ...PYTHON_GLOBALS, ...context };
    try {
      const environment = new Environment();
      for (const [name, value] of Object.entries(variables)) {
        // "namespace" is the library's own and comes with the environment.
        if (name !== "namespace") environment.set(name, plain(value));
      }
      return new Interpreter(environment).run(program).value as string;
    } catch (error) {
      if (error instanceof TemplateRaised)
        throw new SglangError("INVALID_REQUEST", error.message, { field: "messages" });
      const reason = error instanceof Error ? error.message : String(error);
      throw new SglangError(
        "INVALID_REQUEST",
        `The chat template can't render these messages: ${reason}.`,
        { field: "messages" },
        { cause: error },
      );
    }
  }

  /** Parsed on first use: a model whose template can't be read still completes text. */
  #compile(): ReturnType<typeof parse> {
    if (this.#program !== null) return this.#program;
    try {
      const program = parse(tokenize(this.source, { lstrip_blocks: true, trim_blocks: true }));
      this.#takesParts = walksContent(program);
      usePythonSemantics(program);
      this.#program = program;
      return program;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SglangError(
        "UNSUPPORTED_MODEL",
        `The model's chat template can't be parsed by this version: ${reason}.`,
        { field: "chat_template" },
        { cause: error },
      );
    }
  }
}

function globals(): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    raise_exception: (message: unknown) => {
      throw new TemplateRaised(String(message));
    },
    strftime_now: (format: string) => strftime(new Date(), format),
  };
}

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0) throw new Error("range() arg 3 must not be zero");
  const length = Math.max(0, Math.ceil((to - from) / step));
  // The same bound as Jinja's sandbox: a template must not be able to eat the memory.
  if (length > 100_000) throw new Error("range() is longer than 100000");
  return Array.from({ length }, (_, i) => from + i * step);
}

/** Request data as the interpreter takes it: no undefined members, no functions. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => plain(item ?? null));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, plain(item)]),
  );
}

/** Does any loop run over `<message>.content`, or over a variable called content? As SGLang's format detection. */
function walksContent(program: unknown): boolean {
  let found = false;
  visitNodes(program, (node) => {
    if (node.type === "For" && isContent(node.iterable as Node)) found = true;
  });
  return found;
}

function isContent(node: Node | undefined): boolean {
  switch (node?.type) {
    case "Identifier":
    case "StringLiteral":
      return node.value === "content";
    case "MemberExpression":
      return isContent(node.property as Node) || isContent(node.object as Node);
    case "FilterExpression":
      return isContent(node.operand as Node);
    case "SelectExpression":
      return isContent(node.lhs as Node);
    default:
      return false;
  }
}
