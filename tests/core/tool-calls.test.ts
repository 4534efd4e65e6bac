import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ToolCallEvent, ToolCallParser } from "../../src/core/tool-calls.js";

const TOOLS = ["get_weather", "add"];

function parse(chunks: readonly string[]): ToolCallEvent[] {
  const parser = new ToolCallParser(TOOLS);
  const events = [...chunks.flatMap((chunk) => parser.push(chunk)), ...parser.flush()];
  const joined: ToolCallEvent[] = [];
  for (const event of events) {
    const last = joined.at(-1);
    if (event.type === "text" && last?.type === "text") last.text += event.text;
    else joined.push({ ...event });
  }
  return joined;
}

const call = (name: string, args: string): ToolCallEvent => ({ type: "call", name, arguments: args });
const text = (content: string): ToolCallEvent => ({ type: "text", text: content });

const CASES: readonly (readonly [what: string, input: string, events: ToolCallEvent[]])[] = [
  ["plain text", "No call here.", [text("No call here.")]],
  ["white space at the end of plain text", "Hi \n", [text("Hi \n")]],
  ["nothing", "", []],
  ["one call", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', [call("add", '{"a": 1}')]],
  [
    "text, then two calls",
    'Let me see.\n<tool_call>{"name":"add","arguments":{}}</tool_call>\n<tool_call>{"name":"get_weather","arguments":{"city":"Rome"}}</tool_call>\n',
    [text("Let me see."), call("add", "{}"), call("get_weather", '{"city":"Rome"}')],
  ],
  ["arguments before the name", '<tool_call>{"arguments":{"a":2},"name":"add"}</tool_call>', [call("add", '{"a":2}')]],
  ["the key parameters", '<tool_call>{"name":"add","parameters":{"a":2}}</tool_call>', [call("add", '{"a":2}')]],
  ["no arguments", '<tool_call>{"name":"add"}</tool_call>', [call("add", "{}")]],
  [
    "arguments as a JSON text",
    '<tool_call>{"name":"add","arguments":"{\\"a\\":1}"}</tool_call>',
    [call("add", '{"a":1}')],
  ],
  [
    "integers beyond 53 bits",
    '<tool_call>{"name":"add","arguments":{"id":12345678901234567890}}</tool_call>',
    [call("add", '{"id":12345678901234567890}')],
  ],
  [
    "braces and tags inside strings",
    '<tool_call>{"name":"add","arguments":{"s":"}</tool_call>{\\""}}</tool_call>',
    [call("add", '{"s":"}</tool_call>{\\""}')],
  ],
  ["a tool nobody offered", 'a <tool_call>{"name":"rm"}</tool_call>', [text('a <tool_call>{"name":"rm"}</tool_call>')]],
  ["broken JSON", "<tool_call>{add}</tool_call>!", [text("<tool_call>{add}</tool_call>!")]],
  ["JSON that is not a call", '<tool_call>{"a": 1}</tool_call>', [text('<tool_call>{"a": 1}</tool_call>')]],
  [
    "arguments that are a list",
    '<tool_call>{"name":"add","arguments":[1]}</tool_call>',
    [text('<tool_call>{"name":"add","arguments":[1]}</tool_call>')],
  ],
  ["a tag in prose", "Use the <tool_call> tag.", [text("Use the <tool_call> tag.")]],
  ["half a tag at the end", "abc <tool_c", [text("abc <tool_c")]],
  ["no closing tag at the end", '<tool_call>{"name":"add"}\n', [call("add", "{}")]],
  ["half a closing tag at the end", '<tool_call>{"name":"add"}</tool', [call("add", "{}")]],
  ["JSON cut off at the end", 'x <tool_call>{"name":"add", "argu', [text('x <tool_call>{"name":"add", "argu')]],
  [
    "a good call after a broken one",
    '<tool_call>{"name": "add</tool_call>\n<tool_call>{"name":"add"}</tool_call>',
    [text('<tool_call>{"name": "add</tool_call>'), call("add", "{}")],
  ],
  ["text after a call", '<tool_call>{"name":"add"}</tool_call>\nDone.', [call("add", "{}"), text("\nDone.")]],
];

describe("tool call parser", () => {
  it.each(CASES)("reads %s", (_, input, events) => {
    expect(parse([input])).toEqual(events);
  });

  it.each(CASES)("reads %s character by character", (_, input, events) => {
    expect(parse([...input])).toEqual(events);
  });

  const piece = fc.oneof(
    fc.constantFrom("<tool_call>", "</tool_call>", "\n", " ", "{", "}", '"', "\\", "<", "tool", '{"name":"add"}', "é"),
    fc.constantFrom(...CASES.map(([, input]) => input)),
    fc.string({ maxLength: 6 }),
  );

  it("gives the same result however the text is cut", () => {
    const cut = fc.tuple(fc.array(piece, { maxLength: 8 }), fc.array(fc.nat(12), { minLength: 1, maxLength: 20 }));
    fc.assert(
      fc.property(cut, ([pieces, sizes]) => {
        const whole = pieces.join("");
        const chunks: string[] = [];
        for (let at = 0, i = 0; at < whole.length; i++) {
          const size = Math.max(1, sizes[i % sizes.length]);
          chunks.push(whole.slice(at, at + size));
          at += size;
        }
        expect(parse(chunks)).toEqual(parse([whole]));
      }),
      { numRuns: 500 },
    );
  });

  it("loses nothing but white space when no call is found", () => {
    const noCalls = fc.array(fc.constantFrom("<tool_call>", "</tool_call>", "{", "}", '"', " ", "\n", "a", "<"), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(noCalls, (pieces) => {
        const whole = pieces.join("");
        expect(parse([...whole])).toEqual(whole === "" ? [] : [text(whole)]);
      }),
    );
  });

  it("holds back no more than a possible tag and the white space before it", () => {
    const parser = new ToolCallParser(TOOLS);
    expect(parser.push("Hello <tool")).toEqual([text("Hello")]);
    expect(parser.push("box>")).toEqual([text(" <toolbox>")]);
  });
});
