/** `sglang-ts serve` (SGLang's `launch_server`): engine + HTTP server until a signal asks to stop. */
import type { Command } from "commander";
import { SglangError } from "../core/errors.js";
import type { Engine } from "../runtime/engine.js";
import type { RunningServer } from "../server/server.js";
import { DEFAULT_MODEL } from "../weights/catalog.js";
import { loadEngine } from "./load-engine.js";
import { addServerFlags, splitOptions } from "./server-args.js";

/** Time that the error replies of a dead engine have to reach their callers. */
const REPLY_GRACE_MS = 2000;

interface ServeOptions extends Record<string, unknown> {
  modelPath?: string;
  firstRunHelp?: boolean;
}

export function registerServeCommand(program: Command): void {
  const command = program
    .command("serve")
    .alias("launch_server")
    .description("serve a model over HTTP, the way SGLang does")
    .option("--first-run-help", "print what to try once the server is ready");
  addServerFlags(command).action((options: ServeOptions) => serve(options));
}

async function serve(options: ServeOptions): Promise<void> {
  const started = performance.now();
  const { engine: engineOptions, server: serverConfig, cli } = splitOptions(options);
  const modelPath = cli.modelPath as string | undefined;
  if (!modelPath && !options.firstRunHelp) {
    throw new SglangError(
      "INVALID_ARGUMENT",
      `--model-path is required: a file, a folder, or a name from \`sglang-ts models\` such as ${DEFAULT_MODEL}.`,
      { field: "--model-path" },
    );
  }
  const model = modelPath ?? DEFAULT_MODEL;
  // Everything that can be refused is refused before the model is fetched and loaded.
  const [{ resolveServerConfig }, { checkAddress }] = await Promise.all([
    import("../server/config.js"),
    import("../server/address.js"),
  ]);
  await checkAddress(resolveServerConfig(serverConfig));
  const engine: Engine = await loadEngine(model, engineOptions, {
    logLevel: (cli.logLevel as string | undefined) ?? (process.env.SGLANG_LOG_LEVEL ? undefined : "info"),
  });
  const { startServer } = await import("../server/server.js");
  let server: RunningServer;
  try {
    server = await startServer({
      engine,
      tokenizer: engine.tokenizer,
      config: { ...serverConfig, serverArgs: { modelPath: model, ...engineOptions, ...serverConfig } },
    });
  } catch (error) {
    await engine.close();
    throw error;
  }

  const { kernels, maxTotalNumTokens } = engine.stats();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(
    `${engine.model.servedModelName} is ready at ${server.url} after ${seconds} s ` +
      `(${kernels.tier} kernels, ${kernels.threads} threads, ${maxTotalNumTokens} tokens of KV cache).\n`,
  );
  if (options.firstRunHelp) process.stdout.write(whatToTry(server.url));

  // Without this Node would end the process at once, and every caller would see a connection that breaks.
  process.on("uncaughtException", (error) => engine.fail(error));
  void engine.failed.then((error) => exitAfterFailure(error, server));
  await new Promise<void>((resolve) => {
    let stopping = false;
    const stop = (signal: NodeJS.Signals) => {
      if (stopping) {
        process.stderr.write("Stopping now.\n");
        process.exit(signal === "SIGTERM" ? 143 : 130);
      }
      stopping = true;
      process.stderr.write(`${signal}: finishing running requests; once more stops at once.\n`);
      server
        .close()
        .then(() => engine.close())
        .catch((error: Error) => {
          process.stderr.write(`sglang-ts: stopping failed: ${error.message}\n`);
          process.exitCode = 1;
        })
        .finally(resolve);
    };
    process.on("SIGINT", stop).on("SIGTERM", stop);
  });
}

/** The engine is dead and its requests are answered: their replies go out, then the process ends. Nothing can hang it. */
export async function exitAfterFailure(error: SglangError, server: RunningServer): Promise<never> {
  process.stderr.write(`sglang-ts: ${error.message}\n`);
  const late = new Promise((resolve) => setTimeout(resolve, REPLY_GRACE_MS));
  await Promise.race([server.close().catch(() => {}), late]);
  process.exit(1);
}

function whatToTry(url: string): string {
  return `
Try it from another terminal:

  curl ${url}/generate -H "Content-Type: application/json" \\
    -d '{"text": "Once upon a time,", "sampling_params": {"max_new_tokens": 16, "temperature": 0}}'

  curl ${url}/v1/chat/completions -H "Content-Type: application/json" \\
    -d '{"model": "default", "messages": [{"role": "user", "content": "Write a haiku about the sea."}], "stream": true}'

  # Python: OpenAI(base_url="${url}/v1", api_key="none")
  # API pages: ${url}/docs      Metrics: ${url}/metrics      Ctrl-C stops.

`;
}
