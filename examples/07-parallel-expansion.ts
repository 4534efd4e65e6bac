/** Fork and join: tips are expanded side by side over one shared prefix, then summed up. */
import { type Backend, gen, program } from "../src/lang/index.js";

const advice = program(async (s, topic: string) => {
  s.system("You give practical advice in plain words.");
  s.user`Two short tips about ${topic}: (1) diet, (2) exercise.`;
  s.assistant("(1) Diet. (2) Exercise.");
  const details = await s.fork(["diet", "exercise"], (f, tip) => {
    f.user`Expand the tip about ${tip} into one paragraph.`;
    return f.assistant(gen({ maxTokens: 128 }));
  });
  s.user`Sum up in one sentence:\n${details.join("\n")}`;
  return { details, summary: s.assistant(gen({ maxTokens: 64 })) };
});

export async function main(backend: Backend) {
  return (await advice.run("staying healthy", { backend })).value;
}
