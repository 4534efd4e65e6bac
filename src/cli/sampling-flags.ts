/** Sampling flags shared by `generate` and `chat`; ranges are checked by the engine, which names the field. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { SamplingParams } from "../core/sampling-params.js";

const FLAGS: readonly (readonly [flag: string, key: keyof SamplingParams, help: string])[] = [
  ["--max-new-tokens", "maxNewTokens", "most tokens to generate"],
  ["--temperature", "temperature", "0 is greedy"],
  ["--top-p", "topP", "smallest set of tokens with this probability"],
  ["--top-k", "topK", "only the k likeliest tokens; -1 = all"],
  ["--min-p", "minP", "drop tokens less likely than this share of the likeliest"],
  ["--repetition-penalty", "repetitionPenalty", "above 1 discourages repetition"],
  ["--seed", "seed", "same seed, same answer"],
];

const GROUP = "Sampling:";

export function addSamplingFlags(command: Command): void {
  for (const [flag, , help] of FLAGS) {
    command.addOption(
      new Option(`${flag} <n>`, help).helpGroup(GROUP).argParser((text) => {
        const value = Number(text);
        if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("Expected a number.");
        return value;
      }),
    );
  }
  command.addOption(
    new Option("--stop <text>", "text that ends the answer; may be repeated")
      .helpGroup(GROUP)
      .argParser((text: string, earlier: string[] | undefined) => [...(earlier ?? []), text]),
  );
}

export function samplingFromOptions(options: Record<string, unknown>): Partial<SamplingParams> {
  const params: Partial<Record<keyof SamplingParams, unknown>> = {};
  for (const [flag, key] of FLAGS) {
    const value = options[flag.slice(2).replace(/-([a-z])/g, (_, c: string) => c.toUpperCase())];
    if (value !== undefined) params[key] = value;
  }
  if (options.stop !== undefined) params.stop = options.stop;
  return params as Partial<SamplingParams>;
}
