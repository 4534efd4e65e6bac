// `npm run bench`: prepares the package, then runs bench/run.mjs with the arguments given.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

prepare();
process.exit(
  spawnSync(process.execPath, [join(root, "bench/run.mjs"), ...process.argv.slice(2)], { stdio: "inherit" }).status ??
    1,
);
