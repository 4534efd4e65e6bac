/** Who of the waiting requests may be taken, and whose prefixes are kept for them. */
import { describe, expect, it } from "vitest";
import type { QueuedItem } from "../../src/runtime/batch.js";
import { DecodeSet } from "../../src/runtime/decode.js";
import { KvCache } from "../../src/runtime/kv-cache.js";
import { PrefillQueue } from "../../src/runtime/prefill.js";
import type { RadixCache } from "../../src/runtime/radix-cache.js";
import { NO_DRAFT } from "../../src/runtime/request.js";
import { makeReq } from "./make-req.js";

function queueOf(pages: number, policy: "fcfs" | "lpm" = "fcfs", prefillMaxRequests: number | null = null) {
  const kv = new KvCache({ pages, pageSize: 1, disableRadixCache: false, evictionPolicy: "lru" });
  const queue = new PrefillQueue(kv, {
    policy,
    random: () => 0.5,
    byPriority: false,
    fairShare: null,
    preemptionThreshold: 10,
    stepTokens: 4096,
    maxRunningRequests: 8,
    prefillMaxRequests,
  });
  return { kv, queue, decode: new DecodeSet(kv, 1, 512) };
}

const ids = (length: number, from: number) => Array.from({ length }, (_, i) => from + i);

describe("the waiting queue", () => {
  it("does not take back a retracted request before the token of the step that it was in has come", () => {
    const { queue, decode } = queueOf(64);
    const retracted = makeReq({ rid: "retracted", promptIds: ids(5, 0) });
    queue.enqueue(retracted);
    const inputs = { isPrefill: false, inputStart: 0, inputEnd: 0, last: "sample", slot: 0, maskError: null } as const;
    const item: QueuedItem = { ...inputs, req: retracted, start: 4, end: 5, draft: NO_DRAFT };
    expect(queue.nextBatch(decode, [item])).toBeNull();
    expect(queue.nextBatch(decode)?.items.map(({ req }) => req.rid)).toEqual(["retracted"]);
  });

  it("takes no more requests at once than --prefill-max-requests", () => {
    const { queue, decode } = queueOf(64, "fcfs", 2);
    for (let i = 0; i < 5; i++) queue.enqueue(makeReq({ rid: `${i}`, promptIds: ids(4, 10 * i) }));
    const sizes = [1, 2, 3].map(() => queue.nextBatch(decode)?.items.length);
    expect(sizes).toEqual([2, 2, 1]);
  });

  it("keeps what waiting requests will read, and evicts what ended last instead", () => {
    const { kv, queue, decode } = queueOf(60);
    const radix = kv.radix as RadixCache;
    const cache = (from: number) => {
      const pages: number[] = [];
      kv.pool.allocate(20, pages);
      radix.insert(Int32Array.from(ids(20, from)), pages);
    };
    cache(0);
    cache(100);
    // Used last, wanted by nobody.
    cache(200);
    queue.enqueue(makeReq({ rid: "new", promptIds: ids(15, 300) }));
    queue.enqueue(makeReq({ rid: "first", promptIds: ids(22, 0) }));
    queue.enqueue(makeReq({ rid: "second", promptIds: ids(22, 100) }));
    kv.beginStep();
    expect(queue.nextBatch(decode)?.items.map(({ req }) => req.rid)).toContain("new");
    const cached = (from: number) => radix.peek(Int32Array.from(ids(20, from))).tokens;
    expect([cached(0), cached(100)]).toEqual([20, 20]);
    expect(cached(200)).toBeLessThan(20);
  });

  it("counts on the order of admission: the policy's, then who came since", () => {
    const { kv, queue, decode } = queueOf(64, "lpm");
    const pages: number[] = [];
    kv.pool.allocate(20, pages);
    kv.radix?.insert(Int32Array.from(ids(20, 100)), pages);
    const running = makeReq({ rid: "running", promptIds: ids(30, 200), maxNewTokens: 30 });
    queue.enqueue(running);
    queue.nextBatch(decode);
    decode.add(running);
    queue.enqueue(makeReq({ rid: "uncached", promptIds: ids(22, 0), maxNewTokens: 30 }));
    queue.enqueue(makeReq({ rid: "cached", promptIds: ids(22, 100), maxNewTokens: 30 }));
    expect(queue.nextBatch(decode)).toBeNull();
    queue.enqueue(makeReq({ rid: "late", promptIds: ids(22, 100) }));
    expect(kv.expected().map(({ rid }) => rid)).toEqual(["cached", "uncached", "late"]);
  });
});
