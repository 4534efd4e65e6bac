/** POST /v1/chat/completions. */
import { randomUUID } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { FinishReason, GenerateChunk } from "../core/protocol.js";
import { ToolCallParser } from "../core/tool-calls.js";
import type { ServerContext } from "./context.js";
import { abortError, replyError } from "./error-reply.js";
import { type ChatPlan, toChatPlan } from "./openai-chat-request.js";
import { matchedStop, UsageTally, unixSeconds } from "./openai-common.js";
import { chatLogprobs } from "./openai-logprobs.js";
import { chatSchema } from "./openai-schema.js";
import { describeRoute } from "./openapi.js";
import { runRequests, streamReply } from "./run-requests.js";

interface WireToolCall {
  id: string;
  index: number;
  type: "function";
  function: { name: string; arguments: string };
}

/** What one chunk adds to an answer. */
interface ChatDelta {
  reasoning: string;
  content: string;
  toolCalls: WireToolCall[];
  logprobs: Record<string, unknown>[];
}

/** One choice: its chunks go in, what may be said goes out. */
class ChatAnswer {
  readonly #parser: ToolCallParser | null;
  readonly #context: ServerContext;
  readonly #streamsReasoning: boolean;
  /** Thinking that waits for the answer to begin. */
  #reasoning = "";
  #calls = 0;
  finish: FinishReason | null = null;

  constructor(context: ServerContext, { toolNames, reasoning }: ChatPlan) {
    this.#context = context;
    this.#parser = toolNames && new ToolCallParser(toolNames);
    this.#streamsReasoning = reasoning?.stream ?? false;
  }

  add(chunk: GenerateChunk): ChatDelta {
    const delta: ChatDelta = { reasoning: "", content: "", toolCalls: [], logprobs: [] };
    if (chunk.logprobs) delta.logprobs = chatLogprobs(chunk.logprobs, this.#context.tokenizer);
    this.finish = chunk.finishReason;
    this.#addText(delta, chunk);
    this.#reasoning += chunk.reasoningDelta ?? "";
    if (this.#streamsReasoning || chunk.finishReason || delta.content !== "" || delta.toolCalls.length > 0) {
      delta.reasoning = this.#reasoning;
      this.#reasoning = "";
    }
    return delta;
  }

  #addText(delta: ChatDelta, chunk: GenerateChunk): void {
    if (!this.#parser) {
      delta.content = chunk.textDelta;
      return;
    }
    const events = this.#parser.push(chunk.textDelta);
    if (chunk.finishReason) events.push(...this.#parser.flush());
    for (const event of events) {
      if (event.type === "text") {
        delta.content += event.text;
        continue;
      }
      const { name, arguments: args } = event;
      const id = `call_${randomUUID().replaceAll("-", "").slice(0, 24)}`;
      delta.toolCalls.push({ id, index: this.#calls++, type: "function", function: { name, arguments: args } });
    }
  }

  get finishReason(): string | null {
    if (!this.finish) return null;
    return this.finish.type === "stop" && this.#calls > 0 ? "tool_calls" : this.finish.type;
  }
}

export async function handleChat(
  context: ServerContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const plan = toChatPlan(request.body, context);
  return plan.stream ? streamChat(context, reply, plan) : wholeChat(context, reply, plan);
}

export function registerChat(app: FastifyInstance, context: ServerContext): void {
  const schema = describeRoute("openai", "Chat completions", chatSchema);
  app.post("/v1/chat/completions", { schema }, (request, reply) => handleChat(context, request, reply));
  // SageMaker's name for the same route.
  app.post("/invocations", { schema }, (request, reply) => handleChat(context, request, reply));
}

async function wholeChat(context: ServerContext, reply: FastifyReply, plan: ChatPlan): Promise<unknown> {
  const created = unixSeconds();
  const tally = new UsageTally(plan.n, plan.cacheReport);
  const wholes = Array.from({ length: plan.n }, () => ({
    answer: new ChatAnswer(context, plan),
    reasoning: "",
    content: "",
    toolCalls: [] as WireToolCall[],
    logprobs: [] as Record<string, unknown>[],
  }));
  await runRequests(context, {
    requests: [plan.request],
    reply,
    onChunk: (_, chunk) => {
      tally.add(chunk.index, chunk);
      const whole = wholes[chunk.index];
      const delta = whole.answer.add(chunk);
      whole.reasoning += delta.reasoning;
      whole.content += delta.content;
      whole.toolCalls.push(...delta.toolCalls);
      for (const entry of delta.logprobs) whole.logprobs.push(entry);
      return undefined;
    },
  });
  const choices = wholes.map(({ answer, reasoning, content, toolCalls, logprobs }, index) => {
    const error = replyError(answer.finish);
    if (error) throw error;
    return {
      index,
      message: {
        role: "assistant",
        content: content === "" && toolCalls.length > 0 ? null : content,
        reasoning_content: reasoning === "" ? null : reasoning,
        tool_calls: toolCalls.length > 0 ? toolCalls : null,
      },
      logprobs: plan.request.logprobs ? { content: logprobs } : null,
      finish_reason: answer.finishReason,
      matched_stop: matchedStop(answer.finish),
    };
  });
  return { id: plan.request.rid, object: "chat.completion", created, model: plan.model, choices, usage: tally.total() };
}

async function streamChat(context: ServerContext, reply: FastifyReply, plan: ChatPlan): Promise<void> {
  const created = unixSeconds();
  const tally = new UsageTally(plan.n, plan.cacheReport);
  const answers = Array.from({ length: plan.n }, () => ({
    answer: new ChatAnswer(context, plan),
    begun: false,
    /** Logprobs of tokens whose text is still held back. */
    logprobs: [] as Record<string, unknown>[],
  }));
  const event = (choices: unknown[]) => ({
    id: plan.request.rid,
    object: "chat.completion.chunk",
    created,
    model: plan.model,
    choices,
    usage: plan.usage.continuous ? tally.total() : null,
  });
  await streamReply(context, reply, async (stream) => {
    await runRequests(context, {
      requests: [plan.request],
      reply,
      onChunk: (_, chunk) => {
        const { index } = chunk;
        const state = answers[index];
        const error = abortError(chunk.finishReason);
        if (error) throw error;
        tally.add(index, chunk);
        const { reasoning, content, toolCalls, logprobs } = state.answer.add(chunk);
        for (const entry of logprobs) state.logprobs.push(entry);
        const send = (delta: Record<string, unknown>, finish = false) => {
          const pending = state.logprobs;
          const carries = plan.request.logprobs && pending.length > 0 && !("role" in delta);
          if (carries) state.logprobs = [];
          return stream.send(
            event([
              {
                index,
                delta,
                logprobs: carries ? { content: pending } : null,
                finish_reason: finish ? state.answer.finishReason : null,
                matched_stop: finish ? matchedStop(chunk.finishReason) : null,
              },
            ]),
          );
        };
        let held: Promise<void> | undefined;
        if (!state.begun) held = send({ role: "assistant", content: "" });
        state.begun = true;
        if (reasoning !== "") held = send({ reasoning_content: reasoning });
        if (content !== "") held = send({ content });
        for (const call of toolCalls) held = send({ tool_calls: [call] });
        if (chunk.finishReason) held = send({}, true);
        return held;
      },
    });
    if (plan.usage.last) stream.send({ ...event([]), usage: tally.total() });
  });
}
