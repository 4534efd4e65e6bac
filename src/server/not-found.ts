/** Unknown routes: 404 with the nearest known one, or the plain word that SGLang has it and this server does not. */
import { SglangError } from "../core/errors.js";
import { nearMiss } from "../core/near-miss.js";

/** Routes of SGLang that this version does not offer. */
const SGLANG_ONLY = [
  "/classify",
  "/v1/classify",
  "/v1/rerank",
  "/v1/responses",
  "/v1/messages",
  "/v1/messages/count_tokens",
  "/v1/audio/transcriptions",
  "/v1/files",
  "/v1/batches",
  "/generate_from_file",
  "/set_internal_state",
  "/get_weight_version",
  "/update_weight_version",
  "/clear_hicache_storage_backend",
  "/hicache/storage-backend",
  "/start_profile",
  "/stop_profile",
  "/freeze_gc",
  "/update_weights_from_disk",
  "/update_weights_from_tensor",
  "/update_weights_from_distributed",
  "/update_weights_from_ipc",
  "/init_weights_update_group",
  "/destroy_weights_update_group",
  "/get_weights_by_name",
  "/release_memory_occupation",
  "/resume_memory_occupation",
  "/slow_down",
  "/load_lora_adapter",
  "/unload_lora_adapter",
  "/configure_logging",
  "/parse_function_call",
  "/vertex_generate",
  "/api/chat",
  "/api/generate",
  "/api/tags",
  "/api/show",
];

/**
 * @param routes methods by known path
 * @returns the error to answer with
 */
export function routeNotFound(
  method: string,
  path: string,
  routes: ReadonlyMap<string, ReadonlySet<string>>,
): SglangError {
  const field = `${method} ${path.length > 200 ? `${path.slice(0, 200)}...` : path}`;
  const methods = routes.get(path);
  if (methods) {
    return new SglangError(
      "NOT_FOUND",
      `${path} does not take ${method}; it takes ${[...methods].sort().join(", ")}.`,
      { field },
    );
  }
  if (SGLANG_ONLY.includes(path))
    return new SglangError("NOT_FOUND", `${path} is a route of SGLang that this version does not offer.`, { field });
  const near = nearMiss(path, routes.keys());
  const hint = near ? ` Did you mean ${near}?` : " GET /openapi.json lists the routes.";
  return new SglangError("NOT_FOUND", `There is no route ${field}.${hint}`, { field });
}
