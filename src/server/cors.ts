/** Cross-origin headers, open by default as SGLang's are. Credentials are never allowed: keys travel in a header. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { ServerConfig } from "./config.js";

const METHODS = "GET, HEAD, POST, PUT, OPTIONS";
const PREFLIGHT_SECONDS = "600";

/** Sets the headers that let a browser read the reply, if its origin is allowed. */
export function allowOrigin(origins: ServerConfig["corsOrigins"], request: FastifyRequest, reply: FastifyReply): void {
  if (origins !== "*") reply.header("vary", "Origin");
  const { origin } = request.headers;
  if (origin === undefined || (origins !== "*" && !origins.includes(origin))) return;
  reply.header("access-control-allow-origin", origins === "*" ? "*" : origin);
  reply.header("access-control-expose-headers", "X-Request-Id");
}

/** Answers a preflight request. */
export function preflight(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const asked = request.headers["access-control-request-headers"];
  if (reply.hasHeader("access-control-allow-origin")) {
    reply.header("access-control-allow-methods", METHODS);
    reply.header("access-control-allow-headers", asked ?? "Authorization, Content-Type");
    reply.header("access-control-max-age", PREFLIGHT_SECONDS);
  }
  return reply.code(204).send();
}
