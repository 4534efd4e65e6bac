/**
 * The one logger: pino to standard error, so that standard output stays free for answers.
 *
 * On a terminal lines are pretty; anywhere else each is one JSON object. The level is the `--log-level` flag, else the
 * environment variable SGLANG_LOG_LEVEL, else `warn`: a program that uses the engine owns its terminal. `serve` raises
 * it to `info`.
 */
import pino, { type Logger, type LoggerOptions } from "pino";
import { SglangError } from "./errors.js";

export type { Logger } from "pino";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** SGLang (Python) names of levels, beside pino's own. */
const ALIASES: Readonly<Record<string, LogLevel>> = { warning: "warn", critical: "fatal" };

/** @throws SglangError INVALID_ARGUMENT for a name that is not a level; `source` says who gave it. */
function parseLevel(name: string, source: string): LogLevel {
  const lower = name.trim().toLowerCase();
  const level = ALIASES[lower] ?? LOG_LEVELS.find((known) => known === lower);
  if (level) return level;
  const expected = `one of ${LOG_LEVELS.join(", ")}`;
  throw new SglangError("INVALID_ARGUMENT", `${source} must be ${expected}, got ${JSON.stringify(name)}.`, {
    field: source,
    expected,
    found: name,
  });
}

async function createLogger(): Promise<Logger> {
  const { SGLANG_LOG_LEVEL: fromEnvironment } = process.env;
  const options: LoggerOptions = {
    level: fromEnvironment ? parseLevel(fromEnvironment, "SGLANG_LOG_LEVEL") : "warn",
    base: null,
  };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ fd: 2, sync: true }));
  const { default: pretty } = await import("pino-pretty");
  return pino(options, pretty({ destination: 2, sync: true, colorize: true, translateTime: "SYS:HH:MM:ss" }));
}

export const logger: Logger = await createLogger();

/**
 * Sets the least severe level that is written, from now on.
 * @throws SglangError INVALID_ARGUMENT for a name that is not a level
 */
export function setLogLevel(level: string): void {
  logger.level = parseLevel(level, "--log-level");
}
