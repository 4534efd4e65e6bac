/** POST /open_session, /close_session, and the `session_params` of /generate. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { SessionParams } from "../core/protocol.js";
import type { ServerContext } from "./context.js";
import { flag, integer, number, text } from "./fields.js";
import { describeRoute } from "./openapi.js";
import { invalid, parseFields, unsupported } from "./validation.js";

const openSchema = z.object({
  /** Most tokens that the session keeps; 0 = as many as come. */
  capacity_of_str_len: integer("an integer >= 0").nullish(),
  session_id: text().nullish(),
  /** Seconds without a request after which the session closes itself. */
  timeout: number("a number of seconds above 0").nullish(),
});
const closeSchema = z.object({ session_id: text() });
const paramsSchema = z.object({
  id: text(),
  rid: text().nullish(),
  offset: integer().nullish(),
  replace: flag().nullish(),
  drop_previous_output: flag().nullish(),
});

const REFUSED_OPEN = {
  streaming: { reason: "every session takes any kind of request", harmless: [false] },
};

export function registerSessions(app: FastifyInstance, { engine }: ServerContext): void {
  app.route({
    method: "POST",
    url: "/open_session",
    schema: describeRoute("native", "Open a session; answers its id", openSchema),
    handler: (request, reply) => {
      if (!engine.openSession) throw unsupported("session_id", "this engine has no sessions");
      const given = parseFields(openSchema, request.body ?? {}, { refused: REFUSED_OPEN });
      const id = engine.openSession({
        id: given.session_id ?? undefined,
        capacity: given.capacity_of_str_len ?? 0,
        timeoutSeconds: given.timeout ?? undefined,
      });
      reply.type("application/json").send(JSON.stringify(id));
    },
  });
  app.route({
    method: "POST",
    url: "/close_session",
    schema: describeRoute("native", "Forget a session", closeSchema),
    handler: (request, reply) => {
      const { session_id: id } = parseFields(closeSchema, request.body);
      if (!engine.closeSession?.(id)) throw invalid("session_id", `Session ${JSON.stringify(id)} is not open.`);
      reply.code(200).send();
    },
  });
}

/** @throws SglangError INVALID_REQUEST naming the field */
export function toSession(given: Record<string, unknown> | undefined, prefix: string): SessionParams | undefined {
  if (!given || Object.keys(given).length === 0) return undefined;
  const params = parseFields(paramsSchema, given, { prefix });
  return {
    id: params.id,
    rid: params.rid ?? undefined,
    offset: params.offset ?? undefined,
    replace: params.replace ?? undefined,
    dropPreviousOutput: params.drop_previous_output ?? undefined,
  };
}
