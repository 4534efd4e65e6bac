/** What the engine tests share: running a request to its end, and the fake tokenizer's text. */
import { SglangError } from "../../src/core/errors.js";
import type { EngineApi, GenerateChunk, GenerateRequest } from "../../src/core/protocol.js";
import { fakeTokenizer } from "./fake-runner.js";

export const encode = (text: string) => fakeTokenizer.encode(text);
export const decode = (ids: readonly number[]) => fakeTokenizer.decode(ids);
export const greedy = { temperature: 0, ignoreEos: true };

/** The code of the SglangError a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error("nothing was thrown"),
    (e: Error) => e,
  );
  return error instanceof SglangError ? error.code : String(error);
}

export interface Collected {
  text: string;
  ids: number[];
  chunks: GenerateChunk[];
  last: GenerateChunk;
}

/** Runs a request to its end and puts the chunks of its first answer together. */
export async function collect(engine: EngineApi, request: GenerateRequest): Promise<Collected> {
  return (await collectAll(engine, request))[0];
}

/** The same for all n answers. */
export async function collectAll(engine: EngineApi, request: GenerateRequest): Promise<Collected[]> {
  const answers: GenerateChunk[][] = [];
  for await (const chunk of engine.generate(request)) {
    answers[chunk.index] ??= [];
    answers[chunk.index].push(chunk);
  }
  return answers.map((chunks) => ({
    text: chunks.map((c) => c.textDelta).join(""),
    ids: chunks.flatMap((c) => c.tokenIdsDelta),
    chunks,
    last: chunks[chunks.length - 1],
  }));
}
