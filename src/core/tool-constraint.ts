/** Tool calls that are enforced: what a request demands of them, as a constraint on the answer. */
import type { Constraint } from "./protocol.js";

/** What a tool call must look like, for requests that demand one or offer strict tools. */
export interface ToolDemand {
  tools: readonly { name: string; parameters: unknown; strict: boolean }[];
  /** At least one call and nothing else; null: text with calls in it. */
  required: boolean;
  /** No second call. */
  single: boolean;
}

const CALL_OPEN = "<tool_call>";
const CALL_CLOSE = "}\n</tool_call>";

/** Calls as Qwen and Hermes models write them (tool-calls.ts), as a structural tag. */
export function toolConstraint({ tools, required, single }: ToolDemand): Constraint {
  const tags = tools.map(({ name, parameters, strict }) => ({
    begin: `${CALL_OPEN}\n{"name": ${JSON.stringify(name)}, "arguments": `,
    // A call that was demanded is held to its parameters; of one that was offered only strict tools ask for it.
    content: { type: "json_schema", json_schema: required || strict ? (parameters ?? ANY_ARGUMENTS) : ANY_ARGUMENTS },
    end: CALL_CLOSE,
  }));
  const format = required
    ? { type: "tags_with_separator", tags, separator: "\n", at_least_one: true, stop_after_first: single }
    : { type: "triggered_tags", triggers: [CALL_OPEN], tags, stop_after_first: single };
  return { type: "structuralTag", tag: { type: "structural_tag", format } };
}

const ANY_ARGUMENTS = { type: "object" };
