/** What a step costs depends on these; counted from the very inputs that native code gets. */
import type { StepInputs } from "../../native/addon.js";

export interface StepFeatures {
  /** Tokens that go through the layers. */
  tokens: number;
  /** Rows of logits. */
  rows: number;
  /** (token, token it attends to), over all sequences. */
  pairs: number;
}

export function stepFeatures({ tokens, rowToken, seqStart, kvLength }: StepInputs): StepFeatures {
  let pairs = 0;
  for (let i = 0; i < kvLength.length; i++) {
    const fresh = seqStart[i + 1] - seqStart[i];
    pairs += fresh * (kvLength[i] - fresh) + (fresh * (fresh + 1)) / 2;
  }
  return { tokens: tokens.length, rows: rowToken.length, pairs };
}
