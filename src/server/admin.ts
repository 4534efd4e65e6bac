/** State and control: model and server info, load, cache flush, abort. Replies have SGLang's field names. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { type CacheTree, PAUSE_MODES, type PauseMode } from "../core/protocol.js";
import type { SamplingParams } from "../core/sampling-params.js";
import { wireName } from "../core/sampling-params.js";
import type { ServerContext } from "./context.js";
import { field, flag, type Kind, text } from "./fields.js";
import { describeRoute } from "./openapi.js";
import { invalid, parseFields, unsupported } from "./validation.js";
import { VERSION } from "./version.js";

const PAUSE_MODE: Kind<string> = {
  is: (value): value is string => PAUSE_MODES.includes(value as PauseMode),
  schema: { type: "string", enum: [...PAUSE_MODES] },
};
const pauseSchema = z.object({ mode: field(`one of ${PAUSE_MODES.join(", ")}`, PAUSE_MODE).nullish() });
const abortSchema = z.object({ rid: text().nullish(), abort_all: flag().nullish() });

/** Marks a route as guarded by the admin key. */
export const ADMIN = { config: { admin: true } };

export function registerAdmin(app: FastifyInstance, context: ServerContext): void {
  for (const url of ["/model_info", "/get_model_info"])
    app.get(url, { schema: describeRoute("admin", "What model is served") }, () => modelInfo(context));
  for (const url of ["/server_info", "/get_server_info"])
    app.get(url, { schema: describeRoute("admin", "Arguments, limits and state") }, () => serverInfo(context));
  app.get("/get_load", { schema: describeRoute("admin", "Running and waiting requests") }, () => [load(context)]);
  app.get("/v1/loads", { schema: describeRoute("admin", "Running and waiting requests") }, () => ({
    timestamp: new Date().toISOString(),
    version: VERSION,
    dp_rank_count: 1,
    loads: [load(context)],
  }));
  app.route({
    method: ["GET", "POST"],
    url: "/flush_cache",
    ...ADMIN,
    schema: describeRoute("admin", "Empty the prefix cache; ?timeout=seconds waits for running requests"),
    handler: (request, reply) => flushCache(context, request, reply),
  });
  app.post(
    "/abort_request",
    { ...ADMIN, schema: describeRoute("admin", "Abort the requests whose rid begins with this, or all", abortSchema) },
    (request) => {
      const { rid, abort_all } = parseFields(abortSchema, request.body);
      if (abort_all) return { aborted: context.active.abortAll() };
      if (!rid) throw invalid("rid", "Give the rid of the request to abort, or abort_all: true.");
      return { aborted: context.active.abort(rid) };
    },
  );
  registerPause(app, context);
  registerCacheTree(app, context);
}

/** GET /cache/tree. */
function registerCacheTree(app: FastifyInstance, { engine }: ServerContext): void {
  app.get(
    "/cache/tree",
    {
      ...ADMIN,
      schema: describeRoute(
        "admin",
        "The prefix cache as a tree; ?text=1 with texts, ?max_nodes=n for more or fewer nodes",
      ),
    },
    (request) => {
      const { text = "0", max_nodes: maxNodes } = request.query as { text?: string; max_nodes?: string };
      if (!["0", "1", "true", "false"].includes(text))
        throw invalid("text", `text must be 0 or 1, got ${JSON.stringify(text)}.`);
      const limit = maxNodes === undefined ? undefined : Number(maxNodes);
      if (limit !== undefined && !(Number.isSafeInteger(limit) && limit >= 1 && maxNodes?.trim()))
        throw invalid("max_nodes", `max_nodes must be an integer >= 1, got ${JSON.stringify(maxNodes)}.`);
      if (!engine.cacheTree) throw unsupported("/cache/tree", "this engine does not show its prefix cache");
      const tree = engine.cacheTree({ text: text === "1" || text === "true", ...(limit && { maxNodes: limit }) });
      return tree ? wireTree(tree) : { enabled: false, nodes: [] };
    },
  );
}

function wireTree({ pageSize, evictableTokens, protectedTokens, totalNodes, nodes }: CacheTree) {
  return {
    enabled: true,
    page_size: pageSize,
    evictable_tokens: evictableTokens,
    protected_tokens: protectedTokens,
    total_nodes: totalNodes,
    nodes: nodes.map(({ idleSeconds, ...node }) => ({ ...node, idle_seconds: idleSeconds })),
  };
}

/** POST /pause_generation, /continue_generation. */
function registerPause(app: FastifyInstance, { engine }: ServerContext): void {
  app.post(
    "/pause_generation",
    { ...ADMIN, schema: describeRoute("admin", "Stop between two steps; requests wait", pauseSchema) },
    async (request) => {
      const { mode } = parseFields(pauseSchema, request.body ?? {});
      if (!engine.pauseGeneration) throw unsupported("mode", "this engine cannot be paused");
      await engine.pauseGeneration((mode ?? "abort") as PauseMode);
      return { status: "ok", message: "Generation paused successfully." };
    },
  );
  app.post(
    "/continue_generation",
    { ...ADMIN, schema: describeRoute("admin", "Go on after /pause_generation") },
    () => {
      engine.continueGeneration?.();
      return { status: "ok", message: "Generation continued successfully." };
    },
  );
}

function modelInfo({ engine, weightVersion }: ServerContext) {
  const { model } = engine;
  return {
    model_path: model.modelPath,
    tokenizer_path: model.modelPath,
    is_generation: model.isGeneration,
    preferred_sampling_params: wireParams(model.preferredSamplingParams),
    weight_version: weightVersion,
    has_image_understanding: false,
    has_audio_understanding: false,
    model_type: model.modelType,
    architectures: [model.architecture],
  };
}

function wireParams(params: Partial<SamplingParams>): Record<string, unknown> | null {
  const entries = Object.entries(params).map(([key, value]) => [wireName(key as keyof SamplingParams), value]);
  return entries.length > 0 ? Object.fromEntries(entries) : null;
}

/** `modelPath` -> `model_path`; arguments that are secrets are left out. */
function publicArgs(args: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const entries = Object.entries(args).filter(([key]) => !/api_?key|password|secret|token$/i.test(key));
  return Object.fromEntries(
    entries.map(([key, value]) => [key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), value]),
  );
}

function serverInfo(context: ServerContext) {
  const { engine, config } = context;
  const { model } = engine;
  const stats = engine.stats();
  const { kernels, memory, pages } = stats;
  return {
    host: config.host,
    port: config.port,
    served_model_name: context.modelName,
    weight_version: context.weightVersion,
    context_length: model.contextLength,
    ...publicArgs(config.serverArgs),
    status: context.phase,
    max_total_num_tokens: stats.maxTotalNumTokens,
    max_req_input_len: Math.max(0, Math.min(model.contextLength, stats.maxTotalNumTokens) - 1),
    max_running_requests: stats.maxRunningRequests,
    model: {
      architecture: model.architecture,
      parameters: model.parameters,
      dtypes: model.dtypes,
      vocab_size: model.vocabSize,
    },
    kernels,
    internal_states: [
      {
        last_gen_throughput: stats.genThroughput,
        effective_max_running_requests_per_dp: stats.maxRunningRequests,
        memory_usage: {
          weight: memory.weightsBytes / 2 ** 30,
          kvcache: memory.kvBytes / 2 ** 30,
          arena: memory.arenaBytes / 2 ** 30,
          rss: memory.rssBytes / 2 ** 30,
          token_capacity: stats.maxTotalNumTokens,
        },
        num_running_reqs: stats.numRunningReqs,
        num_queue_reqs: stats.numQueueReqs,
        token_usage: stats.tokenUsage,
        cache_hit_rate: stats.cacheHitRate,
        new_token_ratio: stats.newTokenRatio,
        is_paused: stats.isPaused,
        pages,
        counters: stats.counters,
        ...(stats.hicache && { hicache: stats.hicache }),
        uptime_seconds: stats.uptimeSeconds,
      },
    ],
    version: VERSION,
  };
}

function load({ engine }: ServerContext) {
  const stats = engine.stats();
  return {
    dp_rank: 0,
    num_reqs: stats.numRunningReqs + stats.numQueueReqs,
    num_running_reqs: stats.numRunningReqs,
    num_waiting_reqs: stats.numQueueReqs,
    num_tokens: stats.numUsedTokens,
    max_total_num_tokens: stats.maxTotalNumTokens,
    token_usage: stats.tokenUsage,
    gen_throughput: stats.genThroughput,
    ts_tic: performance.now() / 1000,
  };
}

async function flushCache(context: ServerContext, request: FastifyRequest, reply: FastifyReply) {
  const { timeout = "0" } = request.query as { timeout?: string };
  const timeoutSeconds = Number(timeout);
  if (!(timeoutSeconds >= 0 && timeoutSeconds < Number.POSITIVE_INFINITY) || timeout.trim() === "")
    throw invalid("timeout", `timeout must be a number of seconds >= 0, got ${JSON.stringify(timeout)}.`);
  reply.type("text/plain");
  if (await context.engine.flushCache({ timeoutSeconds })) return "Cache flushed.\n";
  reply.code(400);
  return "The cache was not flushed, because requests are running or waiting; retry later or give ?timeout=seconds.\n";
}
