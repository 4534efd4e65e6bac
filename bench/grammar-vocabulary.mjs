/** Vocabularies for the grammar benches: tokenizers of catalog models by a short name, or of any model file. */
import { Vocabulary } from "../dist/grammar/index.js";
import { resolveModel } from "../dist/weights/index.js";
import { openTokenizer } from "./open-tokenizer.mjs";

const MODELS = { smollm2: "smollm2-135m", qwen: "qwen2.5-coder-0.5b", gemma: "gemma3-270m" };

/** @param name smollm2, qwen, gemma, or a path. A model that is not here is fetched. */
export async function openVocabulary(name) {
  if (MODELS[name] === undefined && !name.includes("/") && !name.includes("."))
    throw new Error(`--vocab ${name}: expected ${Object.keys(MODELS).join(", ")} or a model file`);
  const file = MODELS[name] === undefined ? name : (await resolveModel(MODELS[name])).path;
  return new Vocabulary(await openTokenizer(file));
}
