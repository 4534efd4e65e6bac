import { describe, expect, it } from "vitest";
import { didYouMean, nearMiss } from "../../src/core/near-miss.js";
import { field, type Kind, list, nullable, OBJECT, TEXT, TOKEN } from "../../src/server/fields.js";

describe("kinds of fields", () => {
  it("stop at the first wrong entry of a list", () => {
    let looked = 0;
    const never: Kind<never> = { is: (value): value is never => ++looked < 0 && value === null, schema: {} };
    expect(field("nothing", list(never), list(list(never))).safeParse(Array(1000).fill(1)).success).toBe(false);
    expect(looked).toBe(1);
  });

  it.each([
    [TOKEN, 0, true],
    [TOKEN, -1, false],
    [TOKEN, 1.5, false],
    [TOKEN, 2 ** 53, false],
    [list(TOKEN), [], true],
    [list(TOKEN), { length: 0 }, false],
    [list(nullable(TEXT)), ["a", null], true],
    [OBJECT, {}, true],
    [OBJECT, [], false],
    [OBJECT, null, false],
  ])("%# accept or refuse a value", (kind, value, accepted) => {
    expect(kind.is(value)).toBe(accepted);
  });
});

describe("near misses", () => {
  const known = ["temperature", "top_p", "top_k", "max_tokens"];

  it.each([
    ["temprature", "temperature"],
    ["Temperature", "temperature"],
    ["topp", "top_p"],
    ["max_token", "max_tokens"],
    ["zebra", undefined],
    ["", undefined],
    ["t".repeat(1000), undefined],
  ])("of %s", (name, expected) => {
    expect(nearMiss(name, known)).toBe(expected);
  });

  it("are asked about only when there is one", () => {
    expect(didYouMean("top_kk", known)).toBe(" Did you mean top_k?");
    expect(didYouMean("zebra", known)).toBe("");
  });
});
