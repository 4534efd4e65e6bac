/** `sglang-ts generate`: one prompt, streamed to stdout. */
import type { Command } from "commander";
import { ERRORS } from "../core/errors.js";
import type { Prompt } from "../core/protocol.js";
import { DEFAULT_MODEL } from "../weights/catalog.js";
import { loadEngine } from "./load-engine.js";
import { addSamplingFlags, samplingFromOptions } from "./sampling-flags.js";
import { addServerFlags, splitOptions } from "./server-args.js";

interface GenerateOptions extends Record<string, unknown> {
  prompt?: string;
  chat?: boolean;
  system?: string;
}

export function registerGenerateCommand(program: Command): void {
  const command = program
    .command("generate")
    .description("answer one prompt and exit")
    .argument("[prompt]", "the prompt; read from standard input when absent")
    .option("--chat", "wrap the prompt in the model's chat template")
    .option("--system <text>", "system message (implies --chat)");
  addSamplingFlags(command);
  addServerFlags(command, ["engine", "cli"]);
  command.action((prompt: string | undefined, options: GenerateOptions) => generate(prompt, options));
}

/** Standard input without the line end that `echo` and editors put last: a prompt that ends in one asks for a new line. */
export async function readPrompt(input: AsyncIterable<Buffer | string>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of input) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

async function generate(argument: string | undefined, options: GenerateOptions): Promise<void> {
  if (argument === undefined && process.stdin.isTTY) process.stderr.write("Type the prompt; Ctrl-D ends it.\n");
  const text = argument ?? (await readPrompt(process.stdin));
  const { engine: engineOptions, cli } = splitOptions(options);
  const engine = await loadEngine((cli.modelPath as string | undefined) ?? DEFAULT_MODEL, engineOptions, {
    logLevel: cli.logLevel as string | undefined,
  });
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  try {
    const prompt: Prompt =
      options.chat || options.system !== undefined
        ? {
            messages: [
              ...(options.system === undefined ? [] : [{ role: "system", content: options.system }]),
              { role: "user", content: text },
            ],
          }
        : { text };
    for await (const chunk of engine.generate({
      prompt,
      samplingParams: samplingFromOptions(options),
      signal: stop.signal,
    }))
      process.stdout.write(chunk.textDelta);
    process.stdout.write("\n");
    if (stop.signal.aborted) process.exitCode = ERRORS.ABORTED.exit;
  } finally {
    await engine.close();
  }
}
