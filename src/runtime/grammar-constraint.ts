/**
 * The grammar of one answer, step by step: which tokens may come next, and what each token that came makes of it.
 * The matcher stays with its request through retraction: it has read exactly the request's output.
 */
import type { CompiledGrammar, Matcher } from "../grammar/index.js";
import type { TokenMask } from "./mask-table.js";
import type { ReqConstraint } from "./request.js";

/** Blanks in a row after which others are preferred: models whose intended text is masked fall into writing them. */
const MAX_BLANK_TOKENS = 16;

export interface GrammarConstraintOptions {
  maxNewTokens: number;
  /** No end token before this many, where the grammar lets the text go on. */
  minNewTokens: number;
  /** Steer to a complete text within maxNewTokens. */
  closeOnBudget: boolean;
}

export class GrammarConstraint implements ReqConstraint {
  readonly #matcher: Matcher;
  readonly #options: GrammarConstraintOptions;
  #count = 0;

  constructor(grammar: CompiledGrammar, options: GrammarConstraintOptions) {
    this.#matcher = grammar.matcher({ maxBlankTokens: MAX_BLANK_TOKENS });
    this.#options = options;
  }

  mask(): TokenMask {
    const { closeOnBudget, maxNewTokens, minNewTokens } = this.#options;
    const mask = this.#matcher.mask(closeOnBudget ? maxNewTokens - this.#count : undefined);
    return this.#count < minNewTokens ? withoutEnds(mask, this.#matcher) : mask;
  }

  accept(id: number): void {
    this.#count++;
    if (!this.#matcher.acceptToken(id)) {
      throw new Error(`Token ${id} was sampled, but the request's grammar does not allow it.`);
    }
  }
}

/** Masks without their end tokens; the mask itself where nothing else is allowed. Remembered: they are compared by identity. */
const endless = new WeakMap<Int32Array, Int32Array>();

function withoutEnds(mask: Int32Array, { grammar }: Matcher): Int32Array {
  let known = endless.get(mask);
  if (!known) {
    const rest = mask.slice();
    for (const id of grammar.vocabulary.eosTokenIds) rest[id >> 5] &= ~(1 << (id & 31));
    known = rest.some((word) => word !== 0) ? rest : mask;
    endless.set(mask, known);
  }
  return known;
}
