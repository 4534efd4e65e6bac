/** `sglang-ts cache`: packed weights and vocabularies that earlier starts left on disk; list them, add them up, delete them. */
import type { Command } from "commander";
import { InvalidArgumentError, Option } from "commander";
import {
  listVocabularies,
  pruneVocabularies,
  type VocabularyEntry,
  vocabularyFolder,
} from "../runtime/vocabulary-cache.js";
import {
  listPackedEntries,
  type PackedEntry,
  packedCacheLimit,
  packedFolder,
  prunePackedEntries,
} from "../weights/packed-cache.js";
import { formatBytes } from "../weights/transfer.js";

interface FolderOptions {
  downloadDir?: string;
}

export function registerCacheCommand(program: Command): void {
  const cache = program
    .command("cache")
    .description("list and delete packed weights and vocabularies kept from earlier starts");
  const folder = () => new Option("--download-dir <folder>", "folder for downloaded models (default: the caches)");

  cache
    .command("list", { isDefault: true })
    .description("show each model's packed weights and vocabularies, last used first")
    .addOption(folder())
    .option("--json", "print as JSON")
    .action(async ({ downloadDir, json }: FolderOptions & { json?: boolean }) => {
      const packed = packedFolder({ cacheDir: downloadDir });
      const entries = await listPackedEntries(packed);
      const vocabularies = await listVocabularies(vocabularyFolder(packed));
      const rows = [...entries.map(entryJson), ...vocabularies.map(vocabularyJson)];
      process.stdout.write(json ? `${JSON.stringify(rows, null, 2)}\n` : entryTable(entries, vocabularies));
    });

  cache
    .command("size")
    .description("print how many bytes all of it takes")
    .addOption(folder())
    .action(async ({ downloadDir }: FolderOptions) => {
      const packed = packedFolder({ cacheDir: downloadDir });
      const entries = [...(await listPackedEntries(packed)), ...(await listVocabularies(vocabularyFolder(packed)))];
      process.stdout.write(`${entries.reduce((sum, { bytes }) => sum + bytes, 0)}\n`);
    });

  cache
    .command("prune")
    .description("delete what no model or version can use, then the least recently used until the rest fits")
    .addOption(folder())
    .addOption(
      new Option(
        "--weight-cache-size <gigabytes>",
        "what may stay (default: $SGLANG_WEIGHT_CACHE_GB, or 20)",
      ).argParser((text) => {
        const limit = Number(text);
        if (text.trim() === "" || !(limit >= 0)) throw new InvalidArgumentError("Expected a number >= 0.");
        return limit;
      }),
    )
    .action(async ({ downloadDir, weightCacheSize }: FolderOptions & { weightCacheSize?: number }) => {
      const limit = packedCacheLimit(weightCacheSize ?? null) * 1e9;
      const packed = packedFolder({ cacheDir: downloadDir });
      report([
        ...(await prunePackedEntries(packed, limit, isUseless)),
        ...(await pruneVocabularies(vocabularyFolder(packed))),
      ]);
    });

  cache
    .command("clear")
    .description("delete all of it; the next start of each model packs again")
    .addOption(folder())
    .action(async ({ downloadDir }: FolderOptions) => {
      const packed = packedFolder({ cacheDir: downloadDir });
      report([...(await prunePackedEntries(packed, 0)), ...(await pruneVocabularies(vocabularyFolder(packed), 0))]);
    });
}

/** Damaged, packed by another version, or of a model that is gone. */
async function isUseless({ index }: PackedEntry): Promise<boolean> {
  if (index === null) return true;
  const [{ loadAddon }, { existsSync }] = await Promise.all([import("../native/load.js"), import("node:fs")]);
  return !existsSync(index.model) || index.layout !== loadAddon().packedLayout();
}

function report(removed: readonly { bytes: number }[]): void {
  const bytes = removed.reduce((sum, entry) => sum + entry.bytes, 0);
  process.stdout.write(
    removed.length === 0 ? "Nothing to remove.\n" : `Removed ${removed.length} (${formatBytes(bytes)}).\n`,
  );
}

function entryTable(entries: readonly PackedEntry[], vocabularies: readonly VocabularyEntry[]): string {
  if (entries.length + vocabularies.length === 0) return "Nothing is kept. The first start of a model makes it.\n";
  const all = [
    ...entries.map(({ bytes, lastUsed, index }) => ({ bytes, lastUsed, what: index?.model ?? "(damaged)" })),
    ...vocabularies.map(({ bytes, lastUsed, model }) => ({
      bytes,
      lastUsed,
      what: `vocabulary of ${model ?? "(damaged)"}`,
    })),
  ];
  const total = all.reduce((sum, { bytes }) => sum + bytes, 0);
  const rows = all.map(({ bytes, lastUsed, what }) => {
    const day = new Date(lastUsed).toISOString().slice(0, 16).replace("T", " ");
    return `${formatBytes(bytes).padStart(9)}  ${day}  ${what}`;
  });
  return `     SIZE  LAST USED         MODEL\n${rows.join("\n")}\n\n${formatBytes(total)} in all. Delete them: sglang-ts cache clear\n`;
}

function entryJson({ path, bytes, lastUsed, index }: PackedEntry): Record<string, unknown> {
  const used = new Date(lastUsed).toISOString();
  return {
    path,
    bytes,
    lastUsed: used,
    model: index?.model ?? null,
    matrices: Object.keys(index?.matrices ?? {}).length,
  };
}

function vocabularyJson({ path, bytes, lastUsed, model }: VocabularyEntry): Record<string, unknown> {
  return { path, bytes, lastUsed: new Date(lastUsed).toISOString(), vocabularyOf: model };
}
