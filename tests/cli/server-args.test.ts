import { Command } from "commander";
import { describe, expect, it } from "vitest";
import {
  addServerFlags,
  normalizeFlags,
  SERVER_FLAGS,
  splitOptions,
  UNSUPPORTED_FLAGS,
} from "../../src/cli/server-args.js";
import { SglangError } from "../../src/core/errors.js";

function parse(...argv: string[]) {
  const command = addServerFlags(new Command("serve"))
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.parse(normalizeFlags(argv), { from: "user" });
  return splitOptions(command.opts());
}

describe("server flags", () => {
  it("read the line SGLang users type", () => {
    const line =
      "--model-path m --is-embedding --host 0.0.0.0 --port 8080 --mem-fraction-static 0.7 --dtype bfloat16 --disable-cuda-graph --context-length 512";
    expect(parse(...line.split(" "))).toEqual({
      cli: { modelPath: "m" },
      server: { host: "0.0.0.0", port: 8080 },
      engine: {
        isEmbedding: true,
        memFractionStatic: 0.7,
        dtype: "bfloat16",
        disableCudaGraph: true,
        contextLength: 512,
      },
    });
  });

  it("leave out what was not given, so that defaults stay in one place", () => {
    expect(parse("--model-path", "m")).toEqual({ cli: { modelPath: "m" }, server: {}, engine: {} });
  });

  it("take --model for --model-path, with = too", () => {
    expect(parse("--model=m").cli).toEqual({ modelPath: "m" });
  });

  it.each([
    ["--port", "x"],
    ["--port", "-1"],
    ["--port", "1.5"],
    ["--mem-fraction-static", "1"],
    ["--mem-fraction-static", "0"],
    ["--dtype", "int3"],
    ["--schedule-policy", "best"],
    ["--preferred-sampling-params", "{"],
    ["--context-length", ""],
    ["--page-size", "0"],
  ])("refuse %s %j", (flag, value) => {
    expect(() => parse(flag, value)).toThrow(flag);
  });

  it.each(UNSUPPORTED_FLAGS.map(([prefix]) => prefix))("refuse SGLang's %s by name, with the reason", (prefix) => {
    const flag = prefix.endsWith("-") ? `${prefix}x` : prefix;
    let error: unknown;
    try {
      normalizeFlags([flag, "1"]);
    } catch (caught) {
      error = caught;
    }
    expect(SglangError.isInstance(error) && error.code).toBe("INVALID_ARGUMENT");
    expect((error as SglangError).message).toContain(`${flag} is not supported:`);
  });

  it("refuse a flag nobody knows and name the near one", () => {
    expect(() => parse("--prot", "1")).toThrow(/--port/);
  });

  it("have one row per flag, and none that is also refused", () => {
    const flags = SERVER_FLAGS.map((s) => s.flag);
    expect(new Set(flags).size).toBe(flags.length);
    expect(normalizeFlags(flags)).toEqual(flags);
  });
});
