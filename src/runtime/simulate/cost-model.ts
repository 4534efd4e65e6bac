/**
 * How long a step takes, learnt from a real run: a sum over its features, with the cost per token free to change at some
 * batch sizes (few tokens share the reading of the weights, many fill the compute units). Fitted by least squares of the
 * error relative to the prediction, so that short decode steps count as much as long prefills. (Relative to what was
 * measured, the fit would be too low: steps that were held up would count for less.)
 */
import { SglangError } from "../../core/errors.js";
import type { StepFeatures } from "./step-features.js";

/** One recorded step. */
export interface StepSample extends StepFeatures {
  /** Milliseconds the native side was busy with it. */
  ms: number;
  /** Milliseconds between the end of the step before and the launch of this one; null when the engine was idle between. */
  gapMs: number | null;
}

/** What the simulator needs to know of a machine and a model; a JSON file. */
export interface Profile {
  version: 1;
  model: string;
  kernels: { tier: string; threads: number };
  /** Tokens of the KV cache of the recorded engine. */
  kvTokens: number;
  recordedAt: string;
  steps: number;
  /** Milliseconds between two steps that follow each other: what JavaScript takes when it is not hidden. */
  gapMs: number;
  /** Milliseconds per unit of each term, in the order of {@link terms}. */
  coefficients: number[];
  /** Relative errors of the fit over the recorded steps. */
  error: { median: number; p90: number; total: number };
}

/** Tokens of a step above which a token may cost more or less than below. */
const KNEES = [2, 4, 8, 16, 32, 64, 128, 256];
/** Keeps terms that the recorded steps do not tell apart small, relative to the spread of the others. */
const RIDGE = 1e-6;
const MIN_STEPS = 30;
/** Fits after the first: predictions hardly move any more. */
const ROUNDS = 3;

function terms({ tokens, rows, pairs }: StepFeatures): number[] {
  return [1, tokens, rows, pairs / 1000, ...KNEES.map((knee) => Math.max(0, tokens - knee))];
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/** Solves A x = b for a symmetric positive definite A, [n][n], by Cholesky decomposition. */
function solve(a: readonly (readonly number[])[], b: readonly number[]): number[] {
  const n = b.length;
  const l = a.map((row) => [...row]);
  for (let j = 0; j < n; j++) {
    for (let k = 0; k < j; k++) for (let i = j; i < n; i++) l[i][j] -= l[i][k] * l[j][k];
    const root = Math.sqrt(l[j][j]);
    for (let i = j; i < n; i++) l[i][j] /= root;
  }
  const x = [...b];
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= l[i][k] * x[k];
    x[i] /= l[i][i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= l[k][i] * x[k];
    x[i] /= l[i][i];
  }
  return x;
}

function fit(samples: readonly StepSample[]): number[] {
  let coefficients = weightedFit(samples, (sample) => sample.ms);
  for (let round = 0; round < ROUNDS; round++) {
    const model = new CostModel({ coefficients });
    coefficients = weightedFit(samples, (sample) => model.milliseconds(sample));
  }
  return coefficients;
}

/** @param scaleOf milliseconds by which a sample's error is divided */
function weightedFit(samples: readonly StepSample[], scaleOf: (sample: StepSample) => number): number[] {
  const weights = samples.map((sample) => 1 / scaleOf(sample));
  const rows = samples.map((sample, i) => terms(sample).map((term) => term * weights[i]));
  const wanted = samples.map(({ ms }, i) => ms * weights[i]);
  const n = rows[0].length;
  // Terms differ by orders of magnitude; scaled, they are as well conditioned as they can be.
  const scale = Array.from({ length: n }, (_, j) => Math.sqrt(rows.reduce((sum, row) => sum + row[j] ** 2, 0)) || 1);
  const normal = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n }, (_, j) => {
      const sum = rows.reduce((total, row) => total + (row[i] / scale[i]) * (row[j] / scale[j]), 0);
      return i === j ? sum + RIDGE : sum;
    }),
  );
  const right = Array.from({ length: n }, (_, i) =>
    rows.reduce((sum, row, k) => sum + (row[i] / scale[i]) * wanted[k], 0),
  );
  return solve(normal, right).map((value, i) => value / scale[i]);
}

/**
 * Learns a profile from recorded steps.
 * @throws SglangError INVALID_ARGUMENT when they are too few
 */
export function fitProfile(
  samples: readonly StepSample[],
  origin: Pick<Profile, "model" | "kernels" | "kvTokens">,
): Profile {
  if (samples.length < MIN_STEPS) {
    throw new SglangError(
      "INVALID_ARGUMENT",
      `A profile needs at least ${MIN_STEPS} recorded steps, got ${samples.length}; record a longer run.`,
    );
  }
  const gaps = samples.flatMap(({ gapMs }) => (gapMs === null ? [] : [gapMs])).sort((a, b) => a - b);
  const profile: Profile = {
    version: 1,
    ...origin,
    recordedAt: new Date().toISOString(),
    steps: samples.length,
    gapMs: gaps.length > 0 ? quantile(gaps, 0.5) : 0,
    coefficients: fit(samples),
    error: { median: 0, p90: 0, total: 0 },
  };
  const model = new CostModel(profile);
  const errors = samples.map((sample) => Math.abs(model.milliseconds(sample) / sample.ms - 1)).sort((a, b) => a - b);
  const predicted = samples.reduce((sum, sample) => sum + model.milliseconds(sample), 0);
  const measured = samples.reduce((sum, { ms }) => sum + ms, 0);
  profile.error = { median: quantile(errors, 0.5), p90: quantile(errors, 0.9), total: predicted / measured - 1 };
  return profile;
}

/** @throws SglangError MALFORMED_FILE naming what is wrong */
export function parseProfile(text: string, file: string): Profile {
  const fail = (what: string): never => {
    throw new SglangError(
      "MALFORMED_FILE",
      `${file} is not a profile: ${what}; make one with \`sglang-ts simulate --record\`.`,
      { file },
    );
  };
  let value: Partial<Profile> | null;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return fail((error as Error).message);
  }
  const isNumber = (x: unknown): x is number => typeof x === "number" && Number.isFinite(x);
  if (typeof value !== "object" || value === null) return fail("it is no JSON object");
  if (value.version !== 1) fail(`version must be 1, got ${JSON.stringify(value.version)}`);
  const count = terms({ tokens: 0, rows: 0, pairs: 0 }).length;
  const { coefficients, gapMs, kvTokens } = value;
  if (!Array.isArray(coefficients) || coefficients.length !== count || !coefficients.every(isNumber))
    fail(`coefficients must be ${count} numbers`);
  if (!isNumber(gapMs) || gapMs < 0) fail("gapMs must be a number >= 0");
  if (!isNumber(kvTokens) || kvTokens < 1) fail("kvTokens must be a number >= 1");
  return value as Profile;
}

export class CostModel {
  readonly #coefficients: readonly number[];

  constructor(profile: Pick<Profile, "coefficients">) {
    this.#coefficients = profile.coefficients;
  }

  /** Milliseconds that native threads are busy with a step. */
  milliseconds(features: StepFeatures): number {
    const { tokens, rows, pairs } = features;
    const c = this.#coefficients;
    let ms = c[0] + c[1] * tokens + c[2] * rows + (c[3] * pairs) / 1000;
    for (let i = 0; i < KNEES.length && tokens > KNEES[i]; i++) ms += c[4 + i] * (tokens - KNEES[i]);
    // Outside of what was recorded a line may fall below zero.
    return Math.max(ms, 1e-3);
  }
}
