import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { readPrompt } from "../../src/cli/generate.js";

describe("a prompt from standard input", () => {
  it.each([
    ["loses the line end that echo adds", "The capital of Spain is\n", "The capital of Spain is"],
    ["loses a Windows line end", "one\r\ntwo\r\n", "one\r\ntwo"],
    ["keeps every other blank line", "a\n\n", "a\n"],
    ["may lack a line end", "a", "a"],
  ])("%s", async (_what, typed, prompt) => {
    expect(await readPrompt(Readable.from([Buffer.from(typed)]))).toBe(prompt);
  });

  it("may be cut inside a character", async () => {
    const bytes = Buffer.from("杭州");
    expect(await readPrompt(Readable.from([bytes.subarray(0, 2), bytes.subarray(2)]))).toBe("杭州");
  });
});
