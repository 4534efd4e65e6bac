import { afterEach, describe, expect, it } from "vitest";
import { logger, setLogLevel } from "../../src/core/logger.js";

describe("setLogLevel", () => {
  const before = logger.level;
  afterEach(() => setLogLevel(before));

  it.each([
    ["debug", "debug"],
    ["WARNING", "warn"],
    ["critical", "fatal"],
    ["silent", "silent"],
  ])("takes %s as %s", (name, level) => {
    setLogLevel(name);
    expect(logger.level).toBe(level);
  });

  it.runIf(!process.env.SGLANG_LOG_LEVEL)("starts at warn: a program that uses the engine owns its terminal", () => {
    expect(before).toBe("warn");
  });

  it("names what it takes when the level is unknown", () => {
    expect(() => setLogLevel("loud")).toThrow(/--log-level must be one of trace, debug, info, .*got "loud"/);
  });
});
