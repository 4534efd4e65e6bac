/** Branch-solve-merge: an essay is judged along several dimensions side by side, and the judgements are merged. */
import { type Backend, gen, program, select } from "../src/lang/index.js";

const DIMENSIONS = ["clarity", "originality", "evidence"] as const;
const GRADES = ["A", "B", "C", "D"] as const;

const judge = program(async (s, essay: string) => {
  s.system("You are a fair and exact judge of essays.");
  s.user`Here is an essay:\n${essay}`;
  s.assistant("I have read it.");
  const judgements = await s.fork(DIMENSIONS, (f, dimension) => {
    f.user`Judge its ${dimension} in two sentences.`;
    return f.assistant(gen({ maxTokens: 80 }));
  });
  s.user`Judgements:\n${judgements.map((text, index) => `${DIMENSIONS[index]}: ${text}`).join("\n")}\nSum up.`;
  const summary = s.assistant(gen({ maxTokens: 80 }));
  s.user("Grade it.");
  return { summary, grade: s.assistant(select(GRADES)) };
});

export async function main(backend: Backend) {
  return (await judge.run("Cats are liquid: they take the shape of their container.", { backend })).value;
}
