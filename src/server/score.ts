/** POST /v1/score: probabilities of label tokens after query + item. */

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { ScoreRequest } from "../core/protocol.js";
import type { ServerContext } from "./context.js";
import { field, flag, list, TEXT, TOKEN, text, tokenIds } from "./fields.js";
import { checkTokenIds, REFUSED_COMMON } from "./generate-request.js";
import { requestedModel } from "./openai-common.js";
import { describeRoute } from "./openapi.js";
import { newRid, runCall } from "./run-requests.js";
import { invalid, parseFields } from "./validation.js";

const scoreSchema = z.object({
  query: field("a text or a list of token ids", TEXT, list(TOKEN)),
  items: field("a text, a list of texts, or a list of lists of token ids", TEXT, list(TEXT), list(list(TOKEN))),
  label_token_ids: tokenIds(),
  apply_softmax: flag().nullish(),
  item_first: flag().nullish(),
  model: text().nullish(),
  user: text().nullish(),
});

export function registerScore(app: FastifyInstance, context: ServerContext): void {
  app.post(
    "/v1/score",
    { schema: describeRoute("openai", "Score items by label tokens", scoreSchema) },
    async (request, reply) => {
      const given = parseFields(scoreSchema, request.body, { refused: REFUSED_COMMON });
      const { vocabSize } = context.engine.model;
      const items = typeof given.items === "string" ? [given.items] : given.items;
      if (items.length === 0) throw invalid("items", "items must not be an empty list.");
      const asIds = typeof given.query !== "string";
      if (items.some((item) => (typeof item !== "string") !== asIds))
        throw invalid("items", "items must be of the same kind as query: both texts, or both lists of token ids.");
      if (typeof given.query !== "string") {
        checkTokenIds("query", given.query, vocabSize);
        items.forEach((item, i) => {
          checkTokenIds(`items[${i}]`, item as number[], vocabSize);
        });
      }
      checkTokenIds("label_token_ids", given.label_token_ids, vocabSize);
      const { scores, promptTokens } = await runCall(context, reply, [newRid()], ([signal]) =>
        context.engine.score({
          query: given.query,
          items: items as ScoreRequest["items"],
          labelTokenIds: given.label_token_ids,
          applySoftmax: given.apply_softmax ?? false,
          itemFirst: given.item_first ?? false,
          signal,
        }),
      );
      return {
        scores,
        model: requestedModel(context, given.model),
        usage: { prompt_tokens: promptTokens, completion_tokens: 0, total_tokens: promptTokens },
        object: "scoring",
      };
    },
  );
}
