import { describe, expect, it } from "vitest";
import type { SglangError } from "../../src/core/errors.js";
import { selectFiles } from "../../src/weights/select-files.js";

function select(paths: readonly string[], wanted?: string) {
  return selectFiles(
    "org/name",
    paths.map((path) => ({ path, size: 1 })),
    wanted,
  );
}

function refused(paths: readonly string[], wanted?: string): SglangError {
  try {
    select(paths, wanted);
  } catch (error) {
    return error as SglangError;
  }
  return expect.fail("it should have been refused");
}

const GGUFS = ["m-q2_k.gguf", "m-q4_k_m.gguf", "m-q4_k_s.gguf", "README.md"];
const SPLIT = ["m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf"];

describe("choosing the files of a repository", () => {
  it("takes weights, configs, tokenizer and templates of a safetensors repository, and no second format", () => {
    const wanted = [
      "config.json",
      "generation_config.json",
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
      "model.safetensors.index.json",
      "tokenizer.json",
      "tokenizer.model",
      "chat_template.jinja",
      "merges.txt",
      "1_Pooling/config.json",
    ];
    const others = [
      "README.md",
      "pytorch_model.bin",
      "original/consolidated.00.pth",
      "original/params.json",
      "onnx/model.onnx",
      "consolidated.safetensors",
      "figures/x.png",
      ".gitattributes",
    ];
    const selection = select([...wanted, ...others]);
    expect(selection.main).toBeNull();
    expect(selection.paths.sort()).toEqual(wanted.sort());
  });

  it("takes consolidated weights when there are no others", () => {
    expect(select(["consolidated.safetensors", "params.json"]).paths).toEqual([
      "params.json",
      "consolidated.safetensors",
    ]);
  });

  it.each([
    ["the only GGUF file", ["m-q8_0.gguf", "README.md"], undefined, ["m-q8_0.gguf"]],
    ["Q4_K_M among several", GGUFS, undefined, ["m-q4_k_m.gguf"]],
    ["the GGUF file beside a vision projector", ["m-f16.gguf", "mmproj-f16.gguf"], undefined, ["m-f16.gguf"]],
    ["the file that is named", GGUFS, "m-q2_k.gguf", ["m-q2_k.gguf"]],
    ["the file that is named in another case", GGUFS, "M-Q2_K.GGUF", ["m-q2_k.gguf"]],
    [
      "the file that is named without its folder",
      ["q4/m-q4_0.gguf", "q8/m-q8_0.gguf"],
      "m-q8_0.gguf",
      ["q8/m-q8_0.gguf"],
    ],
    ["the quantisation that is named", GGUFS, "Q4_K_S", ["m-q4_k_s.gguf"]],
    ["all parts of a split file", [...SPLIT, "README.md"], undefined, SPLIT],
    ["all parts when the first is named", [...SPLIT, ...GGUFS], SPLIT[0], SPLIT],
    ["all parts when their quantisation is named", [...SPLIT, ...GGUFS], "q8_0", SPLIT],
    ["a GGUF file that is named in a safetensors repository", ["model.safetensors", "m.gguf"], "m.gguf", ["m.gguf"]],
  ])("takes %s", (_what, paths, wanted, chosen) => {
    expect(select(paths, wanted)).toEqual({ paths: chosen, main: chosen[0] });
  });

  it("lists the choices when several files fit and none is preferred", () => {
    const error = refused(["m-q2_k.gguf", "m-q8_0.gguf"]);
    expect(error.code).toBe("INVALID_REQUEST");
    expect(error.message).toBe(
      "org/name holds several GGUF files; name one, such as org/name:m-q2_k.gguf. It has m-q2_k.gguf, m-q8_0.gguf.",
    );
  });

  it("does not take Q4_K for Q4_K_M", () => {
    expect(refused(GGUFS, "Q4_K").code).toBe("NOT_FOUND");
  });

  it.each([
    ["a file that is not there", GGUFS, "m-q5_0.gguf", "NOT_FOUND", /m-q2_k\.gguf/],
    ["a split file with a missing part", [SPLIT[0]], undefined, "NOT_FOUND", /00002-of-00002/],
    ["other formats only", ["pytorch_model.bin", "config.json"], undefined, "UNSUPPORTED_MODEL", /pytorch_model\.bin/],
    ["an empty repository", [], undefined, "UNSUPPORTED_MODEL", /only nothing/],
  ])("refuses %s", (_what, paths, wanted, code, words) => {
    const error = refused(paths, wanted);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(words);
  });
});
