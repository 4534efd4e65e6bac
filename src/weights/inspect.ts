/** What a model on disk is, without loading it: the data of `sglang-ts inspect` and its text form. */
import { basename } from "node:path";
import type { DType } from "../core/dtype.js";
import type { Metadata, MetadataValue, TokenizerSource } from "../core/model-files.js";
import { openCheckpoint } from "./checkpoint.js";

/** Longest text of a metadata value that is shown whole. */
const MAX_TEXT = 80;
/** Items of an array that are shown. */
const MAX_ITEMS = 4;

export interface TokenizerInspection {
  /** "gpt2", "llama", ... in GGUF; "BPE", "Unigram", ... in tokenizer.json. */
  model: string;
  /** Name of the pre-tokenizer; null when the file has none. */
  pre: string | null;
  vocabSize: number;
  /** Role ("bos", "eos", ...) to ids and texts; a text is null when the vocabulary lacks the id. */
  specialTokens: { role: string; id: number; text: string | null }[];
}

/** Plain data: JSON.stringify gives all of it. */
export interface Inspection {
  path: string;
  format: "gguf" | "safetensors";
  files: string[];
  /** GGUF `general.architecture`, or the first of config.json's `architectures`. */
  architecture: string;
  /** Elements of all tensors. */
  parameters: number;
  tensorCount: number;
  /** Bytes of all tensors. */
  bytes: number;
  /** Largest first. */
  dtypes: { dtype: DType; tensors: number; parameters: number; bytes: number }[];
  /** GGUF metadata or config.json, long values abbreviated. */
  metadata: { key: string; value: string }[];
  tensors: { name: string; shape: number[]; dtype: DType; bytes: number }[];
  /** Non-weight buffers of other types that are not read. */
  skipped: { name: string; dtype: string }[];
  tokenizer: TokenizerInspection | null;
  chatTemplate: string | null;
}

/** @throws SglangError as {@link openCheckpoint}. */
export async function inspectCheckpoint(path: string): Promise<Inspection> {
  const checkpoint = await openCheckpoint(path);
  try {
    const tensors = [...checkpoint.tensors.values()].map(({ name, shape, dtype, byteLength }) => ({
      name,
      shape: [...shape],
      dtype,
      bytes: byteLength,
    }));
    return {
      path: checkpoint.path,
      format: checkpoint.format,
      files: [...checkpoint.files],
      architecture: architecture(checkpoint.metadata, checkpoint.config),
      parameters: sum(tensors.map(({ shape }) => elements(shape))),
      tensorCount: tensors.length,
      bytes: sum(tensors.map(({ bytes }) => bytes)),
      dtypes: histogram(tensors),
      metadata: Object.entries(checkpoint.config ?? checkpoint.metadata).map(([key, value]) => ({
        key,
        value: abbreviate(value as MetadataValue),
      })),
      tensors,
      skipped: [...checkpoint.skipped],
      tokenizer: inspectTokenizer(checkpoint.tokenizer),
      chatTemplate: chatTemplate(checkpoint.tokenizer),
    };
  } finally {
    checkpoint.close();
  }
}

const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
const elements = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

function architecture(metadata: Metadata, config: Record<string, unknown> | null): string {
  const listed = Array.isArray(config?.architectures) ? config.architectures[0] : undefined;
  return String(metadata["general.architecture"] ?? listed ?? config?.model_type ?? "unknown");
}

function histogram(tensors: Inspection["tensors"]): Inspection["dtypes"] {
  const rows = new Map<DType, Inspection["dtypes"][number]>();
  for (const { dtype, shape, bytes } of tensors) {
    const row = rows.get(dtype) ?? { dtype, tensors: 0, parameters: 0, bytes: 0 };
    rows.set(dtype, row);
    row.tensors++;
    row.parameters += elements(shape);
    row.bytes += bytes;
  }
  return [...rows.values()].sort((a, b) => b.bytes - a.bytes);
}

/** A value on one line: long texts and arrays keep their start and tell their length. */
function abbreviate(value: MetadataValue | null | object): string {
  if (typeof value === "string") {
    const shown = JSON.stringify(value.length > MAX_TEXT ? value.slice(0, MAX_TEXT) : value);
    return value.length > MAX_TEXT ? `${shown}... (${value.length} characters)` : shown;
  }
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    const items = Array.from(value as ArrayLike<MetadataValue>)
      .slice(0, MAX_ITEMS)
      .map(abbreviate);
    const { length } = value as ArrayLike<MetadataValue>;
    return length > MAX_ITEMS ? `[${items.join(", ")}, ...] (${length} items)` : `[${items.join(", ")}]`;
  }
  if (typeof value === "object" && value !== null) {
    const text = JSON.stringify(value);
    return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}... (${text.length} characters)` : text;
  }
  return typeof value === "number" ? shortest(value) : String(value);
}

/** A number that is an f32 with the fewest digits that tell it from other f32: 1e-5, not 0.000009999999747378752. */
function shortest(value: number): string {
  if (Number.isInteger(value) || Math.fround(value) !== value) return String(value);
  const digits = [6, 7, 8].find((n) => Math.fround(Number(value.toPrecision(n))) === value) ?? 9;
  return String(Number(value.toPrecision(digits)));
}

function inspectTokenizer(source: TokenizerSource | null): TokenizerInspection | null {
  if (source === null) return null;
  return source.kind === "gguf" ? inspectGgufTokenizer(source.metadata) : inspectHuggingFaceTokenizer(source);
}

function inspectGgufTokenizer(metadata: Metadata): TokenizerInspection {
  const tokens = metadata["tokenizer.ggml.tokens"];
  const texts = Array.isArray(tokens) ? tokens : [];
  const specialTokens = Object.entries(metadata).flatMap(([key, id]) => {
    const role = /^tokenizer\.ggml\.(\w+)_token_id$/.exec(key)?.[1];
    if (role === undefined || typeof id !== "number") return [];
    return [{ role, id, text: typeof texts[id] === "string" ? texts[id] : null }];
  });
  return {
    model: String(metadata["tokenizer.ggml.model"]),
    pre: metadata["tokenizer.ggml.pre"] === undefined ? null : String(metadata["tokenizer.ggml.pre"]),
    vocabSize: texts.length,
    specialTokens,
  };
}

type HuggingFaceSource = Extract<TokenizerSource, { kind: "huggingface" }>;

function inspectHuggingFaceTokenizer({ tokenizer, config }: HuggingFaceSource): TokenizerInspection {
  const model = asObject(tokenizer.model);
  const ids = new Map<string, number>();
  // BPE and WordPiece list {text: id}, Unigram [[text, score]].
  if (Array.isArray(model.vocab)) for (const [id, entry] of model.vocab.entries()) ids.set(String(entry?.[0]), id);
  else for (const [text, id] of Object.entries(asObject(model.vocab))) ids.set(text, Number(id));
  for (const added of Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []) {
    const { content, id } = asObject(added);
    if (typeof content === "string" && typeof id === "number") ids.set(content, id);
  }
  const specialTokens = Object.entries(config).flatMap(([key, value]) => {
    const role = /^(bos|eos|unk|pad|sep|cls|mask)_token$/.exec(key)?.[1];
    const text = typeof value === "string" ? value : asObject(value).content;
    if (role === undefined || typeof text !== "string") return [];
    const id = ids.get(text);
    return id === undefined ? [] : [{ role, id, text }];
  });
  const pre = asObject(tokenizer.pre_tokenizer).type;
  return {
    model: typeof model.type === "string" ? model.type : "unknown",
    pre: typeof pre === "string" ? pre : null,
    vocabSize: ids.size,
    specialTokens,
  };
}

const asObject = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

function chatTemplate(source: TokenizerSource | null): string | null {
  if (source === null) return null;
  if (source.kind === "gguf") {
    const template = source.metadata["tokenizer.chat_template"];
    return typeof template === "string" ? template : null;
  }
  if (source.chatTemplate !== undefined) return source.chatTemplate;
  const listed = source.config.chat_template;
  if (typeof listed === "string") return listed;
  // Several named templates: the default one is the model's.
  const fallback = Array.isArray(listed) ? listed.map(asObject).find(({ name }) => name === "default") : undefined;
  return typeof fallback?.template === "string" ? fallback.template : null;
}

/**
 * The inspection as text for a terminal.
 * @param options.tensors list every tensor; otherwise only their number.
 * @param options.template print the whole chat template; otherwise only its length.
 */
export function formatInspection(data: Inspection, options: { tensors: boolean; template: boolean }): string {
  const { tokenizer, chatTemplate: template } = data;
  const facts: [string, string][] = [
    ["path", data.path],
    ["format", data.files.length > 1 ? `${data.format}, ${data.files.length} files` : data.format],
    ["architecture", data.architecture],
    ["parameters", `${count(data.parameters)} (${data.parameters})`],
    ["tensors", String(data.tensorCount)],
    [
      "size",
      `${size(data.bytes)} of weights, ${((8 * data.bytes) / Math.max(data.parameters, 1)).toFixed(2)} bits per weight`,
    ],
  ];
  if (tokenizer === null) facts.push(["tokenizer", "none"]);
  else {
    facts.push([
      "tokenizer",
      `${tokenizer.model}${tokenizer.pre === null ? "" : `, pre ${tokenizer.pre}`}, ${tokenizer.vocabSize} tokens`,
    ]);
    for (const { role, id, text } of tokenizer.specialTokens)
      facts.push([`  ${role}`, `${id} ${text === null ? "(not in the vocabulary)" : JSON.stringify(text)}`]);
  }
  facts.push(["chat template", template === null ? "none" : `${template.length} characters`]);
  if (data.skipped.length > 0)
    facts.push(["not read", data.skipped.map(({ name, dtype }) => `${name} (${dtype})`).join(", ")]);
  const sections = [
    table(facts),
    `Types\n${table(data.dtypes.map(({ dtype, tensors, parameters, bytes }) => [dtype, `${tensors} ${tensors === 1 ? "tensor" : "tensors"}`, `${count(parameters)} parameters`, size(bytes)]))}`,
    `${data.format === "gguf" ? "Metadata" : "Config"}\n${table(data.metadata.map(({ key, value }) => [key, value]))}`,
  ];
  if (data.files.length > 1) sections.push(`Files\n${table(data.files.map((file) => [basename(file)]))}`);
  if (options.tensors) {
    sections.push(
      `Tensors\n${table(data.tensors.map(({ name, dtype, shape, bytes }) => [name, dtype, `[${shape.join(", ")}]`, size(bytes)]))}`,
    );
  }
  if (options.template && template !== null) sections.push(`Chat template\n${template}`);
  return sections.join("\n\n");
}

/** Rows with columns padded to their widest cell, indented by two. */
function table(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i])).join("  ")}`.trimEnd()).join("\n");
}

function count(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)} B`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)} M`;
  return n >= 1e3 ? `${(n / 1e3).toFixed(1)} k` : String(n);
}

function size(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  if (bytes >= 2 ** 20) return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return bytes >= 2 ** 10 ? `${(bytes / 2 ** 10).toFixed(1)} KiB` : `${bytes} B`;
}
