/**
 * The grammar of one answer, step by step: which tokens may come next, and what each token that came makes of it.
 * The matcher stays with its request through retraction: it has read exactly the request's output.
 */
import type { CompiledGrammar, Matcher, TextEncoding, Vocabulary } from "../grammar/index.js";
import { CONTEXT_TOKENS, ForcedText } from "./forced-text.js";
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
  /** Writes forced text as tokens. */
  tokenizer: TextEncoding;
  /** Forced text is computed in one step where there is any. */
  drafts: boolean;
  /** Forced text comes in the tokenizer's own tokens, whatever the model would choose. */
  forced: boolean;
  /** The prompt, or its end. */
  promptIds: readonly number[];
}

const NO_TOKENS: readonly number[] = [];
/** Masks of one token that are kept. */
const MAX_SINGLE = 512;

export class GrammarConstraint implements ReqConstraint {
  readonly #matcher: Matcher;
  readonly #forcedText: ForcedText;
  readonly #options: GrammarConstraintOptions;
  /** The last tokens, the prompt's among them. */
  #context: readonly number[];
  #count = 0;

  constructor(grammar: CompiledGrammar, options: GrammarConstraintOptions) {
    this.#matcher = grammar.matcher({ maxBlankTokens: MAX_BLANK_TOKENS });
    this.#forcedText = ForcedText.of(grammar);
    this.#options = options;
    this.#context = options.promptIds.slice(-CONTEXT_TOKENS);
  }

  mask(ahead: readonly number[] = NO_TOKENS): TokenMask {
    const { closeOnBudget, maxNewTokens, minNewTokens, forced } = this.#options;
    const matcher = this.#matcher;
    const count = this.#count + ahead.length;
    const before = matcher.length;
    for (const id of ahead) matcher.acceptToken(id);
    const mask = matcher.mask(closeOnBudget ? maxNewTokens - count : undefined);
    const next = forced ? this.#asTokenizer([...this.#context, ...ahead].slice(-CONTEXT_TOKENS))[0] : undefined;
    matcher.rollback(matcher.length - before);
    // A budget may have no room for the tokenizer's way to write it.
    if (next !== undefined && ((mask[next >> 5] as number) >>> (next & 31)) & 1) return onlyMask(matcher.grammar, next);
    return count < minNewTokens ? withoutEnds(mask, matcher) : mask;
  }

  draft(ids: Int32Array): readonly number[] {
    const { drafts, forced, tokenizer } = this.#options;
    if (!drafts) return NO_TOKENS;
    const context = Array.from(ids.subarray(Math.max(0, ids.length - CONTEXT_TOKENS)));
    return forced ? this.#asTokenizer(context) : this.#forcedText.guess(this.#matcher, tokenizer, context);
  }

  accept(id: number): void {
    this.#count++;
    this.#context = [...this.#context, id].slice(-CONTEXT_TOKENS);
    if (this.#options.drafts) this.#forcedText.observe(this.#matcher.configuration, id);
    if (!this.#matcher.acceptToken(id)) {
      throw new Error(`Token ${id} was sampled, but the request's grammar does not allow it.`);
    }
  }

  #asTokenizer(context: readonly number[]): readonly number[] {
    return this.#forcedText.byTokenizer(this.#matcher, this.#options.tokenizer, context);
  }
}

/** Masks of one token, remembered like the others. */
const single = new WeakMap<Vocabulary, Map<number, Int32Array>>();

function onlyMask({ vocabulary }: CompiledGrammar, id: number): Int32Array {
  let known = single.get(vocabulary);
  if (!known || known.size >= MAX_SINGLE) {
    known = new Map();
    single.set(vocabulary, known);
  }
  let mask = known.get(id);
  if (!mask) {
    mask = new Int32Array(vocabulary.maskWords);
    mask[id >> 5] = 1 << (id & 31);
    known.set(id, mask);
  }
  return mask;
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
