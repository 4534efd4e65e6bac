/** A question about a picture, and a follow-up that is a choice. Needs a backend with a vision model. */
import { type Backend, gen, image, program, select } from "../src/lang/index.js";

/** A path, a URL, or the bytes of the file. */
type Picture = string | URL | Uint8Array;

const describe = program(async (s, picture: Picture, question: string) => {
  s.user(image(picture), question);
  const answer = s.assistant(gen({ maxTokens: 128 }));
  s.user("Was it taken indoors?");
  return { answer, indoors: s.assistant(select(["yes", "no", "unclear"])) };
});

export async function main(backend: Backend, picture: Picture = "photo.jpg") {
  return (await describe.run(picture, "What is in this picture?", { backend })).value;
}
