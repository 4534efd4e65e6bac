/** POST /v1/embeddings and SGLang's native /encode, for engines that serve an embedding model. */

import type { FastifyInstance, FastifyReply } from "fastify";
import { z } from "zod";
import type { EmbedResult, Prompt } from "../core/protocol.js";
import type { ServerContext } from "./context.js";
import { integer, text, textOrTokens } from "./fields.js";
import { generateSchema, REFUSED_COMMON, requestIds, rids, toPrompts } from "./generate-request.js";
import { requestedModel } from "./openai-common.js";
import { describeRoute } from "./openapi.js";
import { runCall } from "./run-requests.js";
import { parseFields, unsupported } from "./validation.js";

const embeddingsSchema = z.object({
  input: textOrTokens(),
  model: text().nullish(),
  encoding_format: z.enum(["float", "base64"], { error: '"float" or "base64"' }).nullish(),
  dimensions: integer().nullish(),
  user: text().nullish(),
  rid: rids().nullish(),
});

const encodeSchema = generateSchema.pick({ text: true, input_ids: true, rid: true });

export function registerEmbeddings(app: FastifyInstance, context: ServerContext): void {
  app.post(
    "/v1/embeddings",
    { schema: describeRoute("openai", "Embeddings", embeddingsSchema) },
    async (request, reply) => {
      const given = parseFields(embeddingsSchema, request.body, { refused: REFUSED_COMMON });
      requireEmbeddingModel(context);
      if ((given.dimensions ?? null) !== null) throw unsupported("dimensions", "embeddings have the model's own size");
      const { input } = given;
      const isText = typeof input === "string" || typeof input[0] === "string";
      const { vocabSize } = context.engine.model;
      const { prompts, isList } = isText
        ? toPrompts(input as string | string[], null, vocabSize)
        : toPrompts(null, input as number[] | number[][], vocabSize);
      const results = await embedAll(context, reply, prompts, requestIds(given.rid, prompts.length, isList));
      const promptTokens = results.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
      const base64 = given.encoding_format === "base64";
      return {
        object: "list",
        data: results.map(({ embedding }, index) => ({
          object: "embedding",
          embedding: base64 ? toBase64(embedding) : Array.from(embedding),
          index,
        })),
        model: requestedModel(context, given.model),
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
      };
    },
  );

  app.route({
    method: ["POST", "PUT"],
    url: "/encode",
    schema: describeRoute("native", "Embeddings", encodeSchema),
    handler: async (request, reply) => {
      const given = parseFields(encodeSchema, request.body, { refused: REFUSED_COMMON });
      requireEmbeddingModel(context);
      const { prompts, isList } = toPrompts(given.text, given.input_ids, context.engine.model.vocabSize);
      const started = performance.now();
      const results = await embedAll(context, reply, prompts, requestIds(given.rid, prompts.length, isList));
      const bodies = results.map(({ rid, embedding, promptTokens }) => ({
        embedding: Array.from(embedding),
        meta_info: {
          id: rid,
          finish_reason: { type: "length", length: 0 },
          prompt_tokens: promptTokens,
          weight_version: context.weightVersion,
          e2e_latency: (performance.now() - started) / 1000,
        },
      }));
      return isList ? bodies : bodies[0];
    },
  });
}

/** @throws SglangError UNSUPPORTED when the engine serves a generating model */
function requireEmbeddingModel({ engine, modelName }: ServerContext): void {
  if (!engine.model.isGeneration) return;
  throw unsupported("model", `${modelName} generates text; start the server with --is-embedding to serve embeddings`);
}

/** All prompts at once; the first failure aborts the rest. */
function embedAll(
  context: ServerContext,
  reply: FastifyReply,
  prompts: Prompt[],
  names: string[],
): Promise<EmbedResult[]> {
  return runCall(context, reply, names, (signals) =>
    Promise.all(prompts.map((prompt, i) => context.engine.embed({ prompt, rid: names[i], signal: signals[i] }))),
  );
}

/** Little-endian f32, which OpenAI clients ask for by default. */
function toBase64(embedding: Float32Array): string {
  const bytes = Buffer.alloc(embedding.length * 4);
  embedding.forEach((value, i) => {
    bytes.writeFloatLE(value, i * 4);
  });
  return bytes.toString("base64");
}
