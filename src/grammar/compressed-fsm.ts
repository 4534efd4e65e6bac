/**
 * The compressed finite state machine of a grammar, for people to look at: states reachable within a limit, bytes that
 * lead to one state joined to one edge, and chains of states without any choice folded into strings. Those strings are
 * what jump-forward can write without asking the model.
 */
import { type Automaton, DEAD } from "./automaton.js";

export interface FsmEdge {
  /** A forced text, or the bytes that lead to one state. */
  label: string;
  /** Number of bytes that are forced: above 1 for a folded chain. */
  length: number;
  to: number;
}

export interface FsmState {
  id: number;
  /** The text may end here. */
  accepts: boolean;
  edges: FsmEdge[];
  /** False for states beyond the limit: their edges were not looked at. */
  explored: boolean;
}

export interface CompressedFsm {
  states: FsmState[];
  /** States of the automaton that were visited, before folding. */
  visited: number;
  /** True if there are more states than the limit; recursive grammars always have. */
  truncated: boolean;
}

/** A byte with the configuration it leads to. */
type Step = readonly [byte: number, to: number];

/** Explores at most `limit` states of `automaton`, breadth first. */
export function compressedFsm(automaton: Automaton, limit = 200): CompressedFsm {
  const steps = new Map<number, Step[]>();
  const order = [automaton.start];
  const seen = new Set(order);
  let truncated = false;
  for (const at of order) {
    if (steps.size >= limit) {
      truncated = true;
      break;
    }
    const found: Step[] = [];
    for (let byte = 0; byte < 256; byte++) {
      const to = automaton.next(at, byte);
      if (to === DEAD) continue;
      found.push([byte, to]);
      if (!seen.has(to)) {
        seen.add(to);
        order.push(to);
      }
    }
    steps.set(at, found);
  }
  const forced = (at: number): Step | undefined => {
    const found = steps.get(at);
    return found?.length === 1 && !automaton.accepts(at) ? found[0] : undefined;
  };
  const ids = new Map<number, number>();
  const queue: number[] = [];
  const enter = (at: number): number => {
    const known = ids.get(at);
    if (known !== undefined) return known;
    const id = ids.size;
    ids.set(at, id);
    queue.push(at);
    return id;
  };
  enter(automaton.start);
  const states: FsmState[] = [];
  for (const at of queue) {
    const byTarget = new Map<number, number[]>();
    for (const [byte, to] of steps.get(at) ?? []) {
      const bytes = byTarget.get(to);
      if (bytes) bytes.push(byte);
      else byTarget.set(to, [byte]);
    }
    const edges: FsmEdge[] = [];
    for (const [target, bytes] of byTarget) {
      const chain = bytes.length === 1 ? [bytes[0]] : [];
      let to = target;
      // A chain may run in a circle only if nothing can end it, which no grammar has; the set guards all the same.
      const passed = new Set<number>();
      for (let next = forced(to); chain.length > 0 && next && !passed.has(to); next = forced(to)) {
        passed.add(to);
        chain.push(next[0]);
        to = next[1];
      }
      edges.push({
        label: chain.length > 0 ? JSON.stringify(bytesToText(chain)) : describeBytes(bytes),
        length: Math.max(1, chain.length),
        to: enter(to),
      });
    }
    states.push({ id: ids.get(at)!, accepts: automaton.accepts(at), edges, explored: steps.has(at) });
  }
  return { states, visited: steps.size, truncated };
}

/** Bytes as text where they are UTF-8, else as `\xHH`. */
export function bytesToText(bytes: readonly number[] | Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : hex(byte))).join("");
  }
}

/** A set of bytes like a character class: `[0-9a-f]`, `[^"\\]`; sorted ascending. */
export function describeBytes(bytes: readonly number[]): string {
  const missing = 256 - bytes.length;
  const negated = missing > 0 && missing < bytes.length / 4;
  const present = new Set(bytes);
  const listed = negated ? Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !present.has(byte)) : bytes;
  let ranges = "";
  for (let i = 0; i < listed.length; ) {
    let last = i;
    while (last + 1 < listed.length && listed[last + 1] === listed[last] + 1) last++;
    ranges += byteName(listed[i]);
    if (last > i + 1) ranges += "-";
    if (last > i) ranges += byteName(listed[last]);
    i = last + 1;
  }
  if (bytes.length === 256) return "any byte";
  return `[${negated ? "^" : ""}${ranges}]`;
}

function byteName(byte: number): string {
  if (byte === 0x0a) return "\\n";
  if (byte === 0x0d) return "\\r";
  if (byte === 0x09) return "\\t";
  if (byte < 0x20 || byte > 0x7e) return hex(byte);
  const char = String.fromCharCode(byte);
  return "]-^\\".includes(char) ? `\\${char}` : char;
}

function hex(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

/** One line per state. */
export function fsmToText(fsm: CompressedFsm): string {
  const lines = fsm.states.map((state) => {
    const name = `${state.id}${state.accepts ? " (may end)" : ""}`;
    if (!state.explored) return `${name}: ... beyond the limit`;
    if (state.edges.length === 0) return `${name}: the end`;
    return `${name}: ${state.edges.map(({ label, to }) => `${label} -> ${to}`).join("   ")}`;
  });
  return lines.join("\n");
}

/** Graphviz. Double circles may end; dashed ones were not explored; bold edges are forced text. */
export function fsmToDot(fsm: CompressedFsm): string {
  const lines = [
    "digraph grammar {",
    "  rankdir=LR;",
    '  node [shape=circle, fontname="monospace"];',
    '  edge [fontname="monospace"];',
  ];
  for (const { id, accepts, explored } of fsm.states) {
    const attributes = [...(accepts ? ["shape=doublecircle"] : []), ...(explored ? [] : ["style=dashed"])];
    lines.push(`  ${id}${attributes.length > 0 ? ` [${attributes.join(", ")}]` : ""};`);
  }
  for (const { id, edges } of fsm.states)
    for (const { label, length, to } of edges)
      lines.push(`  ${id} -> ${to} [label=${JSON.stringify(label)}${length > 1 ? ", style=bold" : ""}];`);
  return `${[...lines, "}"].join("\n")}`;
}
