/**
 * Preemption by priority, with SGLang's rule: a waiting request may take the place of running ones whose priority is
 * lower by more than `threshold`. The lowest priority gives way first, then the latest arrival, and no more of them than
 * are needed; when all of them together would not make enough room, nobody gives way.
 */
import type { DecodeSet } from "./decode.js";
import type { RadixNode } from "./radix-cache.js";
import type { Req } from "./request.js";

/** Counts the pages that become available as requests are released one after the other. */
class Reclaimed {
  pages = 0;
  readonly #locks = new Map<RadixNode, number>();

  add(req: Req): void {
    this.pages += req.ownPages;
    for (let node = req.node; node?.parent; node = node.parent) {
      const left = (this.#locks.get(node) ?? node.lockRef) - 1;
      this.#locks.set(node, left);
      if (left === 0) this.pages += node.pageCount;
    }
  }
}

function givesWayFirst(a: Req, b: Req): number {
  if (a.priority !== b.priority) return a.priority < b.priority ? -1 : 1;
  return b.receivedAt - a.receivedAt;
}

export interface Room {
  /** Running requests that must go to make a slot free. */
  slots: number;
  /** Pages that must become available, less what the victims had reserved. */
  pages: number;
}

/** Who gives way so that `req` gets the room it lacks; null when those who would cannot make it. */
export function chooseVictims(req: Req, decode: DecodeSet, { slots, pages }: Room, threshold: number): Req[] | null {
  // -Infinity - -Infinity is NaN: of two requests without a priority none gives way.
  const candidates = decode.reqs.filter((running) => req.priority - running.priority > threshold).sort(givesWayFirst);
  const victims: Req[] = [];
  const reclaimed = new Reclaimed();
  let reserved = 0;
  for (const victim of candidates) {
    if (victims.length >= slots && reclaimed.pages + reserved >= pages) break;
    victims.push(victim);
    reclaimed.add(victim);
    reserved += decode.reservedPagesOf(victim);
  }
  return victims.length >= slots && reclaimed.pages + reserved >= pages ? victims : null;
}
