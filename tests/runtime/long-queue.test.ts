/** What a step may cost when a thousand requests wait, in counts: bench:scheduler has the milliseconds. */
import { describe, expect, it, vi } from "vitest";
import { DecodeSet } from "../../src/runtime/decode.js";
import { FairShare } from "../../src/runtime/fair-share.js";
import { KvCache, MAX_MATCHED_QUEUE } from "../../src/runtime/kv-cache.js";
import { SCHEDULE_POLICIES } from "../../src/runtime/policy.js";
import { PrefillQueue } from "../../src/runtime/prefill.js";
import type { RadixCache } from "../../src/runtime/radix-cache.js";
import { createRandom } from "../../src/runtime/random.js";
import { makeReq } from "./make-req.js";

const PROMPT = 40;
const MAX_RUNNING = 8;

function queueOf(count: number, policy: (typeof SCHEDULE_POLICIES)[number]) {
  const kv = new KvCache({ pages: 4096, pageSize: 1, disableRadixCache: false, evictionPolicy: "lru" });
  const queue = new PrefillQueue(kv, {
    policy,
    random: createRandom(1),
    byPriority: true,
    fairShare: new FairShare(512),
    preemptionThreshold: 10,
    stepTokens: 4096,
    maxRunningRequests: MAX_RUNNING,
  });
  for (let i = 0; i < count; i++) {
    const promptIds = Array.from({ length: PROMPT }, (_, at) => i * PROMPT + at);
    queue.enqueue(makeReq({ rid: `${i}`, promptIds, tenant: `${i % 7}`, priority: i % 3 }));
  }
  const radix = kv.radix as RadixCache;
  const lookups = [vi.spyOn(radix, "matchPrefix"), vi.spyOn(radix, "peek")];
  return {
    queue,
    decode: new DecodeSet(kv, 1, 512),
    lookups: () => lookups.reduce((sum, spy) => sum + spy.mock.calls.length, 0),
  };
}

describe.each(SCHEDULE_POLICIES)("a long queue under %s", (policy) => {
  it("looks up the prefixes of those it admits, and of no others", () => {
    const { queue, decode, lookups } = queueOf(1000, policy);
    expect(queue.nextBatch(decode)?.items).toHaveLength(MAX_RUNNING);
    expect(lookups()).toBeLessThanOrEqual(MAX_RUNNING + 1);
    expect(queue.waiting).toHaveLength(1000 - MAX_RUNNING);
  });

  it("looks nothing up while there is no slot", () => {
    const { queue, decode, lookups } = queueOf(1000, policy);
    for (const { req } of queue.nextBatch(decode)?.items ?? []) decode.add(req);
    const before = lookups();
    for (let step = 0; step < 100; step++) expect(queue.nextBatch(decode)).toBeNull();
    expect(lookups()).toBe(before);
  });

  it("looks every prefix up once per admission in a queue that is short enough to be sorted by it", () => {
    const { queue, decode, lookups } = queueOf(MAX_MATCHED_QUEUE, policy);
    queue.nextBatch(decode);
    const sorted = policy === "lpm" || policy === "dfs-weight";
    expect(lookups()).toBeLessThanOrEqual(MAX_RUNNING + 1 + (sorted ? MAX_MATCHED_QUEUE : 0));
  });
});
