/** GET /health, /health_generate, /ping and /: is the server up, and does the engine still produce tokens? */
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance, FastifyReply } from "fastify";
import type { ServerContext } from "./context.js";
import { describeRoute } from "./openapi.js";
import { newRid } from "./run-requests.js";

/** Milliseconds between two looks at the engine's step counters. */
const POLL = 100;

export function registerHealth(app: FastifyInstance, context: ServerContext): void {
  const check = (generates: boolean) => async (_: unknown, reply: FastifyReply) => {
    if (context.phase !== "ready") return reply.code(503).type("text/plain").send(`The server is ${context.phase}.\n`);
    const problem = generates ? await generationProblem(context) : null;
    if (problem === null) return reply.code(200).type("text/plain").send("");
    context.logger.error({ problem }, "health check failed");
    return reply.code(503).type("text/plain").send(`${problem}\n`);
  };
  const { healthGenerates } = context.config;
  app.get("/health", { schema: describeRoute("admin", "200 once the server is ready") }, check(healthGenerates));
  app.get("/health_generate", { schema: describeRoute("admin", "200 if the engine produces a token") }, check(true));
  app.get("/ping", { schema: describeRoute("admin", "Health under SageMaker's name") }, check(healthGenerates));
  app.get("/", { schema: describeRoute("admin", "A sign of life") }, (_, reply) =>
    reply.type("text/plain").send("SGLang is running"),
  );
}

/**
 * Asks for one token. Healthy as soon as it comes, or as soon as any other request makes progress: a long queue is not
 * an illness.
 * @returns what is wrong, or null
 */
async function generationProblem({ engine, config }: ServerContext): Promise<string | null> {
  // An engine that was told to pause is not ill.
  if (!engine.model.isGeneration || engine.stats().isPaused) return null;
  const steps = () => engine.stats().counters.prefillSteps + engine.stats().counters.decodeSteps;
  const before = steps();
  const controller = new AbortController();
  const deadline = performance.now() + config.healthTimeoutSeconds * 1000;
  const first = async (): Promise<string | null> => {
    const request = {
      prompt: { inputIds: [0] },
      samplingParams: { maxNewTokens: 1, temperature: 0 },
      rid: `HEALTH_CHECK_${newRid()}`,
      extraKey: "health_check",
      signal: controller.signal,
    };
    for await (const chunk of engine.generate(request)) {
      if (chunk.finishReason?.type === "abort")
        return `The engine aborted a test request: ${chunk.finishReason.message}`;
      return null;
    }
    return "The engine ended a test request without an answer.";
  };
  const progress = async (): Promise<string | null> => {
    while (performance.now() < deadline) {
      await sleep(POLL, undefined, { signal: controller.signal });
      if (steps() > before) return null;
    }
    return `The engine produced nothing for ${config.healthTimeoutSeconds} s.`;
  };
  try {
    const attempts = [first(), progress()];
    for (const attempt of attempts) attempt.catch(() => {});
    return await Promise.race(attempts);
  } catch (error) {
    return steps() > before ? null : `The engine failed a test request: ${(error as Error).message}`;
  } finally {
    controller.abort();
  }
}
