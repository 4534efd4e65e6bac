import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, describe, expect, it, vi } from "vitest";
import { registerGrammarCommand } from "../../src/cli/grammar.js";

const SCHEMA = {
  type: "object",
  properties: { name: { type: "string", maxLength: 8 }, age: { type: "integer", minimum: 0, maximum: 150 } },
  required: ["name", "age"],
  additionalProperties: false,
};

const folders: string[] = [];

/** A file with this content; its name says what it is. */
function file(name: string, content: unknown): string {
  const folder = mkdtempSync(join(tmpdir(), "grammar-test-"));
  folders.push(folder);
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Runs `sglang-ts grammar ...`. */
async function run(...args: string[]): Promise<{ out: string; err: string; exitCode: number }> {
  let out = "";
  let err = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    err += text;
    return true;
  });
  process.exitCode = undefined;
  const program = new Command("sglang-ts").exitOverride();
  registerGrammarCommand(program);
  await program.parseAsync(["grammar", ...args], { from: "user" });
  return { out, err, exitCode: Number(process.exitCode ?? 0) };
}

describe("sglang-ts grammar check", () => {
  it.each([
    ["schema.json", SCHEMA, "json_schema"],
    ["tag.json", { structures: [{ begin: "<f>", schema: SCHEMA, end: "</f>" }], triggers: ["<f>"] }, "structural_tag"],
    ["g.ebnf", 'root ::= "a" root "b" | ""', "ebnf"],
    ["g.gbnf", "root ::= .{3}", "gbnf"],
    ["g.lark", 'start: "a"+', "lark"],
    ["g.regex", "[0-9]{4}-[0-9]{2}\n", "regex"],
    ["g.txt", "yes\nno\n", "choices"],
  ])("tells from the name %s what the file holds", async (name, content, kind) => {
    const { out, exitCode } = await run("check", file(name, content), "--json");
    expect(JSON.parse(out)).toMatchObject({ kind, enforced: true, warnings: [] });
    expect(JSON.parse(out).states).toBeGreaterThan(1);
    expect(exitCode).toBe(0);
  });

  it("says what is refused, where, and ends with exit code 1", async () => {
    const { out, exitCode } = await run("check", file("g.regex", "(a)\\1"));
    expect(out).toContain("refused");
    expect(out).toContain("the back-reference \\1 is not regular");
    expect(exitCode).toBe(1);
  });

  it("prints the pointer of a keyword that can't be enforced", async () => {
    const schema = { type: "object", properties: { x: { type: "array", uniqueItems: true } } };
    const { out, exitCode } = await run("check", file("s.json", schema), "--json");
    expect(JSON.parse(out)).toMatchObject({ enforced: false, field: expect.stringContaining("/properties/x") });
    expect(exitCode).toBe(1);
  });

  it("--kind overrides the name", async () => {
    const { out } = await run("check", file("x.json", "a|b"), "--kind", "regex", "--json");
    expect(JSON.parse(out)).toMatchObject({ kind: "regex", enforced: true });
  });

  it("refuses a file that does not exist and a kind that is unknown", async () => {
    await expect(run("check", "/nowhere/schema.json")).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    await expect(run("check", file("g.ebnf", ""), "--kind", "xml")).rejects.toThrow(/must be one of/);
  });
});

describe("sglang-ts grammar show", () => {
  it("folds forced text into one edge", async () => {
    const { out } = await run("show", file("g.ebnf", 'root ::= "hello" [0-9] " world"'));
    expect(out.trim().split("\n")).toEqual([
      '0: "hello" -> 1',
      "1: [0-9] -> 2",
      '2: " world" -> 3',
      "3 (may end): the end",
    ]);
  });

  it("draws DOT and SVG with the same edges", async () => {
    const path = file("g.regex", 'a"|<b>c');
    const dot = (await run("show", path, "--format", "dot")).out;
    expect(dot).toMatch(/^digraph grammar \{/);
    expect(dot).toContain('[label="\\"a\\\\\\"\\""');
    const svg = (await run("show", path, "--format", "svg")).out;
    expect(svg).toMatch(/^<svg xmlns/);
    expect(svg).toContain("&#60;b&#62;c");
    expect(svg).not.toMatch(/[^=]"<b>/);
  });

  it("says when there are more states than shown", async () => {
    const { out, err } = await run("show", file("g.ebnf", 'root ::= "(" root ")" | "."'), "--limit", "10");
    expect(out).toContain("beyond the limit");
    expect(err).toContain("More than 10 states");
  });
});

describe("sglang-ts grammar sample", () => {
  it("prints texts that the schema accepts, the same for the same seed", async () => {
    const path = file("schema.json", SCHEMA);
    const first = (await run("sample", path, "-n", "20", "--seed", "3")).out;
    expect((await run("sample", path, "-n", "20", "--seed", "3")).out).toBe(first);
    // White space may hold line breaks, so values are cut where one ends and the next begins.
    const values = JSON.parse(`[${first.trim().replace(/\}\s*\{/g, "},{")}]`) as { name: string; age: number }[];
    expect(values).toHaveLength(20);
    for (const { name, age } of values) {
      expect([...name].length).toBeLessThanOrEqual(8);
      expect(Number.isInteger(age) && age >= 0 && age <= 150).toBe(true);
    }
  });

  it("comes to an end in grammars that need not", async () => {
    const { out } = await run("sample", file("g.regex", "(a|b)*c{3}"), "-n", "3", "--length", "10", "--seed", "1");
    for (const text of out.trim().split("\n")) expect(text).toMatch(/^(a|b)*c{3}$/);
  });
});

describe("sglang-ts grammar explain", () => {
  const grammar = 'root ::= "é=" [0-9]+ ("." [0-9]+)? ";end"';

  it.each([
    ["é=12;end", 0, /^accepted/],
    ["é=1x", 1, /refused at character 3: "x" is not allowed\nread: "é=1"\nallowed instead: \[\.0-9;\]/],
    ["é=1", 1, /^incomplete.*\nread: "é=1"\nallowed next: \[\.0-9;\]/],
    ["é=1;", 1, /allowed next: "e"\nforced: "end"/],
    [
      "e",
      1,
      /refused at character 0: "e" is not allowed\nread: ""\nallowed instead: some characters beyond ASCII\nforced: "é="/,
    ],
    ["é=1;end!", 1, /refused at character 7: "!" is not allowed.*\n.*\nallowed instead: the end of the text/],
  ])("%s", async (text, code, message) => {
    const { out, exitCode } = await run("explain", file("g.ebnf", grammar), text);
    expect(out).toMatch(message);
    expect(exitCode).toBe(code);
  });
});
