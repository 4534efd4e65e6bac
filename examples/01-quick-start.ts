/** A program: turns, a variable used in later text, and a choice. */
import { type Backend, gen, program, select } from "../src/lang/index.js";

const capital = program(async (s, country: string) => {
  s.system("You are concise.");
  s.user`What is the capital of ${country}?`;
  const city = s.assistant(gen({ maxTokens: 16, stop: "\n" }));
  s.user`Is ${city} on the sea?`;
  return { city, sea: s.assistant(select(["yes", "no"])) };
});

export async function main(backend: Backend) {
  const { value, usage } = await capital.run("Portugal", { backend, temperature: 0 });
  return { ...value, tokens: usage.promptTokens + usage.completionTokens };
}
