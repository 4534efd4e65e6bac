/** The parts of the language that need no program: choices, patterns, schemas, reasoning, pictures, prefixes. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { didYouMean } from "../../src/core/near-miss.js";
import { REASONING_FORMATS, type ReasoningFormat, ReasoningSplitter } from "../../src/core/reasoning.js";
import type { BackendPrompt } from "../../src/lang/backends/backend.js";
import { bestIndex, type ScoredChoice } from "../../src/lang/choices.js";
import {
  greedyTokenSelection,
  tokenLengthNormalized,
  unconditionalLikelihoodNormalized,
} from "../../src/lang/index.js";
import { loadMedia } from "../../src/lang/media.js";
import { commonPrefix } from "../../src/lang/prefix.js";
import { constraintPattern, matchesWhole } from "../../src/lang/regex.js";
import { toJsonSchema } from "../../src/lang/schema.js";
import { matchTurn } from "../../src/lang/speculation.js";
import { healedStart } from "../../src/lang/token-healing.js";

describe("choices methods", () => {
  // The numbers of SGLang's test_choices.py: "organ" wins by mean, "organism" token by token, "antidisestablishmentarianism" by gain.
  const scored = (
    rows: readonly (readonly number[])[],
    without?: readonly (readonly (number | null)[])[],
  ): ScoredChoice[] =>
    rows.map((row, index) => ({
      choice: `c${index}`,
      tokens: row.map((logprob) => [logprob, 0, ""]),
      ...(without ? { unconditional: without[index] } : {}),
    }));
  const pick = (method: { scores(choices: readonly ScoredChoice[]): readonly number[] }, choices: ScoredChoice[]) =>
    bestIndex(method.scores(choices));

  it.each([
    ["the highest mean", tokenLengthNormalized, scored([[-1], [-0.1, -0.2, -0.3], [-2, -0.01]]), 1],
    ["the first of equals", tokenLengthNormalized, scored([[-1, -1], [-1]]), 0],
    [
      "the best first token, whatever follows",
      greedyTokenSelection,
      scored([
        [-0.5, -9],
        [-1, -0.1],
      ]),
      0,
    ],
    [
      "the best second token among equals",
      greedyTokenSelection,
      scored([
        [-0.5, -3],
        [-0.5, -1],
        [-2, 0],
      ]),
      1,
    ],
    ["a shorter choice by its mean", greedyTokenSelection, scored([[-0.5], [-0.5, -0.6]]), 0],
    ["a longer choice that beats the shorter's mean", greedyTokenSelection, scored([[-0.5], [-0.5, -0.1]]), 1],
    [
      "the highest gain",
      unconditionalLikelihoodNormalized,
      scored(
        [
          [-1, -1],
          [-3, -3],
        ],
        [
          [-1.5, -1],
          [-9, -9],
        ],
      ),
      1,
    ],
    ["null without a prompt as 0", unconditionalLikelihoodNormalized, scored([[-1], [-2]], [[null], [-3]]), 1],
  ] as const)("choose %s", (_, method, choices, best) => {
    expect(pick(method, [...choices])).toBe(best);
  });

  it("never let NaN win over a number", () => {
    expect(bestIndex([Number.NaN, -5, Number.NaN])).toBe(1);
  });
});

describe("token healing", () => {
  it.each([
    ["a continuation of its own tokens", [1, 2], [1, 2, 3, 4], 2],
    ["a continuation that merges with the last token", [1, 2], [1, 9, 4], 1],
    ["one that merges with several", [1, 2, 3], [9], 0],
    ["one that adds nothing still has a token", [1, 2], [1, 2], 1],
    ["an empty prompt", [], [5], 0],
  ])("%s", (_, prompt, full, start) => {
    expect(healedStart(prompt, full)).toBe(start);
  });
});

describe("regular expressions", () => {
  it.each([
    ["[0-9]+", "[0-9]+"],
    [/^a|b/.source.slice(1), "a|b"],
    [/^(?:a|b)$/, "(?:a|b)"],
    [/a\$$/u, "a\\$"],
    [/[\^$\]b]\\/, "[\\^$\\]b]\\\\"],
    [/(?<year>\d{4})/u, "(?<year>\\d{4})"],
  ])("%s is enforced as %s", (given, pattern) => {
    expect(constraintPattern(given)).toBe(pattern);
  });

  it.each([
    [/a(?!b)/, "a negative lookahead (?!...)"],
    [/(?<=a)b/, "a lookbehind (?<=...)"],
    [/(?<!a)b/, "a negative lookbehind"],
    [/(a)\1/, "the back reference \\1"],
    [/(?<x>a)\k<x>/, "the named back reference"],
    [/\bword/, "the word boundary \\b"],
    [/a$b/, "the anchor $ inside"],
    [/^a|b/, "anchors beside top-level alternatives"],
    [/a/i, 'the flag "i"'],
    ["a(", "a valid regular expression"],
  ])("%s is refused: %s", (given, message) => {
    expect(() => constraintPattern(given)).toThrow(message);
  });

  it("match the whole answer or nothing", () => {
    expect([matchesWhole("a|ab", "ab"), matchesWhole("a", "ab"), matchesWhole("a.", "a\n")]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("schemas", () => {
  it("of zod are closed where they list their properties, and not where another part adds some", () => {
    expect(toJsonSchema(z.object({ a: z.object({ b: z.string() }) }))).toMatchObject({
      additionalProperties: false,
      properties: { a: { additionalProperties: false } },
    });
    expect(toJsonSchema(z.looseObject({ a: z.string() })).additionalProperties).toEqual({});
    const part = { type: "object", properties: { a: { type: "string" } } };
    const parts = {
      "~standard": {
        version: 1,
        vendor: "x",
        validate: (value: unknown) => ({ value }),
        jsonSchema: { input: () => ({ allOf: [part, part] }) },
      },
    };
    expect(toJsonSchema(parts)).toEqual({ allOf: [part, part] });
  });

  it("written as JSON Schema are passed on as they are", () => {
    const schema = { type: "object", properties: { a: { type: "string" } } } as const;
    expect(toJsonSchema(schema)).toEqual(schema);
  });

  it("without a JSON Schema form are refused by their library's name", () => {
    const plain = { "~standard": { version: 1, vendor: "tiny", validate: (value: unknown) => ({ value }) } };
    expect(() => toJsonSchema(plain)).toThrow("schema of tiny has no JSON Schema form");
    expect(() => toJsonSchema(z.object({ when: z.date() }))).toThrow("schema cannot be written as JSON Schema");
    expect(() => toJsonSchema(null as unknown as object & Record<string, unknown>)).toThrow(
      "schema must be a zod schema",
    );
  });
});

describe("reasoning", () => {
  const split = (format: ReasoningFormat, pieces: readonly string[]) => {
    const splitter = new ReasoningSplitter(format);
    const parts = [...pieces.map((piece) => splitter.push(piece)), splitter.finish()];
    return [parts.map(({ reasoning }) => reasoning).join(""), parts.map(({ text }) => text).join("")];
  };
  const cases: [format: ReasoningFormat, text: string, reasoning: string, answer: string][] = [
    [REASONING_FORMATS.qwen3, "<think>why</think>\n\nbecause", "why", "because"],
    [REASONING_FORMATS.qwen3, "just this <think>", "", "just this <think>"],
    [REASONING_FORMATS.qwen3, "<thin", "", "<thin"],
    [REASONING_FORMATS["deepseek-r1"], "why</think>because", "why", "because"],
    [REASONING_FORMATS["deepseek-r1"], "<think>why</think>because", "why", "because"],
    [REASONING_FORMATS["deepseek-r1"], "why </thi", "why </thi", ""],
    [REASONING_FORMATS.kimi, "\u25c1think\u25b7a\u25c1/think\u25b7b", "a", "b"],
  ];
  it.each(cases)("%o of %j", (format, text, reasoning, answer) => {
    expect(split(format, [text])).toEqual([reasoning, answer]);
  });

  it("is split the same however the text is cut", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...cases),
        fc.array(fc.nat(5), { maxLength: 30 }),
        ([format, text, reasoning, answer], cuts) => {
          const pieces: string[] = [];
          let rest = text;
          for (const cut of cuts) {
            pieces.push(rest.slice(0, cut));
            rest = rest.slice(cut);
          }
          expect(split(format, [...pieces, rest])).toEqual([reasoning, answer]);
        },
      ),
    );
  });
});

describe("pictures", () => {
  const png = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 1, 2]);

  it("come from paths, file URLs, data URLs, web URLs and bytes", async () => {
    const folder = await mkdtemp(join(tmpdir(), "lang-media-"));
    const path = join(folder, "a.bin");
    await writeFile(path, png);
    const read = await Promise.all(
      [path, pathToFileURL(path), `data:;base64,${btoa(String.fromCharCode(...png))}`, png, png.slice().buffer].map(
        loadMedia,
      ),
    );
    await rm(folder, { recursive: true });
    for (const media of read) {
      expect(media.mediaType).toBe("image/png");
      expect([...(media.data ?? [])]).toEqual([...png]);
    }
    expect(await loadMedia("https://a.b/c.JPG?x=1")).toEqual({ url: "https://a.b/c.JPG?x=1", mediaType: "image/jpeg" });
  });

  it("that cannot be read say which", async () => {
    await expect(loadMedia("no/such.png")).rejects.toThrow("Picture or video no/such.png cannot be read");
    await expect(loadMedia("data:nonsense")).rejects.toThrow("a data: URL with a media type");
  });
});

describe("shared prefixes", () => {
  const raw = (text: string): BackendPrompt => ({ type: "text", parts: [{ type: "text", text }] });

  it("are what two raw prompts begin with, for any texts", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme" }),
        fc.string({ unit: "grapheme" }),
        fc.string({ unit: "grapheme" }),
        (start, a, b) => {
          const common = commonPrefix([raw(start + a), raw(start + b)]);
          const text =
            common?.type === "text" ? common.parts.map((part) => (part.type === "text" ? part.text : "")).join("") : "";
          expect((start + a).startsWith(text) && (start + b).startsWith(text)).toBe(true);
          expect(text.length).toBeGreaterThanOrEqual(start.length);
        },
      ),
    );
  });

  it("of raw text and turns are none", () => {
    expect(commonPrefix([raw("a"), { type: "chat", messages: [], continueFinal: false }])).toBeNull();
  });
});

describe("small helpers", () => {
  it("matchTurn takes texts between what the program wrote, or nothing", () => {
    const pieces = [
      { text: "Name:" },
      {
        name: "n",
        expression: { expression: "gen", name: "n", options: { stop: "\n" } },
        writer: { write() {}, resolve() {}, reject() {} },
      },
      { text: "\nAge:" },
      {
        name: "a",
        expression: { expression: "gen", name: "a", options: { stop: ["\n", "."] } },
        writer: { write() {}, resolve() {}, reject() {} },
      },
    ] as const;
    expect(matchTurn(pieces, " Name: Ada\nAge: 36. More")).toEqual([" Ada", " 36"]);
    expect(matchTurn(pieces, "Name: Ada\nBorn: 1815")).toBeNull();
    expect(matchTurn(pieces, "Name: Ada")).toBeNull();
  });

  it("didYouMean knows the near and not the far", () => {
    expect(didYouMean("temprature", ["temperature", "topP"])).toBe(" Did you mean temperature?");
    expect(didYouMean("zzz", ["temperature"])).toBe("");
  });
});
