/** The progress bar of `batch({ progress: true })`, on standard error. */
import { SglangError } from "../core/errors.js";
import { standardError } from "./node-files.js";

export interface Progress {
  done: number;
  failed: number;
  /** Items that a checkpoint answered. */
  resumed: number;
  /** Number of items, or undefined while an async input has not ended. */
  total: number | undefined;
  promptTokens: number;
  completionTokens: number;
  elapsedMs: number;
}

const BAR_WIDTH = 24;

export function progressLine({ done, failed, total, completionTokens, elapsedMs }: Progress): string {
  const share = total === undefined || total === 0 ? 0 : done / total;
  const filled = Math.round(share * BAR_WIDTH);
  const bar = total === undefined ? "" : `[${"#".repeat(filled)}${"-".repeat(BAR_WIDTH - filled)}] `;
  const seconds = Math.max(elapsedMs / 1000, 0.001);
  const failures = failed > 0 ? `, ${failed} failed` : "";
  return `${bar}${done}/${total ?? "?"}${failures}, ${(done / seconds).toFixed(1)} items/s, ${(completionTokens / seconds).toFixed(0)} tokens/s`;
}

/** @throws SglangError UNSUPPORTED where there is no standard error */
export function progressBar(): (progress: Progress, ended: boolean) => void {
  const stderr = standardError();
  if (!stderr)
    throw new SglangError("UNSUPPORTED", "progress: true needs a terminal; pass a function instead.", {
      field: "progress",
    });
  return (progress, ended) => {
    // Only a terminal shows a line that changes; a log gets the last one.
    if (stderr.isTTY) stderr.write(`\r\x1b[2K${progressLine(progress)}${ended ? "\n" : ""}`);
    else if (ended) stderr.write(`${progressLine(progress)}\n`);
  };
}
