/** Which files of a repository make a model: repositories also hold other formats, other quantisations and originals. */
import { basename } from "node:path";
import { SglangError } from "../core/errors.js";

export interface Selection {
  /** Files to fetch. */
  paths: string[];
  /** The GGUF file (the first of a split one) to open; null when the folder is the model. */
  main: string | null;
}

/** Taken when a repository offers a choice: the usual balance of size and quality. */
const PREFERRED = "Q4_K_M";
const SHARD = /-(\d{5})-of-(\d{5})\.gguf$/i;
/** Beside the weights at the top of the repository. sentence-transformers keeps one more config per pooling module. */
const BESIDE = /^(?:[^/]+\.(?:json|jinja|txt)|tokenizer\.model|\d+_[A-Za-z]+\/config\.json)$/;

/**
 * @param wanted file of the repository, or a quantisation such as `Q5_K_M`
 * @throws SglangError INVALID_REQUEST when several GGUF files fit (the message lists them), NOT_FOUND when `wanted` is not
 *   there, UNSUPPORTED_MODEL when the repository holds neither GGUF nor safetensors
 */
export function selectFiles(
  repo: string,
  files: readonly { path: string; size: number }[],
  wanted?: string,
): Selection {
  const paths = files.map((file) => file.path);
  if (wanted !== undefined && paths.includes(wanted)) return withShards(wanted, paths);

  // The first shard stands for a split file; vision projectors are parts of a model, not models.
  const ggufs = paths.filter((path) => {
    const shard = SHARD.exec(path);
    return /\.gguf$/i.test(path) && (!shard || Number(shard[1]) === 1) && !/mmproj/i.test(basename(path));
  });
  if (wanted !== undefined) {
    const fits = ggufs.filter(
      (path) => basename(path).toLowerCase() === wanted.toLowerCase() || hasQuant(path, wanted),
    );
    if (fits.length === 1) return withShards(fits[0], paths);
    if (fits.length > 1) throw choice(repo, fits);
    const known = ggufs.length > 0 ? ggufs : paths;
    throw new SglangError("NOT_FOUND", `${repo} does not hold ${wanted}; it has ${list(known)}.`, {
      field: "model",
      expected: list(known),
      found: wanted,
    });
  }

  const weights = paths.filter((path) => /^[^/]+\.safetensors$/.test(path));
  if (weights.length > 0) {
    // Mistral's own format comes as a second copy of the same weights.
    const others = weights.filter((path) => !path.startsWith("consolidated"));
    const kept = others.length > 0 ? others : weights;
    return { paths: [...paths.filter((path) => BESIDE.test(path)), ...kept], main: null };
  }
  if (ggufs.length === 1) return withShards(ggufs[0], paths);
  const preferred = ggufs.filter((path) => hasQuant(path, PREFERRED));
  if (preferred.length === 1) return withShards(preferred[0], paths);
  if (ggufs.length > 1) throw choice(repo, preferred.length > 1 ? preferred : ggufs);
  throw new SglangError(
    "UNSUPPORTED_MODEL",
    `${repo} holds neither safetensors nor GGUF weights, only ${list(paths)}: choose a repository that has them.`,
    { expected: "*.safetensors or *.gguf", found: list(paths) },
  );
}

/** `model-q4_k_m.gguf` has the quantisation `Q4_K_M`, but not `Q4_K`. */
function hasQuant(path: string, quant: string): boolean {
  const escaped = quant.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?:^|[-.])${escaped}(?:[-.]|$)`, "i").test(basename(path));
}

function withShards(main: string, paths: readonly string[]): Selection {
  const shard = SHARD.exec(main);
  if (!shard) return { paths: [main], main };
  const stem = main.slice(0, shard.index);
  const all = Array.from(
    { length: Number(shard[2]) },
    (_, i) => `${stem}-${String(i + 1).padStart(5, "0")}-of-${shard[2]}.gguf`,
  );
  const missing = all.find((path) => !paths.includes(path));
  if (missing)
    throw new SglangError("NOT_FOUND", `${main} is split, and its part ${missing} is missing.`, { file: missing });
  return { paths: all, main: all[0] };
}

function choice(repo: string, files: readonly string[]): SglangError {
  return new SglangError(
    "INVALID_REQUEST",
    `${repo} holds several GGUF files; name one, such as ${repo}:${files[0]}. It has ${list(files)}.`,
    { field: "model", expected: list(files) },
  );
}

function list(paths: readonly string[]): string {
  const shown = paths.slice(0, 40).join(", ");
  return paths.length > 40 ? `${shown} and ${paths.length - 40} more` : shown || "nothing";
}
