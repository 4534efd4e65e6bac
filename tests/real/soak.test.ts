import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { soak } from "../../src/testing/soak.js";

/** One minute of what `npm run bench:soak` does for twenty: the compiled CLI, SmolLM2-135M, a KV cache of 768 tokens that admission takes no care of. */
const SECONDS = 60;
const cli = resolve(import.meta.dirname, "../../dist/cli/main.js");
const FLAGS =
  "--offline --port 0 --max-total-tokens 768 --max-running-requests 16 --chunked-prefill-size 64 --schedule-conservativeness 0 --enable-priority-scheduling --log-level error";

describe("a server under random load", () => {
  it("gives every request the tokens it gets alone, and loses no page", async () => {
    const server = spawn(process.execPath, [cli, "serve", "--model-path", "smollm2-135m", ...FLAGS.split(" ")], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    try {
      const url = await new Promise<string>((done, fail) => {
        let output = "";
        for (const stream of [server.stdout, server.stderr]) {
          stream.on("data", (data: Buffer) => {
            output += data.toString();
            const ready = /ready at (http:\S+)/.exec(output);
            if (ready) done(ready[1]);
          });
        }
        server.on("exit", () => fail(new Error(`the server ended: ${output}`)));
      });
      const report = await soak({ url, seconds: SECONDS });
      expect(report.wrongAnswers).toEqual([]);
      expect(report).toMatchObject({ wrong: 0, leakedPages: 0 });
      // It met what it is here for.
      const { complete, aborted, left, late } = report.ended;
      for (const count of [complete, aborted, left, late, report.pauses]) expect(count).toBeGreaterThan(0);
      expect(report.counters.retractions).toBeGreaterThan(0);
      expect(report.counters.evictedTokens).toBeGreaterThan(0);
      // A leak of requests or texts would be more than this; what the heap settles at is not.
      expect(report.memory.end - report.memory.third).toBeLessThan(150);
    } finally {
      server.kill("SIGTERM");
      await new Promise((done) => server.on("exit", done));
    }
  });
});
