/**
 * Rotary frequencies: the angle per position of each pair of columns, and the factor on cos and sin.
 *
 * The formulas are those of transformers (modeling_rope_utils), with its roundings to f32, so that a checkpoint gives
 * the frequencies its authors ran it with.
 */

export type RopeScaling =
  | { type: "default" }
  /** All positions divided by factor. */
  | { type: "linear"; factor: number }
  /** Llama 3.1: long wavelengths divided by factor, short ones kept, between them a blend. */
  | { type: "llama3"; factor: number; lowFreqFactor: number; highFreqFactor: number; originalContextLength: number }
  /** YaRN: a ramp over the columns between interpolated and kept, and a factor on cos and sin. */
  | {
      type: "yarn";
      factor: number;
      originalContextLength: number;
      betaFast: number;
      betaSlow: number;
      attentionFactor: number;
      /** Whole columns as the ends of the ramp. */
      truncate: boolean;
    }
  /** GGUF's rope_freqs.weight: each frequency divided by its own factor, [headDim / 2]. */
  | { type: "factors"; factors: Float32Array };

export interface RopeFrequencies {
  /** [headDim / 2] radians per position. */
  readonly frequencies: Float32Array;
  /** Factor on cos and sin. */
  readonly mscale: number;
}

/** @param headDim even. */
export function ropeFrequencies(theta: number, headDim: number, scaling: RopeScaling): RopeFrequencies {
  const f = Math.fround;
  const half = headDim / 2;
  const powers = Float32Array.from({ length: half }, (_, i) => theta ** f((2 * i) / headDim));
  const base = powers.map((power) => 1 / power);
  switch (scaling.type) {
    case "default":
      return { frequencies: base, mscale: 1 };
    case "linear":
      return { frequencies: base.map((x) => x / scaling.factor), mscale: 1 };
    case "factors":
      return { frequencies: base.map((x, i) => x / scaling.factors[i]), mscale: 1 };
    case "llama3": {
      const { factor, lowFreqFactor, highFreqFactor, originalContextLength: original } = scaling;
      const scaled = base.map((x) => {
        const wavelength = f((2 * Math.PI) / x);
        if (wavelength > original / lowFreqFactor) return x / factor;
        if (wavelength < original / highFreqFactor) return x;
        const smooth = f((original / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
        return f((f(1 - smooth) * x) / factor) + f(smooth * x);
      });
      return { frequencies: scaled, mscale: 1 };
    }
    case "yarn": {
      const { factor, originalContextLength: original, betaFast, betaSlow, attentionFactor, truncate } = scaling;
      // The column whose pair turns `rotations` times over the original context.
      const column = (rotations: number) =>
        (headDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
      const low = Math.max(truncate ? Math.floor(column(betaFast)) : column(betaFast), 0);
      const high = Math.min(truncate ? Math.ceil(column(betaSlow)) : column(betaSlow), headDim - 1);
      const width = low === high ? 0.001 : high - low;
      const scaled = powers.map((power, i) => {
        const kept = 1 - Math.min(Math.max(f((i - low) / width), 0), 1);
        return f(f(1 / f(factor * power)) * (1 - kept)) + f(f(1 / power) * kept);
      });
      return { frequencies: scaled, mscale: attentionFactor };
    }
  }
}

/** YaRN's own recommendation for the factor on cos and sin. */
export function yarnMscale(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}
