// How far one row of logits is from the reference, and how sure a mean over windows is. Plain numbers in and out.

/** log(sum(exp(x))) of `size` logits at `start`, in double. */
export function logSumExp(logits, start, size) {
  let max = -Infinity;
  for (let i = start; i < start + size; i++) if (logits[i] > max) max = logits[i];
  let sum = 0;
  for (let i = start; i < start + size; i++) sum += Math.exp(logits[i] - max);
  return max + Math.log(sum);
}

/** exp(d) - 1 - d without cancellation: the first terms of the series where they are exact to a double's ten digits. */
const beyondLinear = (d) =>
  Math.abs(d) < 1e-2 ? d * d * (1 / 2 + d * (1 / 6 + d * (1 / 24 + d * (1 / 120)))) : Math.expm1(d) - d;

/**
 * Compares a row with the reference's row. KL(p || q) = sum p (q/p - 1 - log(q/p)): every term is >= 0, so nothing
 * cancels and 1e-12 can be told from 0.
 * @param next the token that follows in the text, for `nll`; -1 = none
 * @returns {{ kl: number, nll: number, same: boolean }} kl in nats; `same`: both have the same most likely token
 */
export function compareRows(reference, referenceStart, logits, start, size, next) {
  const lseP = logSumExp(reference, referenceStart, size);
  const lseQ = logSumExp(logits, start, size);
  const shift = lseP - lseQ;
  let kl = 0;
  let bestP = 0;
  let bestQ = 0;
  for (let i = 0; i < size; i++) {
    const p = reference[referenceStart + i];
    const q = logits[start + i];
    if (p > reference[referenceStart + bestP]) bestP = i;
    if (q > logits[start + bestQ]) bestQ = i;
    kl += Math.exp(p - lseP) * beyondLinear(q - p + shift);
  }
  return { kl, nll: next < 0 ? Number.NaN : lseQ - logits[start + next], same: bestP === bestQ };
}

export const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

/**
 * Mean and its standard error when values of one window depend on each other: windows are the independent units (with the
 * small-sample factor W / (W - 1)).
 * @param windows the window of each value
 */
export function clusteredMean(values, windows) {
  const m = mean(values);
  const sums = new Map();
  for (const [i, x] of values.entries()) sums.set(windows[i], (sums.get(windows[i]) ?? 0) + x - m);
  const count = sums.size;
  if (count < 2) return { mean: m, se: Number.NaN };
  const squares = [...sums.values()].reduce((sum, s) => sum + s * s, 0);
  return { mean: m, se: Math.sqrt((count / (count - 1)) * squares) / values.length };
}
