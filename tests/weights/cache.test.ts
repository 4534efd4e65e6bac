import { existsSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { cacheFolders, envFlag, isIntact, withLock, writeStamp } from "../../src/weights/cache.js";
import { bytes, sha256Hex, temporaryFolder } from "./loopback.js";

describe("cache folders", () => {
  const home = homedir();
  const cache = join(home, ".cache");
  const cases: [string, NodeJS.ProcessEnv, Partial<ReturnType<typeof cacheFolders>>][] = [
    [
      "defaults",
      {},
      {
        models: join(cache, "sglang-ts", "models"),
        hub: join(cache, "huggingface", "hub"),
        modelscope: join(cache, "modelscope", "hub"),
      },
    ],
    ["XDG_CACHE_HOME", { XDG_CACHE_HOME: "/x" }, { models: "/x/sglang-ts/models", hub: "/x/huggingface/hub" }],
    ["a relative XDG_CACHE_HOME", { XDG_CACHE_HOME: "x" }, { models: join(cache, "sglang-ts", "models") }],
    [
      "SGLANG_HOME over XDG",
      { SGLANG_HOME: "/s", XDG_CACHE_HOME: "/x" },
      { models: "/s/models", hub: "/x/huggingface/hub" },
    ],
    ["~ in SGLANG_HOME", { SGLANG_HOME: "~/s" }, { models: join(home, "s", "models") }],
    ["HF_HOME", { HF_HOME: "/h" }, { hub: "/h/hub", models: join(cache, "sglang-ts", "models") }],
    ["HF_HUB_CACHE over HF_HOME", { HF_HOME: "/h", HF_HUB_CACHE: "/c" }, { hub: "/c" }],
    ["MODELSCOPE_CACHE", { MODELSCOPE_CACHE: "/m" }, { modelscope: "/m" }],
  ];
  it.each(cases)("follow %s", (_what, env, expected) => {
    const absolute = Object.fromEntries(Object.entries(expected).map(([key, path]) => [key, resolve(path)]));
    expect(cacheFolders({ env })).toMatchObject(absolute);
  });

  it("all lie in an explicit folder when one is given", () => {
    const root = resolve("/d");
    expect(cacheFolders({ cacheDir: "/d", env: { SGLANG_HOME: "/s", HF_HOME: "/h" } })).toEqual({
      models: join(root, "models"),
      hub: join(root, "hub"),
      modelscope: join(root, "modelscope"),
    });
  });

  it.each([
    ["1", true],
    ["true", true],
    ["YES", true],
    ["0", false],
    ["", false],
    [undefined, false],
  ])("read the switch %j as %s", (value, on) => {
    expect(envFlag(value)).toBe(on);
  });
});

describe("a finished file", () => {
  const data = bytes(1000);
  const expected = { size: data.length, sha256: sha256Hex(data) };

  function file(content: Buffer = data): string {
    const path = join(temporaryFolder(), "m.gguf");
    writeFileSync(path, content);
    return path;
  }

  it("that somebody put there is hashed once and stamped", async () => {
    const path = file();
    let hashed = 0;
    const count = { onProgress: () => hashed++ };
    expect(await isIntact(path, expected, count)).toBe(true);
    expect(hashed).toBeGreaterThan(0);
    hashed = 0;
    expect(await isIntact(path, expected, count)).toBe(true);
    expect(hashed).toBe(0);
  });

  it("is trusted by size, time and stamp, and hashed when asked to in full", async () => {
    const path = file();
    await writeStamp(path, expected.sha256);
    const { atime, mtime } = statSync(path);
    writeFileSync(path, bytes(1000, 2)); // another content...
    utimesSync(path, atime, mtime);
    const { mtimeMs } = statSync(path);
    const stampPath = join(path, "..", ".sglang-ts.json");
    const stamps = JSON.parse(readFileSync(stampPath, "utf8"));
    stamps.files["m.gguf"].mtimeMs = mtimeMs; // ...behind an unchanged time
    writeFileSync(stampPath, JSON.stringify(stamps));
    expect(await isIntact(path, expected)).toBe(true);
    expect(await isIntact(path, expected, {}, true)).toBe(false);
    expect(await isIntact(path, expected)).toBe(false); // the stamp now tells the truth
  });

  it("is hashed again when its time changed", async () => {
    const path = file();
    await writeStamp(path, expected.sha256);
    writeFileSync(path, bytes(1000, 2));
    utimesSync(path, new Date(0), new Date(1000));
    expect(await isIntact(path, expected)).toBe(false);
  });

  it.each([
    ["is missing", (path: string) => join(path, "nothing")],
    ["has another size", () => file(bytes(999))],
    ["is a folder", (path: string) => join(path, "..")],
  ])("is not intact when it %s", async (_what, change) => {
    expect(await isIntact(change(file()), expected)).toBe(false);
  });

  it("is hashed again when the stamp file is garbage", async () => {
    const path = file();
    writeFileSync(join(path, "..", ".sglang-ts.json"), "{not json");
    expect(await isIntact(path, expected)).toBe(true);
  });

  it("keeps its stamp while many files of one folder are stamped at once", async () => {
    const folder = temporaryFolder();
    const names = Array.from({ length: 20 }, (_, i) => join(folder, `f${i}`));
    for (const name of names) writeFileSync(name, data);
    await Promise.all(names.map((name) => writeStamp(name, expected.sha256)));
    const stamps = JSON.parse(readFileSync(join(folder, ".sglang-ts.json"), "utf8"));
    expect(Object.keys(stamps.files).length).toBe(20);
  });
});

describe("the lock", () => {
  it("lets one at a time in, and tells the others what they wait for", async () => {
    const path = join(temporaryFolder(), "deep", "model");
    const messages: string[] = [];
    const order: string[] = [];
    let leave: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const first = withLock(path, "m", {}, async () => {
      order.push("first in");
      await gate;
      order.push("first out");
    });
    await expect.poll(() => order.length).toBe(1);
    const second = withLock(
      path,
      "m",
      {
        onMessage: (line) => {
          messages.push(line);
          leave();
        },
      },
      async () => order.push("second in"),
    );
    await Promise.all([first, second]);
    expect(order).toEqual(["first in", "first out", "second in"]);
    expect(messages).toEqual(["Another process is fetching m, waiting for it…"]);
    expect(existsSync(`${path}.lock`)).toBe(false);
  });

  it("is given back when the work fails", async () => {
    const path = join(temporaryFolder(), "model");
    await expect(withLock(path, "m", {}, () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    expect(await withLock(path, "m", {}, async () => "free")).toBe("free");
  });

  it("is not waited for by a caller that stops", async () => {
    const path = join(temporaryFolder(), "model");
    const stop = new AbortController();
    await withLock(path, "m", {}, async () => {
      const waiting = withLock(path, "m", { signal: stop.signal, onMessage: () => stop.abort() }, async () => "in");
      await expect(waiting).rejects.toThrow(/abort/i);
    });
  });

  it("of a process that died is taken over", async () => {
    const path = join(temporaryFolder(), "model");
    mkdirSync(`${path}.lock`);
    utimesSync(`${path}.lock`, new Date(0), new Date(0));
    expect(await withLock(path, "m", {}, async () => "in")).toBe("in");
  });
});
