import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FairShare } from "../../src/runtime/fair-share.js";
import type { Req } from "../../src/runtime/request.js";
import { makeReq } from "./make-req.js";

const req = (tenant: string, promptTokens: number, maxNewTokens = 0) => makeReq({ promptTokens, maxNewTokens, tenant });
const tenants = (reqs: readonly Req[]) => reqs.map((r) => r.tenant).join("");

/** Admits in order until `tokens` are spent; returns what each tenant got. */
function serve(share: FairShare, waiting: Req[], tokens: number): Map<string, number> {
  const got = new Map<string, number>();
  for (let spent = 0; spent < tokens && waiting.length > 0; ) {
    const [next] = share.order(waiting);
    share.admit(next);
    waiting.splice(waiting.indexOf(next), 1);
    spent += next.promptLength;
    got.set(next.tenant, (got.get(next.tenant) ?? 0) + next.promptLength);
  }
  return got;
}

describe("FairShare", () => {
  it("gives tenants turns, whoever sent more", () => {
    const share = new FairShare(100);
    const waiting = [...Array.from({ length: 6 }, () => req("a", 100)), req("b", 100), req("c", 100), req("b", 100)];
    expect(tenants(share.order(waiting))).toBe("abcabaaaa");
  });

  it("counts tokens, not requests", () => {
    const share = new FairShare(100);
    const waiting = [req("a", 400), req("a", 400), ...Array.from({ length: 8 }, () => req("b", 100))];
    expect(tenants(share.order(waiting))).toBe("bbbabbbbab");
  });

  it("keeps the order of one tenant's requests", () => {
    const share = new FairShare(64);
    const waiting = Array.from({ length: 20 }, (_, i) => req("a", 10 + i));
    expect(share.order(waiting)).toEqual(waiting);
  });

  it("charges output when a request ends", () => {
    const share = new FairShare(100);
    const waiting = ["a", "a", "b", "b", "b"].map((tenant) => req(tenant, 100));
    const [first] = share.order(waiting);
    share.admit(first);
    expect(tenants(share.order(waiting.slice(1)))).toBe("babb");
    for (let i = 0; i < 200; i++) first.append(0);
    share.end(first);
    expect(tenants(share.order(waiting.slice(1)))).toBe("bbba");
  });

  it("lets nobody save up by staying away", () => {
    const share = new FairShare(100);
    const crowd = Array.from({ length: 50 }, () => req("a", 100));
    serve(share, crowd, 4000);
    const late = Array.from({ length: 10 }, () => req("b", 100));
    expect(tenants(share.order([...late, ...crowd])).slice(0, 6)).toMatch(/^bb?(ab)+a?$/);
  });

  it("lets nobody shed what it was served by pausing while others wait", () => {
    const share = new FairShare(100);
    const others = Array.from({ length: 20 }, () => req("b", 100));
    const big = req("a", 1000);
    share.order([big, ...others]);
    share.admit(big);
    share.order(others);
    expect(tenants(share.order([req("a", 100), ...others])).slice(0, 12)).toBe("bbbbbbbbbbab");
  });

  it("forgets what was served while nobody waited", () => {
    const share = new FairShare(100);
    const big = req("a", 1000);
    share.order([big]);
    share.admit(big);
    share.order([]);
    share.end(big);
    expect(tenants(share.order([req("a", 100), req("b", 100)]))).toBe("ab");
  });

  it("charges a retracted request once", () => {
    const share = new FairShare(100);
    const retracted = req("a", 500);
    const other = req("b", 600);
    share.order([retracted, other]);
    share.admit(retracted);
    expect(tenants(share.order([other, retracted]))).toBe("ab");
  });

  it("forgets tenants that come and go", () => {
    const share = new FairShare(100);
    for (let i = 0; i < 1000; i++) serve(share, [req("stays", 60), req(`tenant ${i}`, 50)], 110);
    expect(share.tenants).toBeLessThan(10);
    share.order([]);
    expect(share.tenants).toBe(0);
  });

  it("serves tenants that always wait within a quantum and one request of each other", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 20, maxLength: 60 }),
        fc.integer({ min: 1, max: 500 }),
        (sizes, quantum) => {
          const share = new FairShare(quantum);
          const waiting = ["a", "b", "c"].flatMap((tenant) => sizes.map((size) => req(tenant, size)));
          const total = sizes.reduce((sum, size) => sum + size, 0);
          const got = [...serve(share, waiting, total).values()];
          expect(Math.max(...got) - Math.min(...got)).toBeLessThanOrEqual(quantum + Math.max(...sizes));
        },
      ),
    );
  });
});
