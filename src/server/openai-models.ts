/** GET /v1/models and /v1/models/{id}. */
import type { FastifyInstance } from "fastify";
import type { ServerContext } from "./context.js";
import { describeRoute } from "./openapi.js";

function modelCard({ engine, modelName, startedAt }: ServerContext) {
  return {
    id: modelName,
    object: "model",
    created: startedAt,
    owned_by: "sglang",
    root: modelName,
    parent: null,
    max_model_len: engine.model.contextLength,
  };
}

export function registerModels(app: FastifyInstance, context: ServerContext): void {
  app.get("/v1/models", { schema: describeRoute("openai", "List the served model") }, () => ({
    object: "list",
    data: [modelCard(context)],
  }));
  // Names may contain slashes: org/model.
  app.get<{ Params: { "*": string } }>(
    "/v1/models/*",
    { schema: describeRoute("openai", "Describe a model") },
    (request, reply) => {
      const id = request.params["*"];
      if (id === context.modelName) return modelCard(context);
      reply.code(404);
      return {
        error: {
          message: `The model ${JSON.stringify(id)} does not exist; this server serves ${JSON.stringify(context.modelName)}.`,
          type: "invalid_request_error",
          param: "model",
          code: "model_not_found",
        },
      };
    },
  );
}
