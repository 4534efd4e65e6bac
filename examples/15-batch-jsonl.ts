/** A JSONL file through a program: any length, so many at a time, resumed where it was cut off. */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { type Backend, program, select } from "../src/lang/index.js";

const LABELS = ["positive", "negative", "neutral"] as const;

const classify = program(async (s, review: { text: string }) => {
  s.user`Is this review positive, negative or neutral?\n\n${review.text}`;
  return s.assistant(select(LABELS));
});

async function* lines(path: string): AsyncGenerator<{ text: string }> {
  for await (const line of createInterface({ input: createReadStream(path) })) if (line !== "") yield JSON.parse(line);
}

export async function main(backend: Backend, path = "reviews.jsonl") {
  const counts: Record<string, number> = {};
  const batch = classify.batch(lines(path), { backend, concurrency: 32, checkpoint: `${path}.done.jsonl` });
  for await (const item of batch) {
    const label = item.ok ? item.value : "failed";
    counts[label] = (counts[label] ?? 0) + 1;
  }
  return counts;
}
