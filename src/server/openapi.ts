/** /openapi.json and /docs. Schemas are the ones that check requests; nothing is fetched from elsewhere. */
import type { FastifyInstance, FastifySchema } from "fastify";
import { z } from "zod";
import { VERSION } from "./version.js";

const TAGS = {
  native: "SGLang's own API",
  openai: "OpenAI-compatible API",
  admin: "Health, state and control",
} as const;

/** Swagger UI loads nothing from elsewhere; its own components style themselves inline. */
const PAGE_POLICY = {
  "default-src": ["'self'"],
  "style-src": ["'self'", "'unsafe-inline'"],
  "img-src": ["'self'", "data:"],
  "object-src": ["'none'"],
  "frame-ancestors": ["'self'"],
};

/** What the docs say of a route. `body` is the schema that the route itself checks the body with. */
export function describeRoute(tag: keyof typeof TAGS, summary: string, body?: z.ZodType): FastifySchema {
  return {
    tags: [tag],
    summary,
    ...(body && { body: z.toJSONSchema(body, { io: "input", unrepresentable: "any", reused: "inline" }) }),
  } as FastifySchema;
}

/** Must run before the routes are registered: it sees them through a hook. */
export async function registerOpenApi(app: FastifyInstance): Promise<void> {
  const [{ default: swagger }, { default: swaggerUi }] = await Promise.all([
    import("@fastify/swagger"),
    import("@fastify/swagger-ui"),
  ]);
  await app.register(swagger, {
    // A wildcard has no name, and OpenAPI wants one.
    transform: ({ schema, url }) => ({ schema, url: url.replace("*", ":id") }),
    openapi: {
      openapi: "3.1.0",
      info: { title: "sglang-ts", description: "An SGLang server on plain CPUs.", version: VERSION },
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: { securitySchemes: { apiKey: { type: "http", scheme: "bearer" } } },
      security: [{}, { apiKey: [] }],
    },
  });
  await app.register(swaggerUi, { routePrefix: "/docs", uiConfig: { deepLinking: true }, staticCSP: PAGE_POLICY });
  app.get("/openapi.json", { schema: { hide: true } as FastifySchema }, () => app.swagger());
}
