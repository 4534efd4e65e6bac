/** What every route is given: the engine, the configuration, and the server's own state. */
import type { Logger } from "../core/logger.js";
import type { EngineMetrics } from "../core/metrics.js";
import type { ChatMessage, EngineApi, ToolDefinition } from "../core/protocol.js";
import type { ActiveRequests } from "./active-requests.js";
import type { ServerConfig } from "./config.js";

/** The part of a tokenizer that the server itself needs: /tokenize, /detokenize, echo of ids, logprob bytes. */
export interface ServerTokenizer {
  encode(text: string, addSpecialTokens?: boolean): number[];
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  tokenBytes(id: number): Uint8Array;
  readonly chatTemplate: {
    render(
      messages: readonly ChatMessage[],
      options?: {
        tools?: readonly ToolDefinition[];
        addGenerationPrompt?: boolean;
        continueFinalMessage?: boolean;
        kwargs?: Record<string, unknown>;
      },
    ): string;
  } | null;
}

/** `starting` until the warm-up is through, `stopping` from close() on. Health is 200 in `ready` only. */
export type ServerPhase = "starting" | "ready" | "stopping";

export interface ServerContext {
  readonly engine: EngineApi;
  readonly tokenizer: ServerTokenizer | null;
  readonly config: ServerConfig;
  readonly logger: Logger;
  readonly metrics: EngineMetrics;
  readonly active: ActiveRequests;
  /** Name shown by /v1/models. */
  readonly modelName: string;
  readonly weightVersion: string;
  /** Unix seconds when the server was made; `created` of its models. */
  readonly startedAt: number;
  phase: ServerPhase;
}
