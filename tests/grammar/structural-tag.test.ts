import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { GrammarCompiler, type GrammarSpec } from "../../src/grammar/compiler.js";
import { charClass, type GrammarDefinition, repeat, sequence, text } from "../../src/grammar/ir.js";
import { parseStructuralTag } from "../../src/grammar/structural-tag.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { grammarMatches } from "./expression-matcher.js";

/** Stands for the JSON Schema front end: a schema is `{digits: n}` and matches `{` n digits `}`. */
const options = {
  schema(schema: unknown): GrammarDefinition {
    const fields = schema instanceof Map ? Object.fromEntries(schema) : schema;
    const digits = (fields as { digits?: number }).digits ?? 1;
    return { root: sequence(text("{"), repeat(charClass([0x30, 0x39]), digits, digits), text("}")), rules: new Map() };
  },
};

const FUNCTIONS = {
  structures: [
    { begin: "<function=a>", schema: { digits: 1 }, end: "</function>" },
    { begin: "<function=b>", schema: { digits: 2 }, end: "</function>" },
  ],
  triggers: ["<function="],
};

const tag = (begin: string, content: unknown, end: string): unknown => ({ type: "tag", begin, content, end });
const format = (value: unknown): unknown => ({ type: "structural_tag", format: value });
const schema = (digits: number): unknown => ({ type: "json_schema", json_schema: { digits } });
const A = tag("<a>", schema(1), "</a>");
const B = tag("<b>", schema(2), "</b>");

describe("Structural tags", () => {
  it.each<[name: string, value: unknown, yes: readonly string[], no: readonly string[]]>([
    [
      "SGLang's structures: free text, and constrained spans after a trigger",
      FUNCTIONS,
      [
        "",
        "hello <b>",
        "x <function=a>{1}</function> y <function=b>{12}</function>",
        "<<function=a>{1}</function>",
        "<functio",
        '{"json": 1}',
      ],
      [
        "<function=",
        "x <function=c>{1}</function>",
        "<function=a>{12}</function>",
        "<function=a>{1}",
        "<function=a>{1}</function><function=",
      ],
    ],
    ["the same as JSON text", JSON.stringify(FUNCTIONS), ["<function=a>{1}</function>"], ["<function=a>"]],
    [
      "triggers that overlap their own text",
      { structures: [{ begin: "aab", schema: {}, end: "!" }], triggers: ["aa"] },
      ["a", "ba", "aab{1}!", "baab{1}!a"],
      ["aa", "aaab{1}!", "aab", "aab{1}!aa"],
    ],
    [
      "one trigger that begins with another: the shorter one is met first",
      {
        structures: [
          { begin: "<x", schema: {}, end: "" },
          { begin: "<xy", schema: {}, end: "" },
        ],
        triggers: ["<", "<x"],
      },
      ["<x{1}", "<xy{2}", "ab<xy{2}<x{3}"],
      ["<", "<x", "<z", "<y{1}"],
    ],
    ["const_string", format({ type: "const_string", value: "yes" }), ["yes"], ["", "no"]],
    ["json_schema", format(schema(2)), ["{12}"], ["{1}"]],
    ["regex", format({ type: "regex", pattern: "a+|b" }), ["aa", "b"], ["ab"]],
    ["grammar", format({ type: "grammar", grammar: 'root ::= "(" root ")" | ""' }), ["(())"], ["("]],
    ["any_text", format({ type: "any_text" }), ["", "anything\n"], []],
    ["any_text that excludes", format({ type: "any_text", excludes: ["<t>"] }), ["", "a<t"], ["<t>", "x<t>y"]],
    [
      "or",
      format({ type: "or", elements: [schema(1), { type: "const_string", value: "none" }] }),
      ["{1}", "none"],
      ["", "{1}none"],
    ],
    [
      "sequence",
      format({ type: "sequence", elements: [tag("<think>", { type: "any_text" }, "</think>"), schema(1)] }),
      ["<think>hm < </think>{1}"],
      ["<think></think>", "{1}", "<think>a</think></think>{1}"],
    ],
    [
      "tag with several ends",
      format({ type: "tag", begin: "<", content: { type: "any_text" }, end: [">", "]"] }),
      ["<a>", "<]"],
      ["<a", "<a]>", "a>"],
    ],
    [
      "triggered_tags",
      format({ type: "triggered_tags", triggers: ["<a", "<b"], tags: [A, B] }),
      ["", "text", "t<a>{1}</a>u<b>{22}</b>"],
      ["<a>{22}</a>", "<a"],
    ],
    [
      "triggered_tags, at least one and only one",
      format({ type: "triggered_tags", triggers: ["<"], tags: [A, B], at_least_one: true, stop_after_first: true }),
      ["<a>{1}</a>", "<b>{22}</b>"],
      ["", "t", "<a>{1}</a>t", "<a>{1}</a><b>{22}</b>"],
    ],
    [
      "triggered_tags, at least one",
      format({ type: "triggered_tags", triggers: ["<"], tags: [A, B], at_least_one: true }),
      ["<a>{1}</a>", "<a>{1}</a>t<b>{22}</b>"],
      ["", "t<a>{1}</a>"],
    ],
    [
      "triggered_tags inside a tag end where the tag ends",
      format(tag("[", { type: "triggered_tags", triggers: ["<"], tags: [A] }, "]")),
      ["[]", "[x<a>{1}</a>y]"],
      ["[", "[]]", "[<a>{1}]", "[]x"],
    ],
    [
      "tags_with_separator",
      format({ type: "tags_with_separator", tags: [A, B], separator: "," }),
      ["", "<a>{1}</a>", "<a>{1}</a>,<b>{22}</b>,<a>{3}</a>"],
      [",", "<a>{1}</a>,", "<a>{1}</a><a>{1}</a>"],
    ],
    [
      "tags_with_separator, at least one and only one",
      format({ type: "tags_with_separator", tags: [A, B], separator: ",", at_least_one: true, stop_after_first: true }),
      ["<a>{1}</a>"],
      ["", "<a>{1}</a>,<a>{1}</a>"],
    ],
  ])("%s", (_, value, yes, no) => {
    const definition = parseStructuralTag(value, options);
    expect(yes.filter((sample) => !grammarMatches(definition, sample))).toEqual([]);
    expect(no.filter((sample) => grammarMatches(definition, sample))).toEqual([]);
  });

  it("hand the schema on with its pointer", () => {
    const seen: string[] = [];
    const collect = {
      schema(value: unknown, pointer: string): GrammarDefinition {
        seen.push(pointer);
        return options.schema(value);
      },
    };
    parseStructuralTag(FUNCTIONS, collect);
    parseStructuralTag(format({ type: "triggered_tags", triggers: ["<"], tags: [A] }), collect);
    expect(seen).toEqual(["/structures/0/schema", "/structures/1/schema", "/format/tags/0/content/json_schema"]);
  });
});

describe("Structural tags given as JSON text", () => {
  it("hand schemas on with their properties in the order of the text", () => {
    let keys: unknown[] = [];
    parseStructuralTag('{"type":"structural_tag","format":{"type":"json_schema","json_schema":{"b":1,"2":1,"1":1}}}', {
      schema(schema) {
        keys = [...(schema as Map<string, unknown>).keys()];
        return options.schema({});
      },
    });
    expect(keys).toEqual(["b", "2", "1"]);
  });
});

describe("Schemas side by side", () => {
  const one = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
  const any = { type: "object" };
  const list = { type: "array", items: { type: "integer" }, minItems: 1 };
  const some = { type: "array" };
  const TEXTS = ['{"a":1}', '{"any":[1]}', "{}", "[1]", '["x"]', "[]"];
  const compiler = new GrammarCompiler(
    new Vocabulary({
      vocabSize: 257,
      eosTokenIds: [256],
      tokenBytes: (id) => Uint8Array.of(id & 255),
      isSpecial: () => false,
    }),
  );
  const accepts = (spec: GrammarSpec, written: string): boolean => {
    const matcher = compiler.compile(spec).matcher();
    return matcher.acceptText(written) && matcher.canTerminate();
  };

  it("each accepts what it accepts alone, whatever stands beside it", () => {
    const schemas = [one, any, list, some];
    for (const first of schemas) {
      for (const second of schemas) {
        const content = (value: unknown): unknown => ({ type: "json_schema", json_schema: value });
        const tags = [tag("<1>", content(first), "</>"), tag("<2>", content(second), "</>")];
        const both = format({ type: "tags_with_separator", separator: "", at_least_one: true, tags });
        for (const written of TEXTS) {
          for (const [number, alone] of [first, second].entries()) {
            expect(
              accepts({ kind: "structural_tag", tag: both }, `<${number + 1}>${written}</>`),
              `${written} as ${JSON.stringify(alone)} beside ${JSON.stringify([first, second])}`,
            ).toBe(accepts({ kind: "json_schema", schema: alone }, written));
          }
        }
      }
    }
  });
});

describe("Structural tags that make no sense are refused with a pointer", () => {
  it.each<[value: unknown, message: RegExp]>([
    ["{", /structural_tag is not JSON/],
    [[], /structural_tag must be an object/],
    [{ type: "x" }, /structural_tag\/type must be "structural_tag"/],
    [{ structures: [], triggers: [] }, /structural_tag\/triggers must be at least one trigger/],
    [{ ...FUNCTIONS, extra: 1 }, /structural_tag\/extra must be left out/],
    [
      { ...FUNCTIONS, triggers: ["<tool"] },
      /structural_tag\/structures\/0\/begin must be a text that begins with one of the triggers "<tool"/,
    ],
    [{ ...FUNCTIONS, triggers: [""] }, /structural_tag\/triggers\/0 must be a text that is not empty/],
    [
      { structures: [{ begin: "<", schema: {} }], triggers: ["<"] },
      /structural_tag\/structures\/0\/end must be a text/,
    ],
    [
      format({ type: "qwen_xml_parameter", json_schema: {} }),
      /structural_tag\/format\/type must be one of const_string/,
    ],
    [format({ type: "or", elements: [] }), /structural_tag\/format\/elements must be at least one format/],
    [format({ type: "tag", begin: 1, content: {}, end: "" }), /structural_tag\/format\/begin must be a text/],
    [
      format({ type: "triggered_tags", triggers: ["<"], tags: [A], at_least_one: "yes" }),
      /at_least_one must be true or false/,
    ],
  ])("%j", (value, message) => {
    expect(() => parseStructuralTag(value, options)).toThrow(SglangError);
    expect(() => parseStructuralTag(value, options)).toThrow(message);
  });
});
