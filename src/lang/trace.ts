/** What happened in a run, as a tree: states, the text they wrote, their calls, their forks. */
import type { BackendUsage } from "./backends/backend.js";
import type { Meta } from "./variable.js";

export type TraceEvent =
  | { type: "text"; text: string }
  | { type: "turn"; role: string }
  | { type: "image"; media: "image" | "video" }
  /** A variable of another state, used as text. */
  | { type: "variable"; name: string; text: string }
  | { type: "tool"; tool: string; arguments: string; result: string }
  | TraceCall
  | { type: "fork"; children: TraceState[] }
  | { type: "join"; mode: "gather" | "concatenate"; children: readonly string[] }
  /** Something that did not stop the program, such as a prefix hint that the backend refused. */
  | { type: "warning"; message: string };

export interface TraceCall {
  type: "call";
  kind: "gen" | "select";
  name: string;
  /** null until it is done. */
  meta: Meta | null;
  value?: unknown;
  error?: string;
}

export interface TraceState {
  id: string;
  /** What `fork` was given for it, or the program's name. */
  label: string;
  startMs: number;
  endMs: number | null;
  events: TraceEvent[];
}

export interface TraceUsage extends BackendUsage {
  calls: number;
  /** By `pricing`, or null without one. */
  cost: number | null;
}

export interface TraceData {
  program: string;
  backend: string;
  root: TraceState;
  usage: TraceUsage;
  /** Why a symbolic trace ended before the program did. */
  stopped?: string;
}

export class Trace implements TraceData {
  readonly program: string;
  readonly backend: string;
  readonly root: TraceState;
  readonly usage: TraceUsage;
  readonly stopped?: string;

  constructor(data: TraceData) {
    this.program = data.program;
    this.backend = data.backend;
    this.root = data.root;
    this.usage = data.usage;
    if (data.stopped !== undefined) this.stopped = data.stopped;
  }

  /** Every state, parents before children. */
  states(): TraceState[] {
    const found: TraceState[] = [];
    const visit = (state: TraceState) => {
      found.push(state);
      for (const event of state.events) if (event.type === "fork") event.children.forEach(visit);
    };
    visit(this.root);
    return found;
  }

  /** Every gen and select, in order of their states. */
  calls(): (TraceCall & { state: string })[] {
    return this.states().flatMap(({ id, events }) =>
      events.filter((event) => event.type === "call").map((call) => ({ ...call, state: id })),
    );
  }

  /** The tree as indented lines. */
  toString(): string {
    const lines: string[] = [];
    const visit = (state: TraceState, indent: string) => {
      lines.push(`${indent}state ${state.id}${state.label ? ` ${state.label}` : ""}`);
      for (const event of state.events) {
        if (event.type === "fork") {
          lines.push(`${indent}  fork ${event.children.length}`);
          for (const child of event.children) visit(child, `${indent}    `);
        } else {
          lines.push(`${indent}  ${eventLine(event)}`);
        }
      }
    };
    visit(this.root, "");
    if (this.stopped !== undefined) lines.push(`stopped: ${this.stopped}`);
    return lines.join("\n");
  }

  /** One self-contained page. */
  async toHTML(): Promise<string> {
    const { traceHtml } = await import("./trace-html.js");
    return traceHtml(this);
  }
}

const quote = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);

function eventLine(event: Exclude<TraceEvent, { type: "fork" }>): string {
  switch (event.type) {
    case "text":
      return `text ${quote(event.text)}`;
    case "turn":
      return `turn ${event.role}`;
    case "image":
      return event.media;
    case "variable":
      return `use ${event.name} ${quote(event.text)}`;
    case "tool":
      return `tool ${event.tool}(${event.arguments}) -> ${quote(event.result)}`;
    case "join":
      return `join ${event.mode} ${event.children.join(" ")}`;
    case "warning":
      return `warning ${event.message}`;
    case "call": {
      const head = `${event.kind} ${event.name}`;
      if (event.error !== undefined) return `${head} failed: ${event.error}`;
      if (!event.meta) return `${head} ...`;
      const { promptTokens, cachedTokens, completionTokens } = event.meta.usage;
      const tokens =
        event.meta.attempts > 0 ? ` [${promptTokens} prompt, ${cachedTokens} cached, ${completionTokens} new]` : "";
      return `${head} = ${quote(event.meta.text)}${tokens}`;
    }
  }
}
