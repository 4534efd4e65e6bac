import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import {
  DEFAULT_SAMPLING_PARAMS,
  resolveSamplingParams,
  type SamplingParams,
  wireName,
} from "../../src/core/sampling-params.js";

const context = { vocabSize: 100 };

describe("sampling parameters", () => {
  it("are SGLang's defaults when nothing is given", () => {
    expect(resolveSamplingParams({}, context)).toEqual(DEFAULT_SAMPLING_PARAMS);
  });

  it("take the request before the model's defaults before SGLang's", () => {
    const p = resolveSamplingParams({ topP: 0.5 }, { ...context, defaults: { topP: 0.8, topK: 20 } });
    expect([p.topP, p.topK, p.temperature]).toEqual([0.5, 20, 1]);
  });

  it("go by SGLang's names on the wire", () => {
    expect(wireName("maxNewTokens")).toBe("max_new_tokens");
    expect(wireName("seed")).toBe("sampling_seed");
  });

  const accepted: Partial<SamplingParams>[] = [
    { temperature: 0 },
    { temperature: 100 },
    { topP: 1 },
    { topP: 1e-9 },
    { topK: -1 },
    { topK: 1 },
    { minP: 0 },
    { minP: 1 },
    { frequencyPenalty: -2 },
    { presencePenalty: 2 },
    { repetitionPenalty: 2 },
    { maxNewTokens: 0 },
    { maxNewTokens: null },
    { minNewTokens: 128 },
    { stop: ["a"] },
    { stopRegex: ["a+b"] },
    { stopTokenIds: [0, 99] },
    { logitBias: { 5: -100 } },
    { n: 128 },
    { seed: -1 },
  ];
  it.each(accepted)("accept %j", (given) => {
    expect(resolveSamplingParams(given, context)).toMatchObject(given);
  });

  const refused: [Partial<Record<keyof SamplingParams, unknown>>, string][] = [
    [{ temperature: -0.1 }, "temperature"],
    [{ temperature: Number.NaN }, "temperature"],
    [{ temperature: "1" }, "temperature"],
    [{ topP: 0 }, "top_p"],
    [{ topP: 1.01 }, "top_p"],
    [{ topK: 0 }, "top_k"],
    [{ topK: -2 }, "top_k"],
    [{ topK: 1.5 }, "top_k"],
    [{ minP: -0.1 }, "min_p"],
    [{ minP: 1.1 }, "min_p"],
    [{ frequencyPenalty: 2.1 }, "frequency_penalty"],
    [{ presencePenalty: -2.1 }, "presence_penalty"],
    [{ repetitionPenalty: 0 }, "repetition_penalty"],
    [{ maxNewTokens: -1 }, "max_new_tokens"],
    [{ minNewTokens: 129 }, "min_new_tokens"],
    [{ n: 0 }, "n"],
    [{ stop: [""] }, "stop"],
    [{ stop: "x" }, "stop"],
    [{ stopRegex: ["("] }, "stop_regex"],
    [{ stopTokenIds: [100] }, "stop_token_ids"],
    [{ stopTokenIds: [-1] }, "stop_token_ids"],
    [{ logitBias: { 100: 1 } }, "logit_bias"],
    [{ logitBias: { 1: Number.POSITIVE_INFINITY } }, "logit_bias"],
    [{ logitBias: [] }, "logit_bias"],
    [{ ignoreEos: 1 }, "ignore_eos"],
    [{ seed: 1.5 }, "sampling_seed"],
  ];
  it.each(refused)("refuse %j naming the field", (given, field) => {
    let error: unknown;
    try {
      resolveSamplingParams(given as Partial<SamplingParams>, { ...context, prefix: "sampling_params." });
    } catch (caught) {
      error = caught;
    }
    expect(SglangError.isInstance(error) && error.code).toBe("INVALID_REQUEST");
    expect((error as SglangError).message).toContain(`sampling_params.${field}`);
    expect((error as SglangError).details.expected).toBeTruthy();
  });

  it("refuse a parameter nobody knows", () => {
    expect(() => resolveSamplingParams({ heat: 1 } as Partial<SamplingParams>, context)).toThrow(/heat/);
  });
});
