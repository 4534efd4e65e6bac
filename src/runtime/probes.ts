/** Embedding and scoring: prompts that are computed for what their last token says, without an answer. */
import { randomUUID } from "node:crypto";
import { invalidField, SglangError } from "../core/errors.js";
import type { EmbedRequest, EmbedResult, ScoreRequest, ScoreResult } from "../core/protocol.js";
import { resolveSamplingParams } from "../core/sampling-params.js";
import type { RowOutput } from "./batch.js";
import { ABORTED } from "./generate-call.js";
import { ProbeOutput } from "./output.js";
import type { fitPrompt, PromptEncoder } from "./prompt.js";
import { type Probe, Req } from "./request.js";
import type { Scheduler } from "./scheduler.js";
import type { TimeSlices } from "./time-slices.js";

/** What probes need of the engine. */
export interface ProbeParts {
  vocabSize: number;
  encoder: PromptEncoder;
  scheduler: Scheduler;
  slices: TimeSlices;
  /** Cuts or refuses a prompt that the context or the pool cannot hold. */
  fit(ids: readonly number[]): ReturnType<typeof fitPrompt>;
}

export class Probes {
  readonly #parts: ProbeParts;

  constructor(parts: ProbeParts) {
    this.#parts = parts;
  }

  /** The last hidden state of the prompt, of length 1. `rid`: claimed by the caller. */
  async embed({ prompt, signal }: EmbedRequest, rid: string): Promise<Omit<EmbedResult, "rid">> {
    const ids = await this.#parts.encoder.encode(prompt);
    const [{ row, promptTokens }] = await this.#run([ids], { hidden: true, tokenIds: [] }, signal, rid);
    return { embedding: normalise(row.hidden as Float32Array), promptTokens };
  }

  /** Probabilities of the labels as the token after each item. */
  async score(request: ScoreRequest): Promise<ScoreResult> {
    const { labelTokenIds, applySoftmax = false } = request;
    this.#parts.encoder.checkIds(labelTokenIds, "label_token_ids");
    if (labelTokenIds.length === 0) throw invalidField("label_token_ids", "at least one token id", "none");
    const prompts = await this.#scorePrompts(request);
    if (prompts.length === 0) return { scores: [], promptTokens: 0 };
    const results = await this.#run(prompts, { hidden: false, tokenIds: labelTokenIds }, request.signal);
    return {
      scores: results.map(({ row }) => {
        const probabilities = Array.from(row.wantedLogprobs, Math.exp);
        if (!applySoftmax) return probabilities;
        // Softmax over the labels' logits: their logprobs differ from them by a constant.
        const best = row.wantedLogprobs.reduce((a, b) => Math.max(a, b));
        const weights = Array.from(row.wantedLogprobs, (logprob) => Math.exp(logprob - best));
        const sum = weights.reduce((a, b) => a + b, 0);
        return weights.map((weight) => weight / sum);
      }),
      promptTokens: results.reduce((sum, { promptTokens }) => sum + promptTokens, 0),
    };
  }

  /** Runs prompts up to their last token and reads one row of each, in order. */
  async #run(
    prompts: readonly (readonly number[])[],
    probe: Probe,
    signal: AbortSignal | undefined,
    rid: string = randomUUID(),
  ): Promise<{ row: RowOutput; promptTokens: number }[]> {
    const { vocabSize, slices, scheduler, fit } = this.#parts;
    const params = resolveSamplingParams({ maxNewTokens: 0 }, { vocabSize });
    const group = {};
    const outputs = prompts.map(() => new ProbeOutput());
    const reqs = await Promise.all(
      prompts.map((prompt, i) =>
        slices.run(() => {
          const { ids: promptIds, maxNewTokens } = fit(prompt);
          const stopIds = new Set<number>();
          const init = { rid: `${rid}_${i}`, group, promptIds, params, maxNewTokens, seed: 0n, stopIds };
          return new Req({ ...init, probe, output: outputs[i] });
        }),
      ),
    );
    if (signal?.aborted) throw new SglangError("ABORTED", ABORTED);
    const abort = () => {
      for (const req of reqs) scheduler.abort(req, ABORTED);
    };
    scheduler.enqueue(reqs);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      const rows = await Promise.all(outputs.map((output) => output.result));
      return rows.map((row, i) => ({ row, promptTokens: reqs[i].promptLength }));
    } catch (error) {
      abort();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  async #scorePrompts({ query, items, itemFirst = false }: ScoreRequest): Promise<(readonly number[])[]> {
    const join = <T extends string | readonly number[]>(item: T, glue: (first: T, second: T) => T): T =>
      itemFirst ? glue(item, query as T) : glue(query as T, item);
    return Promise.all(
      items.map(async (item, i) => {
        if (typeof item !== typeof query) {
          throw invalidField(
            `items[${i}]`,
            `of the same kind as query, ${typeof query === "string" ? "a text" : "token ids"}`,
            item,
          );
        }
        if (typeof item === "string")
          return this.#parts.encoder.encode({ text: join(item, (a, b) => (a as string) + b) });
        this.#parts.encoder.checkIds(item, `items[${i}]`);
        return this.#parts.encoder.encode({ inputIds: join(item, (a, b) => [...a, ...b] as never) });
      }),
    );
  }
}

function normalise(vector: Float32Array): Float32Array {
  let sum = 0;
  for (const x of vector) sum += x * x;
  const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
  return vector.map((x) => x * scale);
}
