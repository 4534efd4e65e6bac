/** POST /tokenize and /detokenize (also under /v1). */

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { SglangError } from "../core/errors.js";
import { toMessages, toTools } from "./chat-messages.js";
import type { ServerContext, ServerTokenizer } from "./context.js";
import { field, flag, jsonObject, list, listOfAny, oneOrMany, TOKEN, text } from "./fields.js";
import { describeRoute } from "./openapi.js";
import { invalid, parseFields, unsupported } from "./validation.js";

const tokenizeSchema = z.object({
  model: text().nullish(),
  prompt: oneOrMany().nullish(),
  messages: listOfAny("a list of messages").nullish(),
  tools: listOfAny("a list of tools").nullish(),
  tool_choice: z.enum(["none", "auto"], { error: '"none" or "auto"' }).nullish(),
  chat_template_kwargs: jsonObject().nullish(),
  continue_final_message: flag().nullish(),
  add_special_tokens: flag().nullish(),
});
const detokenizeSchema = z.object({
  model: text().nullish(),
  tokens: field("a list of token ids or a list of such lists", list(TOKEN), list(list(TOKEN))),
  skip_special_tokens: flag().nullish(),
});

const nextTick = () => new Promise<void>((resolve) => setImmediate(resolve));

export function registerTokenize(app: FastifyInstance, context: ServerContext): void {
  for (const url of ["/tokenize", "/v1/tokenize"]) {
    app.post(url, { schema: describeRoute("native", "Text or messages to token ids", tokenizeSchema) }, (request) =>
      tokenize(context, request.body),
    );
  }
  for (const url of ["/detokenize", "/v1/detokenize"]) {
    app.post(url, { schema: describeRoute("native", "Token ids to text", detokenizeSchema) }, (request) =>
      detokenize(context, request.body),
    );
  }
}

async function tokenize(context: ServerContext, body: unknown) {
  const given = parseFields(tokenizeSchema, body, { hints: { text: "prompt", input: "prompt" } });
  const tokenizer = requireTokenizer(context);
  const max_model_len = context.engine.model.contextLength;
  const encode = async (text: string, special: boolean) => {
    if (context.engine.encode) return context.engine.encode(text, special);
    await nextTick();
    return tokenizer.encode(text, special);
  };
  const { prompt, messages } = given;
  if (((prompt ?? null) === null) === ((messages ?? null) === null))
    throw invalid("prompt", "Give exactly one of prompt and messages.");
  if (messages) {
    if (!tokenizer.chatTemplate) throw unsupported("messages", "this model has no chat template");
    const rendered = tokenizer.chatTemplate.render(toMessages(messages), {
      tools: given.tool_choice === "none" || !given.tools?.length ? undefined : toTools(given.tools).tools,
      continueFinalMessage: given.continue_final_message ?? false,
      addGenerationPrompt: !given.continue_final_message,
      kwargs: given.chat_template_kwargs ?? {},
    });
    // The template writes the special tokens itself.
    const tokens = await encode(rendered, false);
    return { tokens, count: tokens.length, max_model_len };
  }
  const special = given.add_special_tokens ?? true;
  if (typeof prompt === "string") {
    const tokens = await encode(prompt, special);
    return { tokens, count: tokens.length, max_model_len };
  }
  const tokens: (readonly number[])[] = [];
  for (const one of prompt ?? []) tokens.push(await encode(one, special));
  return { tokens, count: tokens.map((ids) => ids.length), max_model_len };
}

async function detokenize(context: ServerContext, body: unknown) {
  const given = parseFields(detokenizeSchema, body, { hints: { input_ids: "tokens", token_ids: "tokens" } });
  const tokenizer = requireTokenizer(context);
  const options = { skipSpecialTokens: given.skip_special_tokens ?? true };
  const { vocabSize } = context.engine.model;
  const { tokens } = given;
  const decode = async (ids: number[], field: string) => {
    await nextTick();
    const wrong = ids.findIndex((id) => id >= vocabSize);
    if (wrong >= 0)
      throw invalid(
        `${field}[${wrong}]`,
        `${field}[${wrong}] must be a token id in [0, ${vocabSize}), got ${ids[wrong]}.`,
      );
    return tokenizer.decode(ids, options);
  };
  if (!Array.isArray(tokens[0])) return { text: await decode(tokens as number[], "tokens") };
  const text: string[] = [];
  for (const [i, ids] of (tokens as number[][]).entries()) text.push(await decode(ids, `tokens[${i}]`));
  return { text };
}

function requireTokenizer({ tokenizer }: ServerContext): ServerTokenizer {
  if (tokenizer) return tokenizer;
  throw new SglangError(
    "UNSUPPORTED",
    "This server was started without a tokenizer, so it cannot turn texts into tokens or back.",
  );
}
