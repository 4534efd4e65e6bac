/**
 * How `select` compares its choices. Each method is a small object; a custom one needs no more than `scores`.
 * Source of the rules: SGLang `choices.py`.
 */
import type { BackendTokenLogprob } from "./backends/backend.js";

export interface ScoredChoice {
  choice: string;
  /** The choice's tokens with their logprobs after the prompt. At least one. */
  tokens: readonly BackendTokenLogprob[];
  /** Logprobs of the same tokens without the prompt, null where there is none; for methods that ask. */
  unconditional?: readonly (number | null)[];
}

export interface ChoicesMethod {
  readonly name: string;
  /** Ask for `unconditional` too: one more pass over the choices. @default false */
  readonly requiresUnconditional?: boolean;
  /** One score per choice; the highest wins, ties go to the first. */
  scores(choices: readonly ScoredChoice[]): readonly number[];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

const logprobs = (choice: ScoredChoice) => choice.tokens.map(([logprob]) => logprob);

/** The highest mean logprob of a choice's tokens. The default. */
export const tokenLengthNormalized: ChoicesMethod = {
  name: "tokenLengthNormalized",
  scores: (choices) => choices.map((choice) => mean(logprobs(choice))),
};

/**
 * Token by token, as greedy decoding would go: at each position only the choices with the best logprob stay. A choice
 * that has ended is compared by its mean. The score is the number of positions a choice survived.
 */
export const greedyTokenSelection: ChoicesMethod = {
  name: "greedyTokenSelection",
  scores: (choices) => {
    const rows = choices.map(logprobs);
    const means = rows.map(mean);
    const longest = Math.max(...rows.map((row) => row.length));
    const survived = rows.map(() => 0);
    let alive = rows.map((_, index) => index);
    for (let position = 0; position < longest; position++) {
      const at = (index: number) => rows[index][position] ?? means[index];
      const best = Math.max(...alive.map(at));
      alive = alive.filter((index) => at(index) === best);
      for (const index of alive) survived[index] = position + 1;
    }
    return survived;
  },
};

/** The highest mean gain: logprob after the prompt less logprob without it. Favours what the prompt makes likelier. */
export const unconditionalLikelihoodNormalized: ChoicesMethod = {
  name: "unconditionalLikelihoodNormalized",
  requiresUnconditional: true,
  scores: (choices) =>
    choices.map(({ tokens, unconditional }) =>
      mean(tokens.map(([logprob], position) => logprob - (unconditional?.[position] ?? 0))),
    ),
};

/** Index of the highest score; ties go to the first. NaN never wins over a number. */
export function bestIndex(scores: readonly number[]): number {
  let best = 0;
  for (let index = 1; index < scores.length; index++) {
    if (scores[index] > scores[best] || (Number.isNaN(scores[best]) && !Number.isNaN(scores[index]))) best = index;
  }
  return best;
}
