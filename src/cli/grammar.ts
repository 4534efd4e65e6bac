/** `sglang-ts grammar check|show|sample|explain`: what a grammar or JSON Schema enforces, seen without a model. */
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { SglangError } from "../core/errors.js";
import { type CompiledGrammar, GrammarCompiler, type GrammarSpec } from "../grammar/compiler.js";
import { compressedFsm, fsmToDot, fsmToText } from "../grammar/compressed-fsm.js";
import { explainText } from "../grammar/explain.js";
import { fsmToSvg } from "../grammar/fsm-drawing.js";
import { sampleText } from "../grammar/sampling.js";
import { Vocabulary } from "../grammar/vocabulary.js";

const KINDS = ["json_schema", "regex", "ebnf", "gbnf", "lark", "choices", "structural_tag"] as const;
type Kind = (typeof KINDS)[number];

const BY_EXTENSION: Readonly<Record<string, Kind>> = {
  ".ebnf": "ebnf",
  ".gbnf": "gbnf",
  ".lark": "lark",
  ".regex": "regex",
  ".re": "regex",
  ".txt": "choices",
};

/** States that `check` counts before it says "more than". */
const COUNTED_STATES = 5_000;

interface FileOptions {
  kind?: Kind;
}

export function registerGrammarCommand(program: Command): void {
  const grammar = program.command("grammar").description("check, show, sample and explain grammars and JSON Schemas");
  const add = (name: string, description: string): Command =>
    grammar
      .command(name)
      .description(description)
      .argument(
        "<file>",
        "JSON Schema or structural tag (.json), .ebnf, .gbnf, .lark, .regex, .txt with choices; - reads stdin",
      )
      .option("--kind <kind>", `what the file holds: ${KINDS.join(", ")} (default: by its name)`, parseKind)
      .exitOverride()
      .showSuggestionAfterError(true)
      .showHelpAfterError("(add --help for the list of options)");

  add("check", "say whether a grammar is enforced, with warnings, compile time and number of states")
    .option("--json", "print the report as JSON")
    .action((file: string, options: FileOptions & { json?: boolean }) => check(file, options));

  add("show", "draw the compressed finite state machine; bold edges are forced text")
    .option("--format <format>", "text, dot or svg", parseFormat, "text")
    .option("--limit <states>", "states to explore", parseCount, 60)
    .action((file: string, options: FileOptions & { format: string; limit: number }) => {
      const fsm = compressedFsm(load(file, options).grammar.automaton, options.limit);
      const drawing =
        options.format === "dot" ? fsmToDot(fsm) : options.format === "svg" ? fsmToSvg(fsm) : fsmToText(fsm);
      process.stdout.write(`${drawing}\n`);
      if (fsm.truncated)
        process.stderr.write(`More than ${options.limit} states; the rest is not shown (--limit raises it).\n`);
    });

  add("sample", "print random texts that the grammar accepts")
    .option("-n, --count <count>", "how many", parseCount, 5)
    .option("--seed <seed>", "the same seed gives the same texts", parseCount)
    .option("--length <bytes>", "length from which a text takes the shortest way to its end", parseCount, 200)
    .action((file: string, options: FileOptions & { count: number; seed?: number; length: number }) => {
      const { automaton } = load(file, options).grammar;
      const random = options.seed === undefined ? Math.random : seeded(options.seed);
      for (let i = 0; i < options.count; i++)
        process.stdout.write(`${sampleText(automaton, { length: options.length, random })}\n`);
    });

  add("explain", "show where a text leaves the grammar and what was allowed there; exit code 1 unless it is accepted")
    .argument("<text>", "the text; - reads stdin")
    .action((file: string, text: string, options: FileOptions) => explain(file, text, options));
}

function check(file: string, options: FileOptions & { json?: boolean }): void {
  const report: Record<string, unknown> = { file };
  try {
    const { grammar, spec, compileMs } = load(file, options);
    const fsm = compressedFsm(grammar.automaton, COUNTED_STATES);
    Object.assign(report, {
      kind: spec.kind,
      enforced: true,
      compileMs: Math.round(compileMs * 100) / 100,
      states: fsm.visited,
      moreStates: fsm.truncated,
      compressedStates: fsm.states.length,
      warnings: grammar.warnings,
    });
  } catch (error) {
    if (!SglangError.isInstance(error) || error.code === "FILE_NOT_FOUND") throw error;
    Object.assign(report, { enforced: false, refused: error.message, field: error.details.field });
    process.exitCode = 1;
  }
  if (options.json) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return;
  }
  const lines = report.enforced
    ? [
        `${file}: enforced exactly (${report.kind})`,
        `compiled in ${report.compileMs} ms`,
        `states: ${report.moreStates ? "more than " : ""}${report.states}; ${report.compressedStates} after folding forced text`,
        ...(report.warnings as string[]).map((warning) => `warning: ${warning}`),
      ]
    : [`${file}: refused`, String(report.refused)];
  process.stdout.write(`${lines.join("\n")}\n`);
}

function explain(file: string, text: string, options: FileOptions): void {
  const { grammar } = load(file, options);
  const result = explainText(grammar.automaton, text === "-" ? readText("-") : text);
  const tail = result.read.slice(-60);
  const lines: string[] = [];
  if (result.verdict === "accepted") lines.push("accepted: the grammar matches the whole text");
  else if (result.verdict === "incomplete")
    lines.push("incomplete: the text is the beginning of one that the grammar matches");
  else lines.push(`refused at character ${result.position}: ${JSON.stringify(result.character)} is not allowed`);
  lines.push(`read: ${tail.length < result.read.length ? "..." : ""}${JSON.stringify(tail)}`);
  lines.push(`${result.verdict === "refused" ? "allowed instead" : "allowed next"}: ${result.allowed.join(", ")}`);
  if (result.forced.length > 1) lines.push(`forced: ${JSON.stringify(result.forced)}`);
  process.stdout.write(`${lines.join("\n")}\n`);
  if (result.verdict !== "accepted") process.exitCode = 1;
}

function load(file: string, options: FileOptions): { grammar: CompiledGrammar; spec: GrammarSpec; compileMs: number } {
  const spec = specOf(file, readText(file), options.kind);
  const compiler = new GrammarCompiler(byteVocabulary());
  const started = performance.now();
  const grammar = compiler.compile(spec);
  return { grammar, spec, compileMs: performance.now() - started };
}

function specOf(file: string, content: string, kind: Kind | undefined): GrammarSpec {
  const chosen = kind ?? BY_EXTENSION[extname(file)] ?? guessJson(content);
  switch (chosen) {
    case "json_schema":
      return { kind: "json_schema", schema: content };
    case "structural_tag":
      return { kind: "structural_tag", tag: content };
    case "regex":
      return { kind: "regex", pattern: content.replace(/\r?\n$/, "") };
    case "choices":
      return { kind: "choices", choices: content.split(/\r?\n/).filter((line) => line !== "") };
    default:
      return { kind: chosen, source: content };
  }
}

/** A JSON file is a structural tag if it says so, else a schema. */
function guessJson(content: string): Kind {
  try {
    const value: unknown = JSON.parse(content);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      const fields = value as Record<string, unknown>;
      if (fields.type === "structural_tag" || (Array.isArray(fields.structures) && Array.isArray(fields.triggers)))
        return "structural_tag";
    }
  } catch {
    // The schema reader says what is wrong with the JSON, and where.
  }
  return "json_schema";
}

function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new SglangError(
      "FILE_NOT_FOUND",
      `Cannot read ${file}: ${(error as Error).message}.`,
      { file },
      { cause: error },
    );
  }
}

/** One token per byte: grammars are looked at without a model. */
function byteVocabulary(): Vocabulary {
  return new Vocabulary({
    vocabSize: 257,
    eosTokenIds: [256],
    tokenBytes: (id) => (id < 256 ? Uint8Array.of(id) : new Uint8Array(0)),
    isSpecial: (id) => id === 256,
  });
}

function parseKind(value: string): Kind {
  const kind = KINDS.find((name) => name === value);
  if (!kind) throw new InvalidArgumentError(`It must be one of ${KINDS.join(", ")}.`);
  return kind;
}

function parseFormat(value: string): string {
  if (!["text", "dot", "svg"].includes(value)) throw new InvalidArgumentError("It must be text, dot or svg.");
  return value;
}

function parseCount(value: string): number {
  const count = Number(value);
  if (!Number.isInteger(count) || count < 0 || value.trim() === "")
    throw new InvalidArgumentError("It must be a whole number, at least 0.");
  return count;
}

/** Park and Miller's generator: small and the same everywhere. */
function seeded(seed: number): () => number {
  let state = (seed % 2147483646) + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return (state - 1) / 2147483646;
  };
}
