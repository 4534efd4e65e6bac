/** Retrieval over local files: paragraphs are ranked by their embeddings, the best go into the prompt. */
import { readdir, readFile } from "node:fs/promises";
import { type Backend, gen, program } from "../src/lang/index.js";

type Embed = (text: string) => Promise<Float32Array>;

async function paragraphs(folder: URL): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".md"));
  const texts = await Promise.all(names.map((name) => readFile(new URL(name, folder), "utf8")));
  return texts.flatMap((text) => text.split(/\n\s*\n/)).filter((text) => text.trim() !== "");
}

/** Embeddings are normalised: their product is their likeness. */
const likeness = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, index) => sum + value * b[index], 0);

async function best(question: string, texts: readonly string[], count: number, embed: Embed): Promise<string[]> {
  const wanted = await embed(question);
  const ranked = await Promise.all(texts.map(async (text) => ({ text, score: likeness(wanted, await embed(text)) })));
  return ranked
    .sort((a, b) => b.score - a.score)
    .slice(0, count)
    .map(({ text }) => text);
}

const answer = program(async (s, question: string, found: readonly string[]) => {
  s.system`Answer from these texts only:\n\n${found.join("\n\n")}`;
  s.user(question);
  return s.assistant(gen({ maxTokens: 128, temperature: 0 }));
});

/** `embed`: an engine started with --is-embedding, `async (text) => (await engine.embed({ prompt: { text } })).embedding`. */
export async function main(backend: Backend, embed: Embed, folder = new URL("../docs/", import.meta.url)) {
  const question = "Who may import the native room?";
  const found = await best(question, await paragraphs(folder), 3, embed);
  return { found, answer: (await answer.run(question, found, { backend })).value };
}
