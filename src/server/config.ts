/** What the server can be told, with its defaults. CLI flags map to these keys one to one. */
import { SglangError } from "../core/errors.js";
import { reasoningFormat } from "../core/reasoning.js";

/** Formats in which a model writes tool calls. Both are `<tool_call>{json}</tool_call>`. */
export const TOOL_CALL_PARSERS = ["qwen25", "hermes"] as const;
export type ToolCallParserName = (typeof TOOL_CALL_PARSERS)[number];

export interface ServerConfig {
  /** Address to listen on. @default "127.0.0.1" */
  host: string;
  /** 0 picks a free port. @default 30000 */
  port: number;
  /** Bearer token that clients must send; null = open. @default null */
  apiKey: string | null;
  /** Bearer token for admin routes; null = `apiKey` guards them too. @default null */
  adminApiKey: string | null;
  /** Name shown by /v1/models; null = the engine's. @default null */
  servedModelName: string | null;
  /** Label in every meta_info; null = the engine's. @default null */
  weightVersion: string | null;
  /** Serve /metrics. @default true */
  enableMetrics: boolean;
  /** Report cached tokens in OpenAI usage. @default false */
  enableCacheReport: boolean;
  /** /generate streams deltas instead of everything so far. @default false */
  incrementalStreamingOutput: boolean;
  /** One log line per finished request. @default false */
  logRequests: boolean;
  /** Origins browsers may call from; "*" = any, [] = none. @default "*" */
  corsOrigins: "*" | readonly string[];
  /** Largest request body in bytes. @default 67108864 */
  bodyLimit: number;
  /** How the model writes tool calls; null = by model family (Qwen: qwen25). @default null */
  toolCallParser: ToolCallParserName | null;
  /** How the model marks its thinking, one of core/reasoning.ts; null = it does not think. @default null */
  reasoningParser: string | null;
  /** Leave out /docs and /openapi.json. @default false, or true with DISABLE_OPENAPI_DOC=1 */
  disableDocs: boolean;
  /** /health generates a token too. @default false, or true with SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION=1 */
  healthGenerates: boolean;
  /** Seconds a generating health check waits. @default 20, or SGLANG_HEALTH_CHECK_TIMEOUT */
  healthTimeoutSeconds: number;
  /** Do not run one short request, nor wait for grammars to be warm, before reporting healthy. @default false */
  skipServerWarmup: boolean;
  /** Seconds that running requests may take to finish when the server closes. @default 30 */
  drainTimeoutSeconds: number;
  /** What /server_info shows; keys and passwords are left out. @default {} */
  serverArgs: Readonly<Record<string, unknown>>;
}

type Environment = Readonly<Record<string, string | undefined>>;

const flag = (value: string | undefined) => value !== undefined && /^(1|true|yes)$/i.test(value.trim());

/**
 * Fills in defaults and checks what could not work.
 * @throws SglangError INVALID_ARGUMENT naming the flag
 */
export function resolveServerConfig(
  given: Partial<ServerConfig>,
  environment: Environment = process.env,
): ServerConfig {
  const {
    SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION: generates,
    SGLANG_HEALTH_CHECK_TIMEOUT: timeout,
    DISABLE_OPENAPI_DOC: noDocs,
  } = environment;
  const config: ServerConfig = {
    host: "127.0.0.1",
    port: 30000,
    apiKey: null,
    adminApiKey: null,
    servedModelName: null,
    weightVersion: null,
    enableMetrics: true,
    enableCacheReport: false,
    incrementalStreamingOutput: false,
    logRequests: false,
    corsOrigins: "*",
    bodyLimit: 64 * 1024 * 1024,
    toolCallParser: null,
    reasoningParser: null,
    disableDocs: flag(noDocs),
    healthGenerates: flag(generates),
    healthTimeoutSeconds: timeout === undefined ? 20 : Number(timeout),
    skipServerWarmup: false,
    drainTimeoutSeconds: 30,
    serverArgs: {},
  };
  for (const [key, value] of Object.entries(given)) {
    if (!(key in config)) fail(key, "a known server option", value);
    if (value !== undefined) (config as unknown as Record<string, unknown>)[key] = value;
  }
  if (!Number.isInteger(config.port) || config.port < 0 || config.port > 65535)
    fail("port", "an integer from 0 to 65535", config.port);
  if (!Number.isInteger(config.bodyLimit) || config.bodyLimit < 1)
    fail("bodyLimit", "a number of bytes", config.bodyLimit);
  if (!(config.healthTimeoutSeconds > 0))
    fail("healthTimeoutSeconds", "a number of seconds above 0", timeout ?? config.healthTimeoutSeconds);
  if (!(config.drainTimeoutSeconds >= 0))
    fail("drainTimeoutSeconds", "a number of seconds >= 0", config.drainTimeoutSeconds);
  for (const key of ["apiKey", "adminApiKey"] as const)
    if (config[key] === "") fail(key, "a non-empty text (leave the flag out for an open server)", "");
  if (config.toolCallParser !== null && !TOOL_CALL_PARSERS.includes(config.toolCallParser))
    fail("toolCallParser", `one of ${TOOL_CALL_PARSERS.join(", ")}`, config.toolCallParser);
  if (config.reasoningParser !== null)
    reasoningFormat(config.reasoningParser, "--reasoning-parser", "INVALID_ARGUMENT");
  return config;
}

function fail(key: string, expected: string, found: unknown): never {
  const field = `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
  throw new SglangError("INVALID_ARGUMENT", `${field} must be ${expected}, got ${JSON.stringify(found)}.`, {
    field,
    expected,
    found: String(found),
  });
}
