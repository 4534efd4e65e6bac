/** GET /metrics: the Prometheus text of {@link EngineMetrics}. */
import type { FastifyInstance } from "fastify";
import type { ServerContext } from "./context.js";
import { describeRoute } from "./openapi.js";

export function registerMetrics(app: FastifyInstance, { metrics }: ServerContext): void {
  app.get("/metrics", { schema: describeRoute("admin", "Prometheus metrics") }, async (_, reply) => {
    reply.type(metrics.contentType);
    return metrics.render();
  });
}
