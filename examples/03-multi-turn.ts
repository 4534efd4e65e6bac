/** A conversation of several turns, read as messages at the end. */
import { type Backend, gen, program } from "../src/lang/index.js";

const conversation = program(async (s, questions: readonly string[]) => {
  s.system("You are a helpful assistant.");
  for (const question of questions) {
    s.user(question);
    s.assistant(gen({ maxTokens: 128 }));
  }
});

export async function main(backend: Backend) {
  const questions = ["Give me two tips for a first visit to Tokyo.", "Which one is cheaper?"];
  const { messages } = await conversation.run(questions, { backend });
  return messages.map(
    ({ role, content }) => `${role}: ${content.map((part) => (part.type === "text" ? part.text : ""))}`,
  );
}
