/** `sglang-ts inspect FILE`: metadata, tensors, sizes, tokenizer and template of a model, without loading it. */
import type { Command } from "commander";
import { formatInspection, inspectCheckpoint } from "../weights/inspect.js";
import { resolveModel } from "../weights/resolve.js";

export function registerInspectCommand(program: Command): void {
  program
    .command("inspect")
    .description("show metadata, tensors, tokenizer and chat template of a model")
    .argument("<model>", "GGUF file, folder, or the name of a model that is already downloaded")
    .option("--tensors", "list every tensor")
    .option("--template", "print the whole chat template")
    .option("--json", "print everything as JSON")
    .action(async (model: string, options: { tensors?: boolean; template?: boolean; json?: boolean }) => {
      const { path } = await resolveModel(model, { offline: true });
      const inspection = await inspectCheckpoint(path);
      const text = options.json
        ? JSON.stringify(
            inspection,
            (_key, value: unknown) => (typeof value === "bigint" ? value.toString() : value),
            2,
          )
        : formatInspection(inspection, { tensors: options.tensors ?? false, template: options.template ?? false });
      process.stdout.write(`${text}\n`);
    });
}
