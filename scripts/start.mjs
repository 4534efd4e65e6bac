// `npm start`: everything from a fresh clone to a served model. Arguments after `--` go to `sglang-ts serve`.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

prepare();
const args = process.argv.slice(2);
const child = spawn(process.execPath, [join(root, "dist/cli/main.js"), "serve", "--first-run-help", ...args], {
  stdio: "inherit",
});
// The terminal sends Ctrl-C to the whole group; the server drains and this wrapper waits for it.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => signal === "SIGTERM" && child.kill(signal));
child.on("exit", (code, signal) => process.exit(signal ? 128 : (code ?? 1)));
