/**
 * The thread that grammars are tried in before the engine compiles them: what takes too long or too much memory ends
 * here and not in the process that serves. One message per grammar, answered in order.
 */
import { parentPort } from "node:worker_threads";
import { SglangError } from "../core/errors.js";
import { GrammarCompiler, type GrammarSpec, Vocabulary } from "../grammar/index.js";

export type TrialAnswer =
  | { error: null }
  | { error: { code: SglangError["code"]; message: string; details: SglangError["details"] } };

/** Compiling does not depend on the vocabulary; only masks do. */
const NO_TOKENS = new Vocabulary({
  vocabSize: 32,
  eosTokenIds: [0],
  tokenBytes: () => new Uint8Array(),
  isSpecial: () => true,
});

parentPort?.on("message", (spec: GrammarSpec) => {
  let answer: TrialAnswer = { error: null };
  try {
    // A compiler of its own: nothing of a grammar that is thrown away stays behind.
    new GrammarCompiler(NO_TOKENS).compile(spec);
  } catch (error) {
    const known = SglangError.isInstance(error);
    answer = {
      error: {
        code: known ? error.code : "ENGINE_FAILED",
        message: known ? error.message : `Compiling the grammar failed: ${(error as Error).message}`,
        details: known ? error.details : {},
      },
    };
  }
  parentPort?.postMessage(answer);
});
