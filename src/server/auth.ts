/** Bearer keys: `apiKey` guards every route, `adminApiKey` the admin ones. Health and metrics are always open. */
import { createHash, timingSafeEqual } from "node:crypto";
import { SglangError } from "../core/errors.js";
import type { ServerConfig } from "./config.js";

const OPEN_PATHS = /^\/(health|health_generate|metrics)$/;

const digest = (text: string) => createHash("sha256").update(text).digest();

/**
 * Checks one request's Authorization header.
 * @throws SglangError UNAUTHORIZED
 */
export function authorize(
  config: Pick<ServerConfig, "apiKey" | "adminApiKey">,
  request: { path: string; method: string; admin: boolean; authorization?: string },
): void {
  if (request.method === "OPTIONS" || OPEN_PATHS.test(request.path)) return;
  const admin = request.admin && config.adminApiKey !== null;
  const wanted = admin ? config.adminApiKey : config.apiKey;
  if (wanted === null) return;
  const given = /^Bearer +(.+)$/i.exec(request.authorization ?? "")?.[1];
  if (given !== undefined && timingSafeEqual(digest(given), digest(wanted))) return;
  const which = admin ? "admin API key" : "API key";
  const problem = given === undefined ? `needs the ${which}` : `does not accept this ${which}`;
  throw new SglangError(
    "UNAUTHORIZED",
    `${request.path} ${problem}: send the header \`Authorization: Bearer <key>\` with the key the server was started with.`,
  );
}
