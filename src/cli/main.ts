#!/usr/bin/env node
/** `sglang-ts`: the command table, and the one place where an error becomes a sentence and an exit code. */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { SglangError } from "../core/errors.js";
import { registerCacheCommand } from "./cache.js";
import { registerChatCommand } from "./chat.js";
import { registerGenerateCommand } from "./generate.js";
import { registerGrammarCommand } from "./grammar.js";
import { registerInspectCommand } from "./inspect.js";
import { registerModelsCommand } from "./models.js";
import { registerServeCommand } from "./serve.js";
import { normalizeFlags } from "./server-args.js";
import { registerSimulateCommand } from "./simulate.js";

/** What a shell reports for a program that SIGPIPE ended. */
const BROKEN_PIPE = 141;

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}

export function createProgram(): Command {
  const program = new Command("sglang-ts")
    .description("SGLang in TypeScript: serve and run language models on the machine you have.")
    .version(version())
    .showHelpAfterError("(add --help for the list of options)")
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
    .exitOverride();
  registerServeCommand(program);
  registerGenerateCommand(program);
  registerChatCommand(program);
  registerModelsCommand(program);
  registerCacheCommand(program);
  registerInspectCommand(program);
  registerGrammarCommand(program);
  registerSimulateCommand(program);
  // Subcommands copy neither of these from their parent.
  for (const command of program.commands)
    command.exitOverride().showSuggestionAfterError(true).showHelpAfterError("(add --help for the list of options)");
  return program;
}

/** Runs a command line and returns its exit code. Errors are one sentence on stderr; SGLANG_DEBUG=1 adds the stack. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(normalizeFlags(argv), { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    const debug = process.env.SGLANG_DEBUG === "1";
    if (SglangError.isInstance(error)) {
      console.error(debug ? error.stack : `sglang-ts: ${error.message}`);
      return error.exitCode;
    }
    console.error(
      debug
        ? (error as Error).stack
        : `sglang-ts: unexpected error: ${(error as Error).message} (SGLANG_DEBUG=1 shows where)`,
    );
    return 1;
  }
}

// `sglang-ts generate ... | head`: the reader has what it wanted, so the program ends like any other in a pipe.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(BROKEN_PIPE);
  console.error(`sglang-ts: the answer cannot be written: ${error.message}`);
  process.exit(1);
});

process.exitCode = await main(process.argv.slice(2));
