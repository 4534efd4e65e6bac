/** A regular expression constrains the whole answer. Needs a backend with regex constraints. */
import { type Backend, gen, program } from "../src/lang/index.js";

const OCTET = "(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])";

const address = program(async (s, name: string) => {
  s.user`What is the IP address of ${name}?`;
  return s.assistant(gen({ regex: `(${OCTET}\\.){3}${OCTET}`, temperature: 0 }));
});

export async function main(backend: Backend) {
  return (await address.run("Google's public DNS server", { backend })).value;
}
