/** A language model of the AI SDK that answers what it is told, in the shapes of specification v2, v3 or v4. */
import type { AiSdkCall, AiSdkModel, AiSdkPart, AiSdkResult } from "../../src/lang/backends/ai-sdk.js";
import type { Script } from "../contracts/backend.js";

export interface ScriptedModel extends AiSdkModel {
  calls: AiSdkCall[];
  abandoned: number;
  script: Script;
  failure: { status: number; message: string } | null;
  warnings: AiSdkResult["warnings"];
}

export function aiSdkModel(version: "v2" | "v3" | "v4"): ScriptedModel {
  const words = { stop: "stop", length: "length", toolCalls: "tool-calls", contentFilter: "content-filter" } as const;
  const finishReason = () => {
    const word = words[model.script.answers[0].finish];
    return version === "v2" ? word : { unified: word, raw: word };
  };
  const usage = () => {
    const { promptTokens, completionTokens, cachedTokens } = model.script.usage;
    if (version === "v2") {
      return { inputTokens: promptTokens, outputTokens: completionTokens, cachedInputTokens: cachedTokens };
    }
    const inputTokens = { total: promptTokens, noCache: promptTokens - cachedTokens, cacheRead: cachedTokens };
    return { inputTokens, outputTokens: { total: completionTokens, text: completionTokens } };
  };
  const begin = (call: AiSdkCall) => {
    model.calls.push(call);
    if (!model.failure) return;
    const { status: statusCode, message } = model.failure;
    throw Object.assign(new Error(message), { statusCode, isRetryable: statusCode >= 500 });
  };
  const toolCalls = () =>
    (model.script.answers[0].toolCalls ?? []).map(({ id, name, arguments: input }) => ({
      type: "tool-call",
      toolCallId: id,
      toolName: name,
      input,
    }));
  const parts = (): AiSdkPart[] => {
    const [{ pieces, reasoning }] = model.script.answers;
    return [
      { type: "stream-start", warnings: model.warnings },
      { type: "response-metadata" },
      ...(reasoning
        ? [{ type: "reasoning-start" }, { type: "reasoning-delta", delta: reasoning }, { type: "reasoning-end" }]
        : []),
      { type: "text-start" },
      ...pieces.map((delta) => ({ type: "text-delta", delta })),
      ...(model.script.hangs
        ? []
        : [{ type: "text-end" }, ...toolCalls(), { type: "finish", finishReason: finishReason(), usage: usage() }]),
    ];
  };
  const model: ScriptedModel = {
    specificationVersion: version,
    provider: "scripted.chat",
    modelId: "m",
    calls: [],
    abandoned: 0,
    failure: null,
    warnings: [],
    script: { answers: [], usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 } },
    async doGenerate(call) {
      begin(call);
      const [{ pieces, reasoning }] = model.script.answers;
      return {
        content: [
          ...(reasoning ? [{ type: "reasoning", text: reasoning }] : []),
          { type: "text", text: pieces.join("") },
          ...toolCalls(),
        ],
        finishReason: finishReason(),
        usage: usage(),
        warnings: model.warnings,
      };
    },
    async doStream(call) {
      begin(call);
      const queue = parts();
      const { hangs } = model.script;
      const stream = new ReadableStream<AiSdkPart>({
        start(controller) {
          call.abortSignal?.addEventListener("abort", () => {
            model.abandoned += 1;
            controller.error(call.abortSignal?.reason);
          });
        },
        pull(controller) {
          const part = queue.shift();
          if (part) controller.enqueue(part);
          else if (!hangs) controller.close();
        },
        cancel() {
          model.abandoned += 1;
        },
      });
      return { stream };
    },
  };
  return model;
}
