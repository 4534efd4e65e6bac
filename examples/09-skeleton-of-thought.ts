/** Skeleton of thought: an outline first, then all points at once, put together in order. */
import { type Backend, gen, program } from "../src/lang/index.js";

const write = program(async (s, question: string) => {
  s.user`${question}\nGive only an outline: 3 to 5 points of at most five words, one per line.`;
  const outline = await s.assistant(gen({ maxTokens: 80 }));
  const points = outline.split("\n").filter((line) => line.trim() !== "");
  const paragraphs = await s.fork(points, (f, point) => {
    f.user`Write one or two sentences about this point, and nothing else: ${point}`;
    return f.assistant(gen({ maxTokens: 80 }));
  });
  return points.map((point, index) => `${point}\n${paragraphs[index]}`).join("\n\n");
});

export async function main(backend: Backend) {
  return (await write.run("How does a compiler work?", { backend })).value;
}
