/** Replies of Anthropic's messages API: whole ones and event streams to deltas. */
import type { ToolCall } from "../../core/protocol.js";
import type { BackendDelta, BackendFinish, BackendUsage } from "./backend.js";
import type { HttpClient } from "./http.js";
import type { SseEvent } from "./sse.js";

interface WireBlock {
  type: string;
  text?: string;
  thinking?: string;
  id?: string;
  name?: string;
  input?: unknown;
}
interface WireUsage {
  input_tokens?: number | null;
  cache_read_input_tokens?: number | null;
  cache_creation_input_tokens?: number | null;
  output_tokens?: number | null;
}
interface WireStop {
  stop_reason?: string | null;
  stop_sequence?: string | null;
}
interface WireMessage extends WireStop {
  content?: WireBlock[];
  usage?: WireUsage;
}
interface WireEvent {
  type: string;
  index?: number;
  message?: WireMessage;
  content_block?: WireBlock;
  delta?: WireStop & { type?: string; text?: string; thinking?: string; partial_json?: string };
  usage?: WireUsage;
  error?: { type?: string; message?: string };
}

const FINISH: Readonly<Record<string, BackendFinish>> = {
  end_turn: "stop",
  stop_sequence: "stop",
  max_tokens: "length",
  model_context_window_exceeded: "length",
  tool_use: "toolCalls",
  refusal: "contentFilter",
};
/** Statuses of errors that come inside a stream. */
const STATUS: Readonly<Record<string, number>> = { overloaded_error: 529, rate_limit_error: 429, api_error: 500 };

export class AnthropicReader {
  readonly #client: HttpClient;
  readonly #path: string;
  /** Tool calls whose arguments are still coming, by block. */
  readonly #open = new Map<number, { id: string; name: string; json: string }>();
  #usage: WireUsage = {};
  #stop: WireStop = {};

  constructor(client: HttpClient, path: string) {
    this.#client = client;
    this.#path = path;
  }

  /** @throws BackendError when the reply is not a finished message */
  whole(reply: unknown): BackendDelta {
    const { content = [], usage = {}, stop_reason, stop_sequence } = reply as WireMessage;
    this.#usage = usage;
    this.#stop = { stop_reason, stop_sequence };
    const of = (type: string) => content.filter((block) => block.type === type);
    const toolCalls = of("tool_use").map(({ id = "", name = "", input }) =>
      call(id, name, JSON.stringify(input ?? {})),
    );
    const reasoning = of("thinking")
      .map(({ thinking }) => thinking ?? "")
      .join("");
    return {
      ...this.#end(),
      text: of("text")
        .map(({ text }) => text ?? "")
        .join(""),
      ...(reasoning && { reasoning }),
      ...(toolCalls.length > 0 && { toolCalls }),
    };
  }

  /** @throws BackendError when an event reports an error, or the stream ends before the message does */
  async *stream(events: AsyncIterable<SseEvent>): AsyncGenerator<BackendDelta, void, undefined> {
    for await (const { data } of events) {
      const event = this.#parse(data);
      if (event.type === "message_stop") {
        yield this.#end();
        return;
      }
      const delta = this.#read(event);
      if (delta) yield delta;
    }
    throw this.#client.protocolError(this.#path, "a stream that ends before its message is complete");
  }

  #parse(data: string): WireEvent {
    try {
      return JSON.parse(data) as WireEvent;
    } catch (cause) {
      throw this.#client.protocolError(this.#path, `an event that is not JSON: ${data.slice(0, 200)}`, { cause });
    }
  }

  #read({ type, index = 0, message, content_block: block, delta, usage, error }: WireEvent): BackendDelta | undefined {
    if (type === "error")
      throw this.#client.reportedError(this.#path, error?.message ?? "no reason given", STATUS[error?.type ?? ""]);
    if (type === "message_start") this.#usage = { ...message?.usage };
    if (type === "message_delta") {
      this.#stop = { ...delta };
      for (const [key, value] of Object.entries(usage ?? {}))
        if (value !== null) this.#usage[key as keyof WireUsage] = value;
    }
    if (type === "content_block_start" && block?.type === "tool_use")
      this.#open.set(index, { id: block.id ?? "", name: block.name ?? "", json: "" });
    if (type === "content_block_start" && block?.text) return { index: 0, text: block.text };
    if (type === "content_block_delta" && delta?.text) return { index: 0, text: delta.text };
    if (type === "content_block_delta" && delta?.thinking) return { index: 0, text: "", reasoning: delta.thinking };
    const open = this.#open.get(index);
    if (open && type === "content_block_delta") open.json += delta?.partial_json ?? "";
    if (open && type === "content_block_stop") {
      this.#open.delete(index);
      return { index: 0, text: "", toolCalls: [call(open.id, open.name, open.json || "{}")] };
    }
    return undefined;
  }

  #end(): BackendDelta {
    const { stop_reason, stop_sequence } = this.#stop;
    const finish = FINISH[stop_reason ?? ""];
    if (!finish) throw this.#client.protocolError(this.#path, `the unknown stop_reason ${JSON.stringify(stop_reason)}`);
    return {
      index: 0,
      text: "",
      finish,
      ...(stop_sequence && { matched: stop_sequence }),
      usage: toUsage(this.#usage),
    };
  }
}

function call(id: string, name: string, args: string): ToolCall {
  return { id, type: "function", function: { name, arguments: args } };
}

/** The API counts cached and uncached prompt tokens apart. */
function toUsage(usage: WireUsage): BackendUsage {
  const cachedTokens = usage.cache_read_input_tokens ?? 0;
  return {
    promptTokens: (usage.input_tokens ?? 0) + cachedTokens + (usage.cache_creation_input_tokens ?? 0),
    completionTokens: usage.output_tokens ?? 0,
    cachedTokens,
  };
}
