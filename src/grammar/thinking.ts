/**
 * What a reasoning model thinks, before the grammar of its answer: any text up to the mark that ends the thinking. Being
 * part of the grammar, it is counted by budgets, drafted over and masked like anything else; a text that never closes its
 * thinking is no complete text.
 */
import { SEAM_LINES } from "../core/reasoning.js";
import {
  charClass,
  choice,
  EMPTY,
  embed,
  type GrammarDefinition,
  type GrammarSource,
  repeat,
  sequence,
  text,
  upTo,
} from "./ir.js";

const SEAM = repeat(charClass([0x0a, 0x0a]), 0, SEAM_LINES);
const BLANKS = repeat(charClass([0x09, 0x0a, 0x0d, 0x0d, 0x20, 0x20]), 0, 4);

export function afterThinking(
  { start, end, inside }: { start: string; end: string; inside: boolean },
  answer: GrammarSource,
): GrammarDefinition {
  const thoughts = sequence(upTo(end, [end]), SEAM);
  const thinking = inside ? thoughts : choice(EMPTY, sequence(BLANKS, text(start), thoughts));
  return { root: sequence(thinking, embed(answer)), rules: new Map() };
}
