/** Requests given to a scheduler directly, without an engine around it: for constraints and other things of one request. */
import type { FinishReason, GenerateChunk, LogprobRequest } from "../../src/core/protocol.js";
import { resolveSamplingParams, type SamplingParams } from "../../src/core/sampling-params.js";
import { AnswerOutput, TokenTexts } from "../../src/runtime/output.js";
import { Req, type ReqConstraint } from "../../src/runtime/request.js";
import { Scheduler, type SchedulerOptions } from "../../src/runtime/scheduler.js";
import { StopMatcher } from "../../src/runtime/stop-matcher.js";
import { createDetokenizer } from "../../src/tokenizer/detokenizer.js";
import { EOS, type FakeRunner, fakeTokenizer, VOCAB } from "./fake-runner.js";

const texts = new TokenTexts(fakeTokenizer);

export interface TestRequest {
  prompt: readonly number[];
  params: Partial<SamplingParams> & { maxNewTokens: number };
  logprobs?: LogprobRequest;
  /** A fresh one per request. */
  constraint?: () => ReqConstraint;
  /** Called with each chunk. */
  onChunk?: (chunk: GenerateChunk, req: Req) => void;
}

/** All that a caller sees of an answer. */
export interface Answer {
  text: string;
  ids: number[];
  finishReason: FinishReason | null;
  logprobs: unknown[];
  error: string | null;
}

export function scheduler(runner: FakeRunner, options: Partial<SchedulerOptions> = {}): Scheduler {
  return new Scheduler(runner, {
    stepTokens: 64,
    maxRunningRequests: 32,
    maxQueuedRequests: null,
    policy: "fcfs",
    byPriority: false,
    preemptionThreshold: 10,
    fairShare: null,
    conservativeness: 1,
    disableRadixCache: false,
    overlap: true,
    mixedChunk: false,
    radixEvictionPolicy: "lru",
    decodeLogInterval: 1000,
    watchdogTimeout: 0,
    strict: true,
    random: () => 0.5,
    ...options,
  });
}

let made = 0;

export function answer(
  to: Scheduler,
  { prompt, params: given, logprobs, constraint, onChunk }: TestRequest,
): Promise<Answer> {
  const params = resolveSamplingParams(given, { vocabSize: VOCAB });
  const result: Answer = { text: "", ids: [], finishReason: null, logprobs: [], error: null };
  return new Promise((resolve) => {
    const output = new AnswerOutput({
      index: 0,
      detokenizer: createDetokenizer(fakeTokenizer, {}, prompt),
      stops: new StopMatcher({ strings: params.stop, regexes: params.stopRegex, trim: !params.noStopTrim }),
      texts,
      thinking: null,
      stream: true,
      streamInterval: 1,
      emit: (chunk) => {
        result.text += chunk.textDelta;
        result.ids.push(...chunk.tokenIdsDelta);
        if (chunk.logprobs) result.logprobs.push(structuredClone(chunk.logprobs));
        result.finishReason = chunk.finishReason;
        onChunk?.(chunk, req);
      },
      end: (error) => {
        result.error = error?.message ?? null;
        resolve(result);
      },
    });
    const req = new Req({
      rid: `r${made++}`,
      group: {},
      promptIds: prompt,
      params,
      maxNewTokens: given.maxNewTokens,
      seed: BigInt(given.seed ?? 0),
      stopIds: new Set(params.ignoreEos ? [] : [EOS]),
      logprobs,
      constraint: constraint?.(),
      output,
    });
    to.enqueue([req]);
  });
}

/** Allows about half of all ids, others after every token, from eight masks that all requests share. */
const SHARED_MASKS = Array.from({ length: 8 }, (_, i) => {
  const mask = new Uint32Array(Math.ceil(VOCAB / 32));
  for (let id = 0; id < VOCAB; id++) if ((id * 7 + i * 3) % 11 < 5) mask[id >> 5] |= 1 << (id & 31);
  return mask;
});

export class FakeConstraint implements ReqConstraint {
  state = 0;
  accepted: number[] = [];

  mask(): Uint32Array | null {
    return this.state % 9 === 8 ? null : SHARED_MASKS[this.state % 9];
  }

  accept(id: number): void {
    const mask = this.mask();
    if (mask && !((mask[id >> 5] >>> (id & 31)) & 1))
      throw new Error(`token ${id} is not allowed in state ${this.state}`);
    this.accepted.push(id);
    this.state = (this.state * 31 + id + 1) % 1000;
  }
}
