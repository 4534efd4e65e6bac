/** A schema is a type: what the model may write, and what TypeScript knows. Needs a backend with JSON Schema constraints. */
import { z } from "zod";
import { type Backend, gen, program } from "../src/lang/index.js";

const Person = z.object({
  name: z.string(),
  born: z.int(),
  professions: z.array(z.string().max(40)).max(3),
});

const extract = program(async (s, text: string) => {
  s.user`Who is this about? Answer in JSON.\n\n${text}`;
  return s.assistant(gen({ schema: Person, maxTokens: 200, temperature: 0 }));
});

export async function main(backend: Backend) {
  const text = "Ada Lovelace, born in 1815, was a mathematician and a writer.";
  const { value: person } = await extract.run(text, { backend });
  return `${person.name.toUpperCase()} was ${1843 - person.born} when she published, as ${person.professions.join(" and ")}`;
}
