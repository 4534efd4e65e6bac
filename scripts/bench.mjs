// `npm run bench`, `npm run bench:NAME`: prepares the package, then runs bench/run.mjs or bench/NAME.mjs with the rest
// of the arguments.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

const [first, ...rest] = process.argv.slice(2);
const named = first !== undefined && existsSync(join(root, "bench", `${first}.mjs`));
const script = join(root, "bench", named ? `${first}.mjs` : "run.mjs");

prepare();
process.exit(
  spawnSync(process.execPath, [script, ...(named ? rest : process.argv.slice(2))], { stdio: "inherit" }).status ?? 1,
);
