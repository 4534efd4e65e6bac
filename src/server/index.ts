/** `sglang-ts/server`: SGLang's HTTP API over any engine. */
export { type ServerConfig, TOOL_CALL_PARSERS, type ToolCallParserName } from "./config.js";
export type { ServerTokenizer } from "./context.js";
export { createServer, type RunningServer, type ServerOptions, startServer } from "./server.js";
