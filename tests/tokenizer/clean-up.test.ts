import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CleanUpStream, cleanUp } from "../../src/tokenizer/clean-up.js";

describe("clean-up", () => {
  it.each([
    ["do n't go .", "don't go."],
    ["I 'm , he 's , we 've , they 're !", "I'm, he's, we've, they're!"],
    ["a ' b", "a'b"],
    ["a  .", "a ."],
    ["nothing to do", "nothing to do"],
  ])("%j becomes %j", (text, cleaned) => {
    expect(cleanUp(text)).toBe(cleaned);
  });

  it("of a growing text is the clean-up of the whole, however it is cut", () => {
    const pieces = fc.array(
      fc.constantFrom(
        " ",
        "  ",
        "'",
        " '",
        "s",
        "n",
        "'t",
        "t",
        ".",
        " .",
        " ,",
        "?",
        "ve",
        "re",
        "m",
        "x",
        "春",
        " n",
      ),
      { maxLength: 25 },
    );
    fc.assert(
      fc.property(pieces, (parts) => {
        const stream = new CleanUpStream();
        expect(parts.map((part) => stream.push(part)).join("") + stream.flush()).toBe(cleanUp(parts.join("")));
      }),
      { numRuns: 2000 },
    );
  });

  it("holds no more than a word", () => {
    const stream = new CleanUpStream();
    expect(stream.push("The keeper")).toBe("The keeper");
    expect(stream.push(" ")).toBe("");
    expect(stream.push("x")).toBe(" x");
    expect(stream.push(" ".repeat(50))).toBe(" ".repeat(48));
    expect(stream.flush()).toBe("  ");
  });
});
