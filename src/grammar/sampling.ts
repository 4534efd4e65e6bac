/** Random texts of a grammar, to see what it allows: a walk over its automaton that comes to an end. */

import { SglangError } from "../core/errors.js";
import { type Automaton, DEAD } from "./automaton.js";

export interface SampleOptions {
  /** Bytes after which the walk takes the shortest way to an end. Default 200. */
  length?: number;
  /** Numbers from 0 to 1, 1 excluded. Default Math.random. */
  random?: () => number;
}

/** Configurations looked at for the shortest way to an end. */
const MAX_SEARCH = 200_000;

/** One random text that `automaton` accepts. */
export function sampleText(automaton: Automaton, options: SampleOptions = {}): string {
  const random = options.random ?? Math.random;
  const length = options.length ?? 200;
  const bytes: number[] = [];
  let at = automaton.start;
  while (bytes.length < length) {
    const choices: [byte: number, to: number, weight: number][] = [];
    let total = automaton.accepts(at) ? 6 : 0;
    const end = total;
    for (let byte = 0; byte < 256; byte++) {
      const to = automaton.next(at, byte);
      if (to === DEAD) continue;
      choices.push([byte, to, weightOf(byte)]);
      total += weightOf(byte);
    }
    let pick = random() * total - end;
    if (pick < 0 || choices.length === 0) return decode(bytes);
    const chosen =
      choices.find(([, , weight]) => {
        pick -= weight;
        return pick < 0;
      }) ?? choices[choices.length - 1];
    bytes.push(chosen[0]);
    at = chosen[1];
  }
  return decode([...bytes, ...shortestEnd(automaton, at)]);
}

/** What looks like text gets more weight than white space, escapes and characters of many bytes. */
function weightOf(byte: number): number {
  if (byte >= 0x80 && byte < 0xc0) return 1;
  if (byte >= 0xc0) return 0.02;
  if (byte <= 0x20 || byte === 0x5c || byte === 0x7f) return 0.05;
  if (byte === 0x22) return 6;
  if ((byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39)) return 1;
  return 0.5;
}

/** The bytes of the shortest way from a configuration to one that accepts. */
function shortestEnd(automaton: Automaton, from: number): number[] {
  if (automaton.accepts(from)) return [];
  const cameFrom = new Map<number, readonly [previous: number, byte: number]>([[from, [from, -1]]]);
  const queue = [from];
  for (const at of queue) {
    if (queue.length > MAX_SEARCH) break;
    for (let byte = 0; byte < 256; byte++) {
      const to = automaton.next(at, byte);
      if (to === DEAD || cameFrom.has(to)) continue;
      cameFrom.set(to, [at, byte]);
      if (!automaton.accepts(to)) {
        queue.push(to);
        continue;
      }
      const bytes: number[] = [];
      for (let here = to; here !== from; ) {
        const [previous, step] = cameFrom.get(here)!;
        bytes.push(step);
        here = previous;
      }
      return bytes.reverse();
    }
  }
  throw new SglangError(
    "UNSUPPORTED",
    `No end of the grammar was found within ${MAX_SEARCH} states; ask for shorter samples.`,
    {
      field: "grammar",
    },
  );
}

function decode(bytes: readonly number[]): string {
  return new TextDecoder().decode(Uint8Array.from(bytes));
}
