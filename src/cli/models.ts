/** `sglang-ts models`: what is known, what is here, fetch, locate, delete. */
import type { Command } from "commander";
import { Option } from "commander";
import { CATALOG, DEFAULT_MODEL, MIRRORS, type MirrorId, modelSize } from "../weights/catalog.js";
import { MIRROR_TITLES } from "../weights/fetch-catalog.js";
import {
  type CatalogStatus,
  catalogStatus,
  type ResolvedModel,
  removeModel,
  resolveModel,
} from "../weights/resolve.js";
import { formatBytes } from "../weights/transfer.js";
import { createProgress } from "./progress.js";

interface FolderOptions {
  downloadDir?: string;
}

interface PullOptions extends FolderOptions {
  mirror?: MirrorId;
  revision?: string;
  verify?: boolean;
  offline?: boolean;
}

const SPEC = "a name of the list, org/name[:file] of Hugging Face, or modelscope:org/name[:file]";

export function registerModelsCommand(program: Command): void {
  const models = program.command("models").description("list, fetch, locate and delete models");
  const folder = () => new Option("--download-dir <folder>", "folder for downloaded models (default: the caches)");

  models
    .command("list", { isDefault: true })
    .description("show the models that have a name, and which of them are on this disk")
    .addOption(folder())
    .option("--json", "print as JSON")
    .action(async (options: FolderOptions & { json?: boolean }) => {
      const statuses = await catalogStatus({ cacheDir: options.downloadDir });
      process.stdout.write(
        options.json ? `${JSON.stringify(statuses.map(statusJson), null, 2)}\n` : modelTable(statuses),
      );
    });

  models
    .command("pull")
    .description("fetch a model; goes on where an interrupted fetch stopped")
    .argument("<model>", SPEC)
    .addOption(folder())
    .addOption(new Option("--mirror <mirror>", "where to fetch from first").choices(MIRRORS))
    .option("--revision <revision>", "branch, tag or commit of a hub repository")
    .option("--verify", "hash files that are already here, and fetch damaged ones again")
    .option("--offline", "never touch the network")
    .action(pull);

  models
    .command("path")
    .description("print where a fetched model lies")
    .argument("<model>", SPEC)
    .addOption(folder())
    .action(async (model: string, options: FolderOptions) => {
      const { path } = await resolveModel(model, { cacheDir: options.downloadDir, offline: true });
      process.stdout.write(`${path}\n`);
    });

  models
    .command("rm")
    .description("delete a fetched model")
    .argument("<model>", SPEC)
    .addOption(folder())
    .action(async (model: string, options: FolderOptions) => {
      const removed = await removeModel(model, { cacheDir: options.downloadDir });
      process.stdout.write(`Removed ${removed.folder} (${formatBytes(removed.bytes)}).\n`);
    });
}

async function pull(model: string, options: PullOptions): Promise<void> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  const progress = createProgress();
  const started = performance.now();
  let resolved: ResolvedModel;
  try {
    resolved = await resolveModel(model, {
      cacheDir: options.downloadDir,
      mirror: options.mirror,
      revision: options.revision,
      verify: options.verify,
      // Without the flag: SGLANG_OFFLINE and HF_HUB_OFFLINE decide.
      offline: options.offline,
      signal: stop.signal,
      onProgress: progress.update,
      onMessage: progress.message,
    });
  } finally {
    progress.stop();
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const known = CATALOG.find((entry) => entry.name === resolved.name);
  if (known?.unservableReason) progress.message(`Note: it can be inspected but not served; ${known.unservableReason}.`);
  progress.message(outcome(resolved, seconds, options.verify ?? false));
  process.stdout.write(`${resolved.path}\n`);
}

function outcome({ name, source }: ResolvedModel, seconds: string, verified: boolean): string {
  if (source === "local") return `${name} is a local file or folder; nothing to fetch.`;
  if (source === "cache") return `${name} is already here${verified ? " and undamaged" : ""}.`;
  return `${name} fetched from ${MIRROR_TITLES[source]} in ${seconds} s and checked.`;
}

/** Columns sized to their content; a `*` marks the default model. */
export function modelTable(statuses: readonly CatalogStatus[]): string {
  const rows = statuses.map(({ model, path, partialBytes }) => [
    model.name === DEFAULT_MODEL ? `${model.name} *` : model.name,
    parameterText(model.parameters),
    `${model.format === "gguf" ? "GGUF" : "safetensors"} ${model.quantization}`,
    formatBytes(modelSize(model)),
    model.licence,
    path ? "yes" : partialBytes > 0 ? `${formatBytes(partialBytes)} so far` : "no",
    model.servable ? "yes" : `no: ${model.unservableReason}`,
  ]);
  const table = [["NAME", "PARAMETERS", "FORMAT", "SIZE", "LICENCE", "ON DISK", "SERVABLE"], ...rows];
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n\n* loaded when no model is named. Fetch one: sglang-ts models pull NAME\n`;
}

function statusJson({ model, path, partialBytes }: CatalogStatus): Record<string, unknown> {
  const { name, aliases, description, format, quantization, parameters, architecture, licence, servable } = model;
  return {
    name,
    aliases,
    description,
    format,
    quantization,
    parameters,
    architecture,
    licence,
    size: modelSize(model),
    path,
    partialBytes,
    servable,
    unservableReason: model.unservableReason ?? null,
  };
}

/** 494M, 1.5B. */
function parameterText(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)}B` : `${Math.round(count / 1e6)}M`;
}
