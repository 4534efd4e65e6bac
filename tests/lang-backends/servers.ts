/** SGLang's and vLLM's servers: generation as scripted, tokenisation and prompt logprobs computed. */
import type { Script } from "../contracts/backend.js";
import type { Received, Reply } from "./loopback.js";
import { scriptedTokenizer } from "./scripted-engine.js";
import { chatReply, completionReply, nativeReply } from "./wire-fakes.js";

const textOfIds = (ids: number[]) => scriptedTokenizer.decode(ids);
const inputLogprob = (ids: readonly number[], at: number) => -(1 + ((ids[at] * 7 + ids[at - 1] * 3) % 50)) / 10;
const notFound: Reply = { status: 404, json: { error: { message: "Not Found" } } };

// Messages are looked into, not modelled.
// biome-ignore lint/suspicious/noExplicitAny: see above
function render(messages: any[]): string {
  return scriptedTokenizer.chatTemplate?.render(messages, { addGenerationPrompt: true }) ?? "";
}

/** @param incremental as under --incremental-streaming-output */
export function sglangServer(incremental: boolean) {
  return (script: Script, request: Received): Reply => {
    const { path, body } = request;
    if (path === "/v1/chat/completions") return chatReply(script, request);
    if (path === "/v1/tokenize") {
      const { prompt, messages, add_special_tokens = true } = body;
      const tokens = messages
        ? scriptedTokenizer.encode(render(messages), false)
        : prompt.map((text: string) => scriptedTokenizer.encode(text, add_special_tokens));
      return { json: { tokens, count: tokens.length, max_model_len: 4096 } };
    }
    if (path === "/v1/detokenize") return { json: { text: textOfIds(body.tokens) } };
    if (path === "/flush_cache") return { text: "Cache flushed." };
    if (path !== "/generate") return notFound;
    if (body.sampling_params.max_new_tokens !== 0) return nativeReply(script, request, incremental);
    const batch: number[][] | undefined = Array.isArray(body.input_ids?.[0]) ? body.input_ids : undefined;
    if (!batch) return { json: prefilled(body.input_ids ?? scriptedTokenizer.encode(body.text)) };
    return { json: batch.map((ids, i) => prefilled(ids, body.return_logprob && body.logprob_start_len[i])) };
  };
}

/** Some versions of SGLang report no logprob for the first position that they report. */
function prefilled(ids: readonly number[], start?: number) {
  const item = (id: number, i: number) => [
    i === 0 ? null : inputLogprob(ids, (start as number) + i),
    id,
    textOfIds([id]),
  ];
  return {
    text: "",
    output_ids: [],
    meta_info: {
      id: "x",
      finish_reason: { type: "length", length: 0 },
      prompt_tokens: ids.length,
      completion_tokens: 0,
      cached_tokens: 0,
      ...(start !== undefined && { input_token_logprobs: ids.slice(start).map(item), output_token_logprobs: [] }),
    },
  };
}

export function vllmServer(script: Script, request: Received): Reply {
  const { path, body } = request;
  if (path === "/v1/chat/completions") return chatReply(script, request);
  if (path === "/tokenize") {
    const { prompt, messages, add_special_tokens = true } = body;
    const tokens = messages
      ? scriptedTokenizer.encode(render(messages), false)
      : scriptedTokenizer.encode(prompt, add_special_tokens);
    return { json: { tokens, count: tokens.length, max_model_len: 4096 } };
  }
  if (path === "/detokenize") return { json: { prompt: textOfIds(body.tokens) } };
  if (path !== "/v1/completions") return notFound;
  if (typeof body.prompt === "string") return completionReply(script, request);
  const batch: number[][] = Array.isArray(body.prompt[0]) ? body.prompt : [body.prompt];
  const choices = batch.map((ids, index) => ({
    index,
    text: "!",
    finish_reason: "length",
    prompt_logprobs:
      body.prompt_logprobs === undefined
        ? null
        : ids.map((id, at) =>
            at === 0 ? null : { [id]: { logprob: inputLogprob(ids, at), rank: 3, decoded_token: textOfIds([id]) } },
          ),
  }));
  const prompt_tokens = batch.reduce((sum, ids) => sum + ids.length, 0);
  const usage = { prompt_tokens, completion_tokens: batch.length, total_tokens: prompt_tokens + batch.length };
  return { json: { id: "cmpl-1", object: "text_completion", model: body.model, choices, usage } };
}
