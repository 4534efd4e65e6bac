/**
 * Loads an engine for a command: progress on the terminal, Ctrl-C cancels. The engine's modules are imported here and not
 * at the top of the commands, so that `--help` and refused flags answer at once.
 */
import type { Engine } from "../runtime/engine.js";
import { createProgress } from "./progress.js";

/** @param options of EngineConfig and LoadOptions, as flags gave them. A signal during loading cancels; partial downloads stay. */
export async function loadEngine(
  model: string,
  options: Record<string, unknown>,
  { logLevel }: { logLevel?: string } = {},
): Promise<Engine> {
  const [{ Engine }, { setLogLevel }] = await Promise.all([
    import("../runtime/engine.js"),
    import("../core/logger.js"),
  ]);
  if (logLevel !== undefined) setLogLevel(logLevel);
  const loading = new AbortController();
  const cancel = () => loading.abort();
  process.once("SIGINT", cancel).once("SIGTERM", cancel);
  const progress = createProgress();
  try {
    return await Engine.load(model, {
      ...options,
      signal: loading.signal,
      onProgress: progress.update,
      onMessage: progress.message,
    });
  } finally {
    progress.stop();
    process.off("SIGINT", cancel).off("SIGTERM", cancel);
  }
}
