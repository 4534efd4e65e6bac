import { describe, expect, it } from "vitest";
import { createChatTemplate } from "../../src/tokenizer/index.js";
import { strftime } from "../../src/tokenizer/jinja-python.js";

function render(template: string, kwargs: Record<string, unknown> = {}): string {
  return createChatTemplate({ templates: [{ name: "default", template }] }).render([], { kwargs });
}

describe("string methods do what Python's do:", () => {
  // Expected values are CPython's.
  it.each<[string, string, string]>([
    ["s.strip('\\n')", "\n\n    code block\n", "    code block"],
    ["s.lstrip('\\n')", "\n  a\n", "  a\n"],
    ["s.rstrip('\\n')", "\n  a \n", "\n  a "],
    ["s.strip()", " \t\n a \u00a0\x1f", "a"],
    ["s.strip()", "\ufeffa", "\ufeffa"],
    ["s.strip('xy')", "xyaxyx", "a"],
    ["s.strip('-]')", "-]a]-", "a"],
    ["s.strip('😀')", "😀a😀", "a"],
    ["s.split('</think>')[-1].lstrip('\\n')", "x</think>\n\n  y", "  y"],
    ["s.rstrip('\\n').split('<think>')[-1].lstrip('\\n')", "<think>\n\n  a\n\n", "  a"],
    ["s.rsplit(',', 1) | join('|')", "a,b,c", "a,b|c"],
    ["s.rsplit() | join('|')", " a  b c ", "a|b|c"],
    ["s.rsplit(none, 1) | join('|')", " a  b c ", " a  b|c"],
    ["s.splitlines() | join('|')", "a\r\nb\nc\n", "a|b|c"],
    ["s.find('b')", "😀b", "1"],
    ["s.find('z')", "abc", "-1"],
    ["s.rfind('a')", "abca", "3"],
    ["s.count('a')", "banana", "3"],
    ["s.removeprefix('un')", "undo", "do"],
    ["s.removesuffix('do')", "undo", "un"],
    ["s.removesuffix('')", "undo", "undo"],
    ["s.isdigit()", "١2", "true"],
    ["s.isspace()", " \n", "true"],
    ["(s + 'b').strip('b')", "ba", "a"],
    ["s | trim", "  a ", "a"],
  ])("%s of %j is %j", (expression, s, expected) => {
    expect(render(`{{ ${expression} }}`, { s })).toBe(expected);
  });

  it("inside loops, macros, conditions and filters' arguments too", () => {
    const template =
      "{% macro m(x) %}{{ x.strip('\\n') }}{% endmacro %}{% for x in xs if x.strip('a') %}{{ m(x.rstrip('\\n')) }}{{ y | default(x.lstrip('\\n')) }};{% endfor %}";
    expect(render(template, { xs: ["\n b\n", "aa"] })).toBe(" b b\n;");
  });
});

describe("tojson is transformers' tojson:", () => {
  // Expected values are json.dumps's.
  it.each<[string, unknown, string]>([
    [
      "tojson",
      { a: 1, b: [1, 2.5, null, true], c: {}, d: [] },
      '{"a": 1, "b": [1, 2.5, null, true], "c": {}, "d": []}',
    ],
    ["tojson", "引号 \"'\\ \n\t\u0001\u007f </script> &", '"引号 \\"\'\\\\ \\n\\t\\u0001\u007f </script> &"'],
    ["tojson(ensure_ascii=True)", "é😀\u007f", '"\\u00e9\\ud83d\\ude00\\u007f"'],
    [
      "tojson(indent=2)",
      { a: [1, { b: 2 }], c: [], d: {} },
      '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ],\n  "c": [],\n  "d": {}\n}',
    ],
    ["tojson(indent=0)", [1, 2], "[\n1,\n2\n]"],
    ["tojson(separators=(',', ':'))", { a: [1, 2] }, '{"a":[1,2]}'],
    ["tojson(sort_keys=True)", { b: 1, a: 2, B: 3 }, '{"B": 3, "a": 2, "b": 1}'],
    [
      "tojson",
      [0.00001, 1.5e-7, 1e21, 123456789012, -0.5, 0.1],
      "[1e-05, 1.5e-07, 1000000000000000000000, 123456789012, -0.5, 0.1]",
    ],
    ["tojson | length", "ab", "4"],
  ])("%s of %j", (filter, x, expected) => {
    expect(render(`{{ x | ${filter} }}`, { x })).toBe(expected);
  });

  it("keeps a float literal a float", () => {
    expect(render("{{ [2.0, 2, none] | tojson }}{{ 2.0 | tojson }}{{ none | tojson }}")).toBe("[2.0, 2, null]2.0null");
  });

  it("refuses what is not defined", () => {
    expect(() => render("{{ nothing | tojson }}")).toThrow(/undefined value/);
  });
});

describe("strftime", () => {
  const date = new Date(2026, 0, 5, 15, 4, 9);
  it.each([
    ["%d %b %Y", "05 Jan 2026"],
    ["%A, %B %-d, %y", "Monday, January 5, 26"],
    ["%Y-%m-%d %H:%M:%S", "2026-01-05 15:04:09"],
    ["%I:%M %p", "03:04 PM"],
    ["%a %j %%", "Mon 005 %"],
  ])("%s", (format, expected) => {
    expect(strftime(date, format)).toBe(expected);
  });

  it("refuses a directive it does not know", () => {
    expect(() => strftime(date, "%Q")).toThrow(/does not know %Q/);
  });

  it("is what a template gets from strftime_now", () => {
    expect(render("{{ strftime_now('%Y') }}")).toBe(String(new Date().getFullYear()));
  });
});
