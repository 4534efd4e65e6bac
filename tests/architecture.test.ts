import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/** The floor table of docs/architecture.md: which rooms a room may import. `types:` = only `import type`. */
const FLOORS: Record<string, readonly string[]> = {
  core: [],
  native: ["core"],
  weights: ["core"],
  tokenizer: ["core"],
  grammar: ["core"],
  graph: ["core", "native"],
  models: ["core", "graph", "weights", "types:native"],
  runtime: ["core", "native", "weights", "tokenizer", "grammar", "graph", "models"],
  lang: ["core", "types:runtime"],
  server: ["core", "runtime"],
  cli: ["core", "native", "weights", "tokenizer", "grammar", "graph", "models", "runtime", "lang", "server"],
  testing: ["core", "native", "weights", "tokenizer", "grammar", "graph", "models", "runtime", "lang", "server"],
  "index.ts": ["core", "runtime", "lang", "server"],
};

/** Doors that must open without native code. */
const NO_ADDON_DOORS = ["tokenizer", "weights", "grammar", "lang"];

const src = resolve(import.meta.dirname, "../src");

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? files(path) : path.endsWith(".ts") ? [path] : [];
  });
}

interface Import {
  from: string;
  to: string;
  typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const found: Import[] = [];
  const pattern =
    /(?:^|\n)\s*(import|export)\s+(type\s+)?(?:[^;'"]*?\sfrom\s+)?["'](\.[^"']+)["']|import\(\s*["'](\.[^"']+)["']\s*\)/g;
  for (const match of text.matchAll(pattern)) {
    const spec = match[3] ?? match[4];
    found.push({
      from: file,
      to: resolve(dirname(file), spec.replace(/\.js$/, ".ts")),
      typeOnly: match[2] !== undefined,
    });
  }
  return found;
}

function room(file: string): string {
  return relative(src, file).split("/")[0];
}

const all = files(src);
const imports = all.flatMap(importsOf);

describe("architecture", () => {
  it("has a floor for every room in src", () => {
    const rooms = [...new Set(all.map(room))].sort();
    expect(rooms.filter((r) => !(r in FLOORS))).toEqual([]);
  });

  it("resolves every relative import to a file", () => {
    const missing = imports.filter((i) => !statSync(i.to, { throwIfNoEntry: false }));
    expect(missing.map((i) => `${relative(src, i.from)} -> ${relative(src, i.to)}`)).toEqual([]);
  });

  it("imports only from the floors below", () => {
    const wrong = imports.filter((i) => {
      const [from, to] = [room(i.from), room(i.to)];
      if (from === to) return false;
      const allowed = FLOORS[from];
      return !(allowed.includes(to) || (i.typeOnly && allowed.includes(`types:${to}`)));
    });
    expect(wrong.map((i) => `${relative(src, i.from)} -> ${relative(src, i.to)}`)).toEqual([]);
  });

  it("has no import cycles at run time", () => {
    const edges = new Map<string, string[]>();
    for (const i of imports) if (!i.typeOnly) edges.set(i.from, [...(edges.get(i.from) ?? []), i.to]);
    const state = new Map<string, "open" | "done">();
    const cycles: string[] = [];
    const visit = (file: string, path: string[]): void => {
      if (state.get(file) === "done") return;
      if (state.get(file) === "open") {
        cycles.push([...path.slice(path.indexOf(file)), file].map((f) => relative(src, f)).join(" -> "));
        return;
      }
      state.set(file, "open");
      for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
      state.set(file, "done");
    };
    for (const file of all) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it.each(NO_ADDON_DOORS)("opens %s under node --no-addons", (door) => {
    const entry = resolve(src, "../dist", door, "index.js");
    const run = spawnSync(
      process.execPath,
      ["--no-addons", "--input-type=module", "-e", `await import(${JSON.stringify(`file://${entry}`)})`],
      {
        encoding: "utf8",
      },
    );
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
  });
});
