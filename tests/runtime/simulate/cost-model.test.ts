import { describe, expect, it } from "vitest";
import { createRandom } from "../../../src/runtime/random.js";
import { CostModel, fitProfile, parseProfile, type StepSample } from "../../../src/runtime/simulate/cost-model.js";

const ORIGIN = { model: "m", kernels: { tier: "t", threads: 2 }, kvTokens: 4096 };

/** A machine whose weights take 4 ms to read, shared by up to 16 tokens; more than 128 tokens are a bit dearer each. */
function machine(tokens: number, rows: number, pairs: number): number {
  return (
    4 + 0.05 * tokens + 0.4 * Math.max(0, tokens - 16) + 0.1 * Math.max(0, tokens - 128) + 0.2 * rows + pairs / 5e4
  );
}

function samples(count: number, noise: (random: () => number) => number): StepSample[] {
  const random = createRandom(1);
  return Array.from({ length: count }, (_, i) => {
    const tokens = Math.ceil(512 ** random());
    const rows = Math.ceil(tokens * random());
    const pairs = Math.round(tokens * 600 * random());
    const ms = machine(tokens, rows, pairs) * noise(random);
    return { tokens, rows, pairs, ms, gapMs: i % 10 === 0 ? null : 0.5 };
  });
}

const UNSEEN = [
  [1, 1, 500],
  [7, 7, 2000],
  [40, 3, 9000],
  [300, 1, 60_000],
  [512, 512, 131_328],
] as const;

describe("fitProfile", () => {
  it("finds what steps cost, also of sizes that were not recorded", () => {
    const profile = fitProfile(
      samples(400, () => 1),
      ORIGIN,
    );
    const model = new CostModel(profile);
    for (const [tokens, rows, pairs] of UNSEEN)
      expect(model.milliseconds({ tokens, rows, pairs }) / machine(tokens, rows, pairs)).toBeCloseTo(1, 2);
    expect(profile.error.p90).toBeLessThan(0.01);
    expect(profile).toMatchObject({ ...ORIGIN, version: 1, steps: 400, gapMs: 0.5 });
  });

  it("predicts the mean of a machine that is held up now and then", () => {
    const mean = 0.8 + 0.2 * 3;
    const profile = fitProfile(
      samples(4000, (random) => (random() < 0.2 ? 3 : 1)),
      ORIGIN,
    );
    const model = new CostModel(profile);
    for (const [tokens, rows, pairs] of UNSEEN.slice(0, 4)) {
      const ratio = model.milliseconds({ tokens, rows, pairs }) / (machine(tokens, rows, pairs) * mean);
      expect(ratio).toBeGreaterThan(0.9);
      expect(ratio).toBeLessThan(1.1);
    }
    expect(Math.abs(profile.error.total)).toBeLessThan(0.05);
  });

  it("never predicts less than nothing, and wants enough steps", () => {
    const model = new CostModel({ coefficients: [-5, ...Array(11).fill(0)] });
    expect(model.milliseconds({ tokens: 1, rows: 1, pairs: 1 })).toBeGreaterThan(0);
    expect(() =>
      fitProfile(
        samples(10, () => 1),
        ORIGIN,
      ),
    ).toThrow(/at least 30 recorded steps, got 10/);
  });
});

describe("parseProfile", () => {
  const profile = fitProfile(
    samples(100, () => 1),
    ORIGIN,
  );

  it("reads what was written", () => {
    expect(parseProfile(JSON.stringify(profile), "p.json")).toEqual(profile);
  });

  it.each([
    ["{", /JSON/],
    ["3", /no JSON object/],
    [JSON.stringify({ ...profile, version: 2 }), /version must be 1, got 2/],
    [JSON.stringify({ ...profile, coefficients: [1] }), /coefficients must be 12 numbers/],
    [JSON.stringify({ ...profile, gapMs: -1 }), /gapMs/],
    [JSON.stringify({ ...profile, kvTokens: null }), /kvTokens/],
  ])("refuses %s", (text, says) => {
    expect(() => parseProfile(text, "p.json")).toThrow(says);
    expect(() => parseProfile(text, "p.json")).toThrow(/^p\.json is not a profile/);
  });
});
