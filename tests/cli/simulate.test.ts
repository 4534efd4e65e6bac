import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { registerSimulateCommand } from "../../src/cli/simulate.js";
import { setLogLevel } from "../../src/core/logger.js";

const PROFILE = {
  version: 1,
  model: "m",
  kernels: { tier: "t", threads: 2 },
  kvTokens: 4096,
  recordedAt: "",
  steps: 100,
  gapMs: 0,
  coefficients: [2, 0.1, ...Array(10).fill(0)],
  error: { median: 0, p90: 0, total: 0 },
};
const TRACE = `{"timestamp": 0, "input_length": 100, "output_length": 11, "tenant": "a"}
{"timestamp": 5, "input_length": 100, "output_length": 11, "tenant": "b"}
`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "simulate-test-"));
  writeFileSync(join(folder, "profile.json"), JSON.stringify(PROFILE));
  writeFileSync(join(folder, "trace.jsonl"), TRACE);
});
afterEach(() => {
  vi.restoreAllMocks();
  setLogLevel("info");
  rmSync(folder, { recursive: true, force: true });
});

/** Runs `sglang-ts simulate ...`; TRACE and PROFILE stand for the files. */
async function run(...args: string[]): Promise<string> {
  let out = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  registerSimulateCommand(program);
  for (const command of program.commands) command.exitOverride().configureOutput({ writeErr: () => {} });
  const files: Record<string, string> = { TRACE: "trace.jsonl", PROFILE: "profile.json" };
  await program.parseAsync(["simulate", ...args.map((arg) => (arg in files ? join(folder, files[arg]) : arg))], {
    from: "user",
  });
  return out;
}

describe("sglang-ts simulate", () => {
  it("prints a column per policy, and tenants where there are several", async () => {
    const out = await run("TRACE", "--profile", "PROFILE", "--compare", "fcfs,lpm");
    const cells = out.split("\n").map((line) => line.trim().split(/\s{2,}/));
    expect(cells[0]).toEqual(["fcfs", "lpm"]);
    expect(cells).toContainEqual(["requests", "2", "2"]);
    expect(cells).toContainEqual(["first token, p50", "12.0 ms", "12.0 ms"]);
    expect(out).toMatch(/fcfs, b: 1 requests, first token p50 +\d/);
  });

  it("takes the engine's flags, and prints JSON when asked to", async () => {
    const out = await run(
      "TRACE",
      "--profile",
      "PROFILE",
      "--json",
      "--max-running-requests",
      "1",
      "--schedule-policy",
      "lof",
    );
    expect(JSON.parse(out)).toMatchObject({ lof: { requests: 2, refused: 0, decodeSteps: 20 } });
  });

  it.each<[string[], RegExp]>([
    [["TRACE"], /needs --profile FILE/],
    [["--profile", "PROFILE"], /needs a trace/],
    [["--record", "p.json"], /--record needs --model-path/],
    [["TRACE", "--profile", "TRACE"], /is not a profile/],
    [["PROFILE", "--profile", "PROFILE"], /profile\.json:1: version is not a known field/],
    [["missing.jsonl", "--profile", "PROFILE"], /missing\.jsonl cannot be read/],
    [["TRACE", "--profile", "PROFILE", "--compare", "best"], /--schedule-policy .* must be one of/],
    [["TRACE", "--profile", "PROFILE", "--block-size", "0"], /Expected an integer >= 1/],
  ])("refuses %j with what to do", async (args, says) => {
    await expect(run(...args)).rejects.toThrow(says);
  });
});
