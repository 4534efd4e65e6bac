/** Three ways to choose: what is likeliest per token, token by token, and what the prompt makes likelier. */
import {
  type Backend,
  greedyTokenSelection,
  program,
  select,
  tokenLengthNormalized,
  unconditionalLikelihoodNormalized,
} from "../src/lang/index.js";

const CHOICES = ["the heart", "the cerebellum", "the left ventricle of the heart"] as const;

const part = program(async (s) => {
  s.text("Which organ pumps blood? It is ");
  const methods = [tokenLengthNormalized, greedyTokenSelection, unconditionalLikelihoodNormalized];
  return s.fork(methods, async (f, method) => {
    const choice = f.append(select(CHOICES, { method }));
    const { choices = [] } = await choice.meta();
    return { method: method.name, choice: await choice, scores: choices.map(({ score }) => score) };
  });
});

export async function main(backend: Backend) {
  return (await part.run({ backend })).value;
}
