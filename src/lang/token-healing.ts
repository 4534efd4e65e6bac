/** Where a continuation starts in the tokens of prompt + continuation: the seam of `select`. */

/**
 * First position at which the ids of prompt + continuation differ from the prompt's own ids. A continuation may merge
 * with the prompt's last token (or several), so this can lie before `promptIds.length`; the logprobs of a continuation
 * are those of `fullIds` from here on. At least one token is always left, even when the continuation adds none.
 */
export function healedStart(promptIds: readonly number[], fullIds: readonly number[]): number {
  const limit = Math.min(promptIds.length, fullIds.length - 1);
  let start = 0;
  while (start < limit && promptIds[start] === fullIds[start]) start++;
  return Math.max(0, start);
}
