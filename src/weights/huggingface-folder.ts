/** The JSON files of a Hugging Face model folder: config, generation config, tokenizer, chat template. */
import { join } from "node:path";
import { SglangError } from "../core/errors.js";
import type { TokenizerSource } from "../core/model-files.js";
import { readJsonFile, readTextFile } from "./json-file.js";

export interface HuggingFaceFiles {
  config: Record<string, unknown>;
  /** {} when absent. */
  generationConfig: Record<string, unknown>;
  /** null without tokenizer.json. */
  tokenizer: TokenizerSource | null;
}

const SPECIAL_TOKENS = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/** @throws SglangError FILE_NOT_FOUND without config.json; MALFORMED_FILE naming a file that is not JSON. */
export function readHuggingFaceFiles(folder: string): HuggingFaceFiles {
  const config = readJsonFile(join(folder, "config.json"));
  if (config === undefined) {
    throw new SglangError(
      "FILE_NOT_FOUND",
      `${folder} has weights but no config.json; copy it from the model's repository.`,
      {
        file: join(folder, "config.json"),
        expected: "config.json",
      },
    );
  }
  const generationConfig = readJsonFile(join(folder, "generation_config.json")) ?? {};
  const tokenizer = readJsonFile(join(folder, "tokenizer.json"));
  if (tokenizer === undefined) return { config, generationConfig, tokenizer: null };
  const tokenizerConfig = readTokenizerConfig(folder);
  // The newest place first: chat_template.jinja, then tokenizer_config.json, then chat_template.json of older processors.
  const chatTemplate = readTextFile(join(folder, "chat_template.jinja"));
  if (tokenizerConfig.chat_template == null) {
    const processor = readJsonFile(join(folder, "chat_template.json"));
    if (typeof processor?.chat_template === "string") tokenizerConfig.chat_template = processor.chat_template;
  }
  const source: TokenizerSource = {
    kind: "huggingface",
    tokenizer,
    config: tokenizerConfig,
    generationConfig,
    modelConfig: config,
  };
  return { config, generationConfig, tokenizer: chatTemplate === undefined ? source : { ...source, chatTemplate } };
}

/** tokenizer_config.json; special tokens it does not name come from special_tokens_map.json, as in transformers. */
function readTokenizerConfig(folder: string): Record<string, unknown> {
  const config = { ...readJsonFile(join(folder, "tokenizer_config.json")) };
  const map = readJsonFile(join(folder, "special_tokens_map.json")) ?? {};
  for (const key of SPECIAL_TOKENS) if (config[key] === undefined && map[key] !== undefined) config[key] = map[key];
  return config;
}
