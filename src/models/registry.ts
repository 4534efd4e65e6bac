/** Architecture strings to model files, loaded when one is asked for. The only place that knows all models. */
import { SglangError } from "../core/errors.js";
import type { Architecture } from "./architecture.js";

/** Keys are config.json's `architectures[0]` and GGUF's `general.architecture`. */
const architectures: Readonly<Record<string, () => Promise<Architecture>>> = {
  LlamaForCausalLM: async () => (await import("./llama.js")).llama,
  MistralForCausalLM: async () => (await import("./llama.js")).mistral,
  Qwen2ForCausalLM: async () => (await import("./qwen2.js")).qwen2,
  llama: async () => (await import("./llama.js")).llama,
  qwen2: async () => (await import("./qwen2.js")).qwen2,
};

export const supportedArchitectures: readonly string[] = Object.keys(architectures);

/** Class names of GGUF's short names, which is what clients know an architecture by. */
const classNames: Readonly<Record<string, string>> = { llama: "LlamaForCausalLM", qwen2: "Qwen2ForCausalLM" };

/** The name config.json would have for `architecture`, whichever format it was read from. */
export function architectureClass(architecture: string): string {
  return Object.hasOwn(classNames, architecture) ? classNames[architecture] : architecture;
}

/** @throws SglangError UNSUPPORTED_MODEL listing the names that are known. */
export async function findArchitecture(name: string): Promise<Architecture> {
  const load = Object.hasOwn(architectures, name) ? architectures[name] : undefined;
  if (load === undefined) {
    const known = supportedArchitectures.join(", ");
    throw new SglangError("UNSUPPORTED_MODEL", `Architecture ${name} is not supported; known are ${known}.`, {
      field: "architectures",
      expected: known,
      found: name,
    });
  }
  return load();
}
