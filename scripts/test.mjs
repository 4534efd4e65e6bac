// `npm test [-- suite...]`: prepares a fresh clone, runs the suites and ends with `N passed, N failed, N skipped`.
//   unit    everything that needs no download (default)
//   models  golden tests and end-to-end tests on real weights; fetches them through the catalog first
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

const SUITES = {
  unit: { config: "vitest.config.ts", models: [] },
  models: { config: "vitest.models.config.ts", models: ["smollm2-135m", "qwen2.5-coder-0.5b"] },
};

prepare();
const asked = process.argv.slice(2).filter((a) => a in SUITES);
const rest = process.argv.slice(2).filter((a) => !(a in SUITES));
const total = { passed: 0, failed: 0, skipped: 0 };
for (const name of asked.length ? asked : ["unit"]) {
  const suite = SUITES[name];
  for (const model of suite.models) {
    const pull = spawnSync(process.execPath, [join(root, "dist/cli/main.js"), "models", "pull", model], {
      stdio: "inherit",
    });
    if (pull.status !== 0) process.exit(pull.status ?? 1);
  }
  const folder = mkdtempSync(join(tmpdir(), "sglang-ts-test-"));
  const report = join(folder, "report.json");
  const run = spawnSync(
    process.execPath,
    [
      join(root, "node_modules/vitest/vitest.mjs"),
      "run",
      "--config",
      suite.config,
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${report}`,
      ...rest,
    ],
    { cwd: root, stdio: "inherit" },
  );
  if (!existsSync(report)) {
    console.error(`The ${name} suite ended without a report (exit code ${run.status}).`);
    total.failed += 1;
  } else {
    const result = JSON.parse(readFileSync(report, "utf8"));
    total.passed += result.numPassedTests;
    total.failed += result.numFailedTests;
    total.skipped += result.numPendingTests + (result.numTodoTests ?? 0);
    // A suite that fails to load, or an unhandled rejection, counts no test as failed and must still fail the run.
    if (run.status !== 0 && result.numFailedTests === 0) total.failed += Math.max(1, result.numFailedTestSuites ?? 1);
  }
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
