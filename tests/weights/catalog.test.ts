import { describe, expect, it } from "vitest";
import { CATALOG, DEFAULT_MODEL, findModel, modelSize, nearMisses } from "../../src/weights/catalog.js";

describe("the catalog", () => {
  it("gives every name and alias to one model only, in lower case", () => {
    const names = CATALOG.flatMap((model) => [model.name, ...model.aliases]);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(names.map((name) => name.toLowerCase()));
    for (const name of names) expect(name).not.toMatch(/[/\\:]/);
  });

  it.each(CATALOG.map((model) => [model.name, model] as const))("describes %s completely", (_name, model) => {
    expect(model.files.length).toBeGreaterThan(0);
    for (const file of model.files) {
      expect(file.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(file.size).toBeGreaterThan(0);
      expect(file.path).toMatch(/^(?:[\w.-]+\/)?[\w-][\w.-]*$/);
    }
    expect(model.files.length === 1).toBe(model.format === "gguf");
    expect(model.servable).toBe(model.unservableReason === undefined);
    expect(model.mirrors.map((mirror) => mirror.id)).toContain("huggingface");
    expect(new Set(model.mirrors.map((mirror) => mirror.id)).size).toBe(model.mirrors.length);
  });

  it("has Python packages whose members add up to exactly the model's files", () => {
    for (const model of CATALOG) {
      for (const mirror of model.mirrors) {
        if (mirror.id !== "pip") continue;
        const sums = new Map<string, number>();
        for (const { members } of mirror.packages) {
          for (const { target, size } of members) sums.set(target, (sums.get(target) ?? 0) + size);
        }
        expect(Object.fromEntries(sums)).toEqual(Object.fromEntries(model.files.map((file) => [file.path, file.size])));
      }
    }
  });

  it("can serve the model it loads by default", () => {
    expect(findModel(DEFAULT_MODEL)?.servable).toBe(true);
  });

  it.each([
    ["smollm2-135m", "smollm2-135m"],
    ["SmolLM2", "smollm2-135m"],
    ["Qwen2.5-Coder-0.5B-Instruct", "qwen2.5-coder-0.5b"],
    ["MiniLM", "all-minilm-l6-v2"],
    ["gpt-5", undefined],
    ["", undefined],
  ])("finds %j as %s", (spec, name) => {
    expect(findModel(spec)?.name).toBe(name);
  });

  it.each([
    ["smolm2-135m", "smollm2-135m"],
    ["qwen2.5-coder-0.5", "qwen2.5-coder-0.5b"],
    ["qwen", "qwen2.5-coder-0.5b"],
    ["gema3-270m", "gemma3-270m"],
  ])("suggests for %j first %s", (spec, name) => {
    expect(nearMisses(spec)[0]).toBe(name);
  });

  it.each(["", "x", "completely-unrelated-thing"])("suggests nothing for %j", (spec) => {
    expect(nearMisses(spec)).toEqual([]);
  });

  it("adds up a model's size", () => {
    expect(modelSize(findModel("smollm2-135m")!)).toBe(98_362_432);
  });
});
