// The text that accuracy is measured on: prose, Chinese, code and documentation, written for this project and frozen here
// so that figures do not move when the documents do. Cut into windows of 512 tokens that share nothing.
import { readFileSync } from "node:fs";

export const WINDOW = 512;
/** Windows of each text, in turn; 16 together. */
const SHARES = { english: 3, chinese: 2, typescript: 4, cpp: 3, documents: 4 };

/** @returns {{ text: string, ids: number[] }[]} at most `count`, one of each text in turn */
export function readWindows(tokenizer, count) {
  const texts = Object.entries(SHARES).map(([name, share]) => {
    const ids = tokenizer.encode(readFileSync(new URL(`text/${name}.txt`, import.meta.url), "utf8"));
    const windows = Array.from({ length: share }, (_, i) => Array.from(ids.slice(i * WINDOW, (i + 1) * WINDOW)));
    if (windows.some((window) => window.length < WINDOW)) throw new Error(`text/${name}.txt is too short`);
    return windows.map((window) => ({ text: name, ids: window }));
  });
  const rounds = Math.max(...texts.map((windows) => windows.length));
  const all = Array.from({ length: rounds }, (_, i) => texts.flatMap((windows) => windows.slice(i, i + 1))).flat();
  if (count > all.length) throw new Error(`--windows: there are ${all.length} windows, got ${count}`);
  return all.slice(0, count);
}
