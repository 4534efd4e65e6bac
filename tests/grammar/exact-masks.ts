import { expect } from "vitest";
import { DEAD } from "../../src/grammar/automaton.js";
import type { GrammarCompiler, GrammarSpec } from "../../src/grammar/compiler.js";
import { has } from "../../src/grammar/masks.js";

/** Along a walk of `steps` tokens, every mask has exactly the tokens whose bytes can be read. @param seed which way is taken */
export function expectExactMasks(compiler: GrammarCompiler, spec: GrammarSpec, steps: number, seed: number): void {
  const { vocabulary } = compiler;
  const grammar = compiler.compile(spec);
  let at = grammar.automaton.start;
  for (let step = 0; step < steps; step++) {
    const mask = grammar.masks.compute(at);
    const live: number[] = [];
    for (let id = 0; id < vocabulary.vocabSize; id++) {
      const ordinary = vocabulary.ordinary[id] === 1;
      const to = ordinary ? grammar.automaton.read(at, vocabulary.bytesOf(id)) : DEAD;
      const ends = vocabulary.eosTokenIds.includes(id) && grammar.automaton.accepts(at);
      if (has(mask, id) !== (to !== DEAD || ends)) expect.fail(`${JSON.stringify(spec)} step ${step} token ${id}`);
      if (to !== DEAD) live.push(to);
    }
    if (live.length === 0) {
      expect(grammar.automaton.accepts(at)).toBe(true);
      return;
    }
    at = live[(seed * 31 + step * 17) % live.length] as number;
  }
}
