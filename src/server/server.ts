/**
 * The HTTP server: SGLang's API over an {@link EngineApi}.
 *
 *   const server = await startServer({ engine, tokenizer: engine.tokenizer, config: { port: 30000 } });
 *   ...
 *   await server.close();   // health says 503, running requests finish, then the port is free
 *   await engine.close();   // the engine belongs to whoever made it
 */
import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import { SglangError } from "../core/errors.js";
import { logger as coreLogger, type Logger } from "../core/logger.js";
import { EngineMetrics } from "../core/metrics.js";
import type { EngineApi } from "../core/protocol.js";
import { ActiveRequests } from "./active-requests.js";
import { listenError, urlHost } from "./address.js";
import { registerAdmin } from "./admin.js";
import { authorize } from "./auth.js";
import { resolveServerConfig, type ServerConfig } from "./config.js";
import { Connections } from "./connections.js";
import type { ServerContext, ServerTokenizer } from "./context.js";
import { allowOrigin, preflight } from "./cors.js";
import { sendError } from "./error-reply.js";
import { registerGenerate } from "./generate.js";
import { registerHealth } from "./health.js";
import { registerMetrics } from "./metrics.js";
import { routeNotFound } from "./not-found.js";
import { registerChat } from "./openai-chat.js";
import { registerCompletions } from "./openai-completions.js";
import { registerEmbeddings } from "./openai-embeddings.js";
import { registerModels } from "./openai-models.js";
import { registerOpenApi } from "./openapi.js";
import { registerSeparateReasoning } from "./reasoning.js";
import { registerScore } from "./score.js";
import { registerSessions } from "./sessions.js";
import { registerTokenize } from "./tokenize.js";

export interface ServerOptions {
  engine: EngineApi;
  /** Needed by /tokenize, /detokenize, echo of token ids, and logprob bytes of partial characters. */
  tokenizer?: ServerTokenizer;
  config?: Partial<ServerConfig>;
  /** @default the package's logger */
  logger?: Logger;
}

export interface RunningServer {
  /** Where clients reach it, without a trailing slash. */
  readonly url: string;
  readonly app: FastifyInstance;
  /** Drains, then stops. Idempotent. Does not close the engine. */
  close(): Promise<void>;
}

/** Routes that still answer while the server drains. */
const ANSWER_WHILE_STOPPING = new Set([
  "/health",
  "/health_generate",
  "/ping",
  "/metrics",
  "/abort_request",
  "/continue_generation",
]);
/** What a client may send as X-Request-Id and get back; anything else gets a fresh one. */
const REQUEST_ID = /^[\w.:-]{1,128}$/;
/** Milliseconds that aborted requests get to end, and open connections get to take their last bytes. */
const ABORT_GRACE = 5_000;

/** The server without a port; `inject` works at once. */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  return (await build(options)).app;
}

async function build(options: ServerOptions): Promise<{ app: FastifyInstance; context: ServerContext }> {
  const config = resolveServerConfig(options.config ?? {});
  const { engine, tokenizer = null, logger = coreLogger } = options;
  const modelName = config.servedModelName ?? engine.model.servedModelName;
  const context: ServerContext = {
    engine,
    tokenizer,
    config,
    logger,
    metrics: new EngineMetrics({ modelName, stats: () => engine.stats() }),
    active: new ActiveRequests(),
    modelName,
    weightVersion: config.weightVersion ?? engine.model.weightVersion,
    startedAt: Math.floor(Date.now() / 1000),
    phase: "ready",
  };
  // Loaded when a server is made: programs that only generate need not wait for it.
  const { default: Fastify, LogController } = await import("fastify");
  const app = Fastify({
    loggerInstance: logger as unknown as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: config.bodyLimit,
    requestIdHeader: false,
    genReqId: ({ headers }) => {
      const given = headers["x-request-id"];
      return typeof given === "string" && REQUEST_ID.test(given) ? given : randomUUID();
    },
    routerOptions: { maxParamLength: 1024 },
    // Bodies are checked by the routes themselves, with errors in one form; schemas serve the documentation.
  });
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  const routes = collectRoutes(app);
  addHooks(app, context);
  addBodyParser(app);
  app.setErrorHandler((error, request, reply) => sendError(logger, error, request, reply));
  app.setNotFoundHandler((request, reply) =>
    sendError(logger, routeNotFound(request.method, request.url.split("?")[0], routes), request, reply),
  );
  if (!config.disableDocs) await registerOpenApi(app);
  app.options("/*", { schema: { hide: true } as object }, preflight);
  registerGenerate(app, context);
  registerChat(app, context);
  registerCompletions(app, context);
  registerModels(app, context);
  registerEmbeddings(app, context);
  registerScore(app, context);
  registerTokenize(app, context);
  registerSeparateReasoning(app);
  registerSessions(app, context);
  registerHealth(app, context);
  registerAdmin(app, context);
  if (config.enableMetrics) registerMetrics(app, context);
  await app.ready();
  return { app, context };
}

/** Methods by path of every route that is registered after this call. */
function collectRoutes(app: FastifyInstance): Map<string, Set<string>> {
  const routes = new Map<string, Set<string>>();
  app.addHook("onRoute", ({ url, method }) => {
    if (url.includes("*")) return;
    const methods = routes.get(url) ?? new Set();
    for (const name of [method].flat()) methods.add(name);
    routes.set(url, methods);
  });
  return routes;
}

function addHooks(app: FastifyInstance, context: ServerContext): void {
  const { config } = context;
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
    allowOrigin(config.corsOrigins, request, reply);
    const path = request.url.split("?")[0];
    authorize(config, {
      path,
      method: request.method,
      admin: (request.routeOptions.config as { admin?: boolean }).admin ?? false,
      authorization: request.headers.authorization,
    });
    if (context.phase === "stopping" && !ANSWER_WHILE_STOPPING.has(path)) {
      throw new SglangError(
        "SHUTTING_DOWN",
        "The server is shutting down and takes no new requests; send it to another one.",
      );
    }
  });
}

/** JSON and nothing else; an empty body is no body, whatever its content type. */
function addBodyParser(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
    if (body === "") return done(null, undefined);
    parseJson(request, body as string, (error, value) => {
      done(
        error &&
          new SglangError("INVALID_REQUEST", `The request body is not valid JSON: ${jsonProblem(body as string)}.`),
        value,
      );
    });
  });
}

function jsonProblem(body: string): string {
  try {
    JSON.parse(body);
    return "the keys __proto__ and constructor.prototype are not accepted";
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Listens, warms up with one short request, and reports ready.
 * @throws SglangError PORT_IN_USE or INVALID_ARGUMENT when the address can't be had
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { app, context } = await build(options);
  context.phase = "starting";
  const connections = new Connections(app.server);
  const { host, port } = context.config;
  try {
    await app.listen({ host, port });
  } catch (error) {
    await app.close();
    throw listenError(error as NodeJS.ErrnoException, host, port);
  }
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= drainAndClose(app, context, connections);
    return closing;
  };
  try {
    if (!context.config.skipServerWarmup) await warmUp(context.engine);
  } catch (error) {
    await close();
    throw error;
  }
  if (!closing) context.phase = "ready";
  const { port: actual } = app.server.address() as AddressInfo;
  return { url: `http://${urlHost(host)}:${actual}`, app, close };
}

/** Touches weights and plans once, and waits until grammars are warm too, so that the first client does not pay for it. */
async function warmUp(engine: EngineApi): Promise<void> {
  if (!engine.model.isGeneration) {
    await engine.embed({ prompt: { inputIds: [0] } });
    return;
  }
  const samplingParams = { maxNewTokens: 2, temperature: 0, ignoreEos: true };
  for await (const chunk of engine.generate({ prompt: { inputIds: [0] }, samplingParams, extraKey: "warm_up" })) {
    if (chunk.finishReason?.type === "abort")
      throw new SglangError("ENGINE_FAILED", `The engine aborted the warm-up request: ${chunk.finishReason.message}`);
  }
  await engine.warmedUp;
}

/**
 * No new requests; running ones may finish within the limit, then they are aborted. The port stays open until then, so
 * that health checks see 503. Replies that clients do not take are cut off at the end.
 */
async function drainAndClose(app: FastifyInstance, context: ServerContext, connections: Connections): Promise<void> {
  const { active, config, logger } = context;
  context.phase = "stopping";
  if (active.size > 0) logger.info({ running: active.size }, "waiting for running requests");
  if (!(await active.whenIdle(config.drainTimeoutSeconds * 1000))) {
    logger.warn({ running: active.size, seconds: config.drainTimeoutSeconds }, "aborting requests that did not finish");
    active.abortAll();
    await active.whenIdle(ABORT_GRACE);
  }
  connections.closeWhenIdle();
  const cut = setTimeout(() => app.server.closeAllConnections(), ABORT_GRACE);
  try {
    await app.close();
  } finally {
    clearTimeout(cut);
  }
}
