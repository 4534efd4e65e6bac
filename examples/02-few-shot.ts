/** Few-shot prompting on raw text; a batch computes the examples once. */
import { type Backend, gen, program } from "../src/lang/index.js";

const EXAMPLES = [
  ["What is the capital of France?", "Paris"],
  ["What is the capital of Germany?", "Berlin"],
  ["What is the capital of Italy?", "Rome"],
] as const;

const answer = program(async (s, question: string) => {
  s.text("The following are questions with answers.\n\n");
  for (const [q, a] of EXAMPLES) s.text`Q: ${q}\nA: ${a}\n`;
  s.text`Q: ${question}\nA:`;
  return s.append(gen({ stop: "\n", temperature: 0, maxTokens: 16 }));
});

export async function main(backend: Backend) {
  const countries = ["Spain", "Japan", "Peru"];
  const items = await answer.batch(
    countries.map((country) => `What is the capital of ${country}?`),
    { backend },
  );
  return items.map((item) => (item.ok ? item.value.trim() : item.error));
}
