import type { EngineApi, GenerateChunk, GenerateRequest } from "../../src/core/protocol.js";

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
