/**
 * `sglang-ts simulate TRACE --profile FILE`: the scheduler over a trace in virtual time, without a model.
 * `sglang-ts simulate [TRACE] --record FILE --model-path MODEL`: a real run that makes the profile.
 */
import { readFile, writeFile } from "node:fs/promises";
import { type Command, InvalidArgumentError } from "commander";
import { SglangError } from "../core/errors.js";
import type { RunReport, SimulationReport, Spread } from "../runtime/simulate/index.js";
import { addServerFlags, splitOptions } from "./server-args.js";

interface SimulateOptions extends Record<string, unknown> {
  profile?: string;
  record?: string;
  compare?: string[];
  blockSize?: number;
  json?: boolean;
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("Expected an integer >= 1.");
  return value;
}

export function registerSimulateCommand(program: Command): void {
  const command = program
    .command("simulate")
    .description("run the scheduler over a trace in virtual time, or record the profile that this needs")
    .argument("[trace]", "JSON lines with timestamp (ms), input_length, output_length, hash_ids")
    .option("--profile <file>", "what steps cost on the machine that is simulated")
    .option("--record <file>", "run the trace, or a built-in workload, on a real model and write its profile")
    .option("--compare <policies>", "schedule policies to compare, with commas between", (text) => text.split(","))
    .option("--block-size <tokens>", "tokens per entry of hash_ids (default: 512)", positiveInteger)
    .option("--json", "print the report as JSON");
  addServerFlags(command, ["engine", "cli"]);
  command.action((trace: string | undefined, options: SimulateOptions) => simulateCommand(trace, options));
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new SglangError("FILE_NOT_FOUND", `${file} cannot be read: ${(cause as Error).message}`, { file }, { cause });
  }
}

function missing(field: string, what: string): SglangError {
  return new SglangError("INVALID_ARGUMENT", what, { field });
}

async function simulateCommand(traceFile: string | undefined, options: SimulateOptions): Promise<void> {
  const { engine, cli } = splitOptions(options);
  const [{ parseProfile, parseTrace, recordProfile, simulate }, { setLogLevel }] = await Promise.all([
    import("../runtime/simulate/index.js"),
    import("../core/logger.js"),
  ]);
  setLogLevel((cli.logLevel as string | undefined) ?? "error");
  const trace = traceFile === undefined ? undefined : parseTrace(await readText(traceFile), traceFile);
  const { blockSize: blockTokens, json = false } = options;
  if (options.record !== undefined) {
    const model = cli.modelPath as string | undefined;
    if (model === undefined)
      throw missing("--model-path", "--record needs --model-path: the model whose steps are timed.");
    const onBatch = (requests: number) => process.stderr.write(`${requests} requests at once\n`);
    const { profile, run } = await recordProfile(model, engine, { trace, blockTokens, onBatch });
    await writeFile(options.record, `${JSON.stringify(profile, null, 1)}\n`);
    if (run) print({ measured: run }, json);
    const { median, p90 } = profile.error;
    process.stderr.write(
      `${options.record}: ${profile.steps} steps of ${profile.model}, fitted to ${percent(median)} in the median and ${percent(p90)} at p90.\n`,
    );
    return;
  }
  if (options.profile === undefined)
    throw missing(
      "--profile",
      "simulate needs --profile FILE; `sglang-ts simulate --record FILE --model-path MODEL` makes one.",
    );
  if (!trace) throw missing("trace", "simulate needs a trace: a file of JSON lines, one per request.");
  const profile = parseProfile(await readText(options.profile), options.profile);
  const reports: Record<string, SimulationReport> = {};
  for (const schedulePolicy of options.compare ?? [(engine.schedulePolicy as string | undefined) ?? "fcfs"])
    reports[schedulePolicy] = await simulate(trace, profile, { ...engine, schedulePolicy } as never, { blockTokens });
  print(reports, json);
}

const percent = (share: number) => `${(share * 100).toFixed(1)} %`;
const ms = (value: number) => (Number.isNaN(value) ? "-" : `${value.toFixed(value < 100 ? 1 : 0)} ms`);
const spreadRows = (name: string, of: (report: RunReport) => Spread): Row[] => [
  [`${name}, mean`, (report) => ms(of(report).mean)],
  [`${name}, p50`, (report) => ms(of(report).p50)],
  [`${name}, p99`, (report) => ms(of(report).p99)],
];

type Row = readonly [name: string, show: (report: RunReport & Partial<SimulationReport>) => string];

const ROWS: readonly Row[] = [
  ["requests", (r) => `${r.requests}`],
  ["refused", (r) => `${r.refused}`],
  ["time of the trace", (r) => `${r.seconds.toFixed(1)} s`],
  ["prompt tokens/s", (r) => r.inputTokensPerSecond.toFixed(1)],
  ["output tokens/s", (r) => r.outputTokensPerSecond.toFixed(1)],
  ...spreadRows("first token", (r) => r.firstTokenMs),
  ...spreadRows("between tokens", (r) => r.interTokenMs),
  ...spreadRows("end to end", (r) => r.endToEndMs),
  ["cache hit rate", (r) => percent(r.cacheHitRate)],
  ["retractions", (r) => `${r.retractions}`],
  ["preemptions", (r) => `${r.preemptions ?? "-"}`],
  ["native threads busy", (r) => (r.busyShare === undefined ? "-" : percent(r.busyShare))],
  ["simulated in", (r) => (r.wallSeconds === undefined ? "-" : `${r.wallSeconds.toFixed(1)} s`)],
];

function print(reports: Record<string, RunReport>, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(reports, null, 1)}\n`);
    return;
  }
  const rows = [
    ["", ...Object.keys(reports)],
    ...ROWS.map(([name, show]) => [name, ...Object.values(reports).map(show)]),
  ];
  for (const [policy, { tenants = {} }] of Object.entries(reports))
    for (const [tenant, { requests, firstTokenMs }] of Object.entries(tenants))
      rows.push([`${policy}, ${tenant || "no tenant"}: ${requests} requests, first token p50`, ms(firstTokenMs.p50)]);
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, ...cells] of rows)
    process.stdout.write(`${name.padEnd(width)}${cells.map((cell) => cell.padStart(14)).join("")}\n`);
}
