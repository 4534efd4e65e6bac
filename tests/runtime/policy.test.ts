import { describe, expect, it } from "vitest";
import { DEFAULT_SAMPLING_PARAMS } from "../../src/core/sampling-params.js";
import { MAX_MATCHED_QUEUE } from "../../src/runtime/kv-cache.js";
import { ProbeOutput } from "../../src/runtime/output.js";
import { orderWaiting, type SchedulePolicy } from "../../src/runtime/policy.js";
import { RadixCache } from "../../src/runtime/radix-cache.js";
import { createRandom } from "../../src/runtime/random.js";
import { Req } from "../../src/runtime/request.js";

function req(rid: string, promptIds: number[], maxNewTokens = 1): Req {
  return new Req({
    rid,
    group: {},
    promptIds,
    params: { ...DEFAULT_SAMPLING_PARAMS },
    maxNewTokens,
    seed: 0n,
    stopIds: new Set(),
    output: new ProbeOutput(),
  });
}

function order(policy: SchedulePolicy, waiting: Req[], radix: RadixCache | null): string {
  return orderWaiting(policy, waiting, radix, createRandom(1))
    .map((r) => r.rid)
    .join("");
}

const cached = new RadixCache({ pageSize: 1, free: () => {} });
cached.insert(Int32Array.of(1, 2, 3, 4), [0, 1, 2, 3]);
cached.insert(Int32Array.of(1, 2, 7), [4, 5, 6]);
cached.insert(Int32Array.of(9, 9), [7, 8]);
// d and f hang on 1-2-3-4, c on 1-2-7, b on 9-9; a and e on nothing.
const queue = [
  req("a", [5, 5, 5], 3),
  req("b", [9, 9, 0], 9),
  req("c", [1, 2, 7, 0], 1),
  req("d", [1, 2, 3, 4, 0], 5),
  req("e", [6, 6], 7),
  req("f", [1, 2, 3, 4, 8], 2),
];

describe("orderWaiting", () => {
  it.each<[SchedulePolicy, string]>([
    ["fcfs", "abcdef"],
    ["lpm", "dfcbae"],
    ["lof", "bedafc"],
    // 1-2 (weight 3) before 9-9 (1), below 1-2 first 3-4 (2), then 7 (1); what hangs on the root alone goes last.
    ["dfs-weight", "dfcbae"],
  ])("%s gives %s", (policy, expected) => {
    const got = order(policy, queue, cached);
    expect(got.length).toBe(queue.length);
    expect(got).toBe(expected);
  });

  it("shuffles all requests, repeatably for a seed", () => {
    const shuffled = order("random", queue, cached);
    expect([...shuffled].sort().join("")).toBe("abcdef");
    expect(order("random", queue, cached)).toBe(shuffled);
  });

  it.each<SchedulePolicy>(["lpm", "dfs-weight"])("%s is fcfs without a cache and in long queues", (policy) => {
    expect(order(policy, queue, null)).toBe("abcdef");
    const long = [req("x", [0]), ...Array.from({ length: MAX_MATCHED_QUEUE }, () => queue[3])];
    expect(orderWaiting(policy, long, cached, createRandom(1))[0].rid).toBe("x");
  });

  it("keeps namespaces apart", () => {
    const other = new RadixCache({ pageSize: 1, free: () => {} });
    other.insert(Int32Array.of(1, 2, 3, 4), [0, 1, 2, 3], "tenant");
    expect(order("lpm", queue, other)).toBe("abcdef");
  });
});
