import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { SglangError } from "../../src/core/errors.js";
import { huggingFaceHub, modelScopeHub, type Unreachable } from "../../src/weights/hub.js";
import { huggingFaceServer, modelScopeServer } from "./hub-server.js";
import { bytes, gitSha1Hex, loopback, sendJson, sha256Hex, temporaryFolder } from "./loopback.js";

const FILES = {
  "config.json": Buffer.from('{"model_type":"llama"}'),
  "model.safetensors": bytes(500),
  "a dir/é+.txt": Buffer.from("x"),
};

async function failure(promise: Promise<unknown>): Promise<SglangError> {
  return promise.then(
    () => expect.fail("it should have failed"),
    (error: SglangError) => error,
  );
}

/** No token of this machine's user gets into a test. */
function env(more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { HF_HUB_DISABLE_IMPLICIT_TOKEN: "1", ...more };
}

describe("the Hugging Face hub", () => {
  it("lists a repository: commit first, then its tree, with sha256 of LFS files and git's digest of the others", async () => {
    const server = await huggingFaceServer(FILES);
    const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: `${server.url}/` }), unreachable: new Map() });
    const snapshot = await hub.snapshot("org/name");
    expect(server.seen.map((seen) => seen.url)).toEqual([
      "/api/models/org/name/revision/main?expand=sha",
      `/api/models/org/name/tree/${server.commit}?recursive=true`,
    ]);
    expect(snapshot.revision).toBe(server.commit);
    expect(snapshot.files).toEqual([
      {
        path: "config.json",
        size: 22,
        digest: { algorithm: "git-sha1", hex: gitSha1Hex(FILES["config.json"]) },
        url: `${server.url}/org/name/resolve/${server.commit}/config.json`,
      },
      {
        path: "model.safetensors",
        size: 500,
        digest: { algorithm: "sha256", hex: sha256Hex(FILES["model.safetensors"]) },
        url: `${server.url}/org/name/resolve/${server.commit}/model.safetensors`,
      },
      {
        path: "a dir/é+.txt",
        size: 1,
        digest: { algorithm: "git-sha1", hex: gitSha1Hex(FILES["a dir/é+.txt"]) },
        url: `${server.url}/org/name/resolve/${server.commit}/a%20dir/%C3%A9%2B.txt`,
      },
    ]);
  });

  it("follows a listing over its pages", async () => {
    const server = await huggingFaceServer(FILES, { pageSize: 1 });
    const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable: new Map() });
    expect((await hub.snapshot("org/name")).files.map((file) => file.path)).toEqual(Object.keys(FILES));
    expect(server.seen.length).toBe(5);
  });

  it("sends the token of HF_TOKEN, or of the login file, or none", async () => {
    const home = temporaryFolder();
    writeFileSync(join(home, "token"), "from-file\n");
    for (const [variables, header] of [
      [{ HF_TOKEN: "from-env", HF_HOME: home }, "Bearer from-env"],
      [{ HF_HOME: home }, "Bearer from-file"],
      [{ HF_HOME: home, HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" }, undefined],
    ] as const) {
      const server = await huggingFaceServer(FILES);
      const hub = huggingFaceHub({ env: { HF_ENDPOINT: server.url, ...variables }, unreachable: new Map() });
      const snapshot = await hub.snapshot("org/name");
      expect(server.seen.map((seen) => seen.headers.authorization)).toEqual([header, header]);
      expect(snapshot.headers.authorization).toBe(header);
    }
  });

  it.each(["org/unknown", "private/name"])("says what to check when it has no %s", async (repo) => {
    const server = await huggingFaceServer(FILES);
    const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable: new Map() });
    const error = await failure(hub.snapshot(repo));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toContain(repo);
    expect(error.message).toContain("HF_TOKEN");
  });

  it("is not asked again in this run once it was unreachable", async () => {
    const unreachable: Unreachable = new Map();
    let asked = 0;
    const fetch = () => {
      asked++;
      const cause = Object.assign(new Error("getaddrinfo ENOTFOUND hub.invalid"), { code: "ENOTFOUND" });
      return Promise.reject(new TypeError("fetch failed", { cause }));
    };
    const context = {
      env: env({ HF_ENDPOINT: "http://hub.invalid" }),
      unreachable,
      fetch: fetch as typeof globalThis.fetch,
    };
    const first = await failure(huggingFaceHub(context).snapshot("org/name"));
    const second = await failure(huggingFaceHub(context).snapshot("org/other"));
    expect(asked).toBe(1);
    expect(first.code).toBe("DOWNLOAD_FAILED");
    expect(first.message).toBe("Hugging Face: unreachable (getaddrinfo ENOTFOUND hub.invalid)");
    expect(second.message).toBe(first.message);
  });

  it("counts as unreachable when it does not answer in time", async () => {
    const server = await loopback(() => {});
    const unreachable: Unreachable = new Map();
    const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable, firstContactMs: 100 });
    const error = await failure(hub.snapshot("org/name"));
    expect(error.message).toBe("Hugging Face: unreachable (no answer for 0.1 s)");
    expect([...unreachable.keys()]).toEqual([server.url]);
  });

  it("lets a caller's abort through instead of calling the hub unreachable", async () => {
    const server = await loopback(() => {});
    const unreachable: Unreachable = new Map();
    const stop = new AbortController();
    const asking = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable, signal: stop.signal }).snapshot(
      "o/n",
    );
    await expect.poll(() => server.seen.length).toBe(1);
    stop.abort();
    await expect(asking).rejects.toThrow(/abort/i);
    expect(unreachable.size).toBe(0);
  });

  it.each(["../../evil", "/etc/passwd", "a/../../b", "a\\b", "C:/x", "a//b", "x\0y", "."])(
    "refuses a listing with the path %j",
    async (path) => {
      const server = await loopback((request, response) =>
        request.url?.includes("/tree/")
          ? sendJson(response, [{ type: "file", oid: "0".repeat(40), size: 1, path }])
          : sendJson(response, { sha: "0".repeat(40) }),
      );
      const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable: new Map() });
      const error = await failure(hub.snapshot("org/name"));
      expect(error.code).toBe("DOWNLOAD_FAILED");
      expect(error.message).toContain("leaves its folder");
    },
  );

  it("refuses a listing that goes on at another host, where the token would go", async () => {
    const server = await loopback((request, response) =>
      request.url?.includes("/tree/")
        ? sendJson(response, [], { link: '<http://elsewhere.invalid/next>; rel="next"' })
        : sendJson(response, { sha: "0".repeat(40) }),
    );
    const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable: new Map() });
    expect((await failure(hub.snapshot("org/name"))).message).toContain("elsewhere.invalid");
  });

  it.each([
    ["<html>Please log in</html>", "not JSON"],
    ['{"sha": 7}', "sha"],
  ])("says so when the answer is %s", async (body, words) => {
    const server = await loopback((_request, response) => response.writeHead(200).end(body));
    const hub = huggingFaceHub({ env: env({ HF_ENDPOINT: server.url }), unreachable: new Map() });
    const error = await failure(hub.snapshot("org/name"));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain(words);
  });
});

describe("ModelScope", () => {
  it("lists the blobs of a repository at master, with their sha256", async () => {
    const server = await modelScopeServer(FILES);
    const hub = modelScopeHub({ env: { MODELSCOPE_DOMAIN: server.url }, unreachable: new Map() });
    const snapshot = await hub.snapshot("org/name");
    expect(server.seen[0].url).toBe("/api/v1/models/org/name/repo/files?Revision=master&Recursive=True");
    expect(snapshot.files.map((file) => file.path)).toEqual(Object.keys(FILES));
    expect(snapshot.files[1]).toEqual({
      path: "model.safetensors",
      size: 500,
      digest: { algorithm: "sha256", hex: sha256Hex(FILES["model.safetensors"]) },
      url: `${server.url}/api/v1/models/org/name/repo?Revision=master&FilePath=model.safetensors`,
    });
  });

  it("sends MODELSCOPE_API_TOKEN as its session cookie", async () => {
    const server = await modelScopeServer(FILES);
    const hub = modelScopeHub({
      env: { MODELSCOPE_DOMAIN: server.url, MODELSCOPE_API_TOKEN: "t" },
      unreachable: new Map(),
    });
    const snapshot = await hub.snapshot("org/name");
    expect(server.seen[0].headers.cookie).toBe("m_session_id=t");
    expect(snapshot.headers.cookie).toBe("m_session_id=t");
  });

  it("takes MODELSCOPE_DOMAIN without a scheme as https", () => {
    expect(modelScopeHub({ env: { MODELSCOPE_DOMAIN: "www.modelscope.ai" } }).endpoint).toBe(
      "https://www.modelscope.ai",
    );
    expect(modelScopeHub({ env: {} }).endpoint).toBe("https://www.modelscope.cn");
  });

  it("passes on its reason when an answer carries an error code", async () => {
    const server = await loopback((_request, response) =>
      sendJson(response, { Code: 404, Success: false, Message: "no such model" }),
    );
    const hub = modelScopeHub({ env: { MODELSCOPE_DOMAIN: server.url }, unreachable: new Map() });
    const error = await failure(hub.snapshot("org/name"));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toContain("no such model");
  });
});
