/** Sampling parameters under the names of an API. */
import type { SamplingParams } from "../../core/sampling-params.js";
import { wireName } from "../../core/sampling-params.js";

type Key = keyof SamplingParams;

/** SGLang's `sampling_params` dict. */
export function nativeSampling(sampling: Partial<SamplingParams>): Record<string, unknown> {
  return renamed(sampling, Object.keys(sampling) as Key[], wireName);
}

/** Names that OpenAI's API has, or that servers agree on beside it. `maxNewTokens` differs by route and is the caller's. */
const OPENAI_NAMES: Partial<Record<Key, string>> = { seed: "seed", minNewTokens: "min_tokens" };

/** Parameters of an OpenAI-style body, all but `maxNewTokens`. */
export function openAiSampling(
  sampling: Partial<SamplingParams>,
  names: Partial<Record<Key, string>> = {},
): Record<string, unknown> {
  const keys = (Object.keys(sampling) as Key[]).filter((key) => key !== "maxNewTokens");
  return renamed(sampling, keys, (key) => names[key] ?? OPENAI_NAMES[key] ?? wireName(key));
}

function renamed(sampling: Partial<SamplingParams>, keys: readonly Key[], name: (key: Key) => string) {
  const wire: Record<string, unknown> = {};
  for (const key of keys) if (sampling[key] !== undefined) wire[name(key)] = sampling[key];
  return wire;
}
