/** Tools: functions that a model may call. With `execute` the language runs them itself, without it the program does. */
import { invalidField, SglangError } from "../core/errors.js";
import { didYouMean } from "../core/near-miss.js";
import type { ToolCall, ToolDefinition } from "../core/protocol.js";
import { type Schema, type SchemaValue, toJsonSchema, validateValue } from "./schema.js";

export interface Tool<P extends Schema = Schema> {
  description?: string;
  /** What the tool takes: an object schema. @default no arguments */
  parameters?: P;
  /** Its calls are held to `parameters` by the backend, token by token. @default false */
  strict?: boolean;
  /** Runs a call. The result goes into the prompt: texts as they are, anything else as JSON. */
  execute?: (args: SchemaValue<P>, call: { id: string; signal: AbortSignal }) => unknown;
}

/** Names to tools. */
export type Tools = Readonly<Record<string, Tool>>;

/** A tool whose `execute` is typed from its `parameters`. */
export function tool<const P extends Schema>(definition: Tool<P>): Tool {
  return definition as unknown as Tool;
}

const TOOL_KEYS = ["description", "parameters", "strict", "execute"] as const satisfies readonly (keyof Tool)[];

/** @throws SglangError INVALID_REQUEST for a list (tools have their names as keys here) and for an unknown key of a tool */
export function checkTools(tools: Tools): void {
  if (typeof tools !== "object" || tools === null || Array.isArray(tools))
    throw invalidField(
      "gen option tools",
      "an object of tools by name, such as { weather: { parameters, execute } }",
      tools,
    );
  for (const [name, tool] of Object.entries(tools)) {
    for (const key of Object.keys(tool)) {
      if (!(TOOL_KEYS as readonly string[]).includes(key))
        throw invalidField(`Every key of tool "${name}"`, `one of ${TOOL_KEYS.join(", ")}`, key);
    }
  }
}

export function toolDefinitions(tools: Tools): ToolDefinition[] {
  return Object.entries(tools).map(([name, { description, parameters, strict }]) => ({
    type: "function",
    function: {
      name,
      ...(description === undefined ? {} : { description }),
      parameters: parameters
        ? toJsonSchema(parameters)
        : { type: "object", properties: {}, additionalProperties: false },
      ...(strict && { strict }),
    },
  }));
}

/** Text of a value in a prompt: texts as they are, anything else as JSON. */
export function toolResultText(result: unknown): string {
  if (typeof result === "string") return result;
  return result === undefined ? "" : JSON.stringify(result);
}

/**
 * Runs one call. What the model got wrong (unknown tool, arguments that do not fit) goes back to it as the result; what
 * the tool itself throws ends the generation.
 */
export async function executeTool(tools: Tools, call: ToolCall, signal: AbortSignal): Promise<string> {
  const { name, arguments: given } = call.function;
  const found = Object.hasOwn(tools, name) ? tools[name] : undefined;
  if (!found) return `Error: there is no tool "${name}".${didYouMean(name, Object.keys(tools))}`;
  if (!found.execute) {
    throw new SglangError("INVALID_REQUEST", `Tool "${name}" has no execute, but others in the same gen have one.`, {
      field: `tools.${name}.execute`,
    });
  }
  let args: unknown;
  try {
    args = typeof given === "string" ? JSON.parse(given === "" ? "{}" : given) : given;
    if (found.parameters) args = await validateValue(found.parameters, args, name);
  } catch (error) {
    return `Error: ${(error as Error).message}`;
  }
  return toolResultText(await found.execute(args, { id: call.id ?? "", signal }));
}
