/** Tree of thought: several plans, each carried out and scored in its own branch; the best answer wins. */
import { type Backend, gen, program, type State, select } from "../src/lang/index.js";

const GRADES = ["1", "2", "3", "4", "5"] as const;

async function solve(s: State, plan: number) {
  s.user`Propose plan ${plan + 1} in one sentence. Do not solve yet.`;
  s.assistant(gen({ maxTokens: 48, temperature: 0.8 }));
  s.user("Carry out the plan. End with the answer.");
  const answer = s.assistant(gen({ maxTokens: 192 }));
  s.user("How sure are you of this answer, from 1 to 5?");
  return { answer: await answer, grade: Number(await s.assistant(select(GRADES))) };
}

const think = program(async (s, question: string, breadth: number) => {
  s.user(question);
  s.assistant("I will think of several plans.");
  const leaves = await s.fork(breadth, solve);
  return leaves.reduce((best, leaf) => (leaf.grade > best.grade ? leaf : best));
});

export async function main(backend: Backend) {
  const question =
    "A bat and a ball cost 1.10 together. The bat costs 1.00 more than the ball. What does the ball cost?";
  return (await think.run(question, 3, { backend })).value;
}
