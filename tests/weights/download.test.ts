import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SglangError } from "../../src/core/errors.js";
import { sha256 } from "../../src/weights/digest.js";
import { type DownloadRequest, downloadFile } from "../../src/weights/download.js";
import { assertDiskSpace } from "../../src/weights/partial-file.js";
import type { DownloadProgress } from "../../src/weights/transfer.js";
import { bytes, cuttingServer, gitSha1Hex, loopback, serveFile, sha256Hex, temporaryFolder } from "./loopback.js";

const DATA = bytes(200_000);
const DIGEST = sha256(sha256Hex(DATA));

function request(url: string, folder: string, more: Partial<DownloadRequest> = {}): DownloadRequest {
  return {
    url: `${url}/model.gguf`,
    destination: join(folder, "model.gguf"),
    label: "model.gguf",
    backoffMs: 1,
    ...more,
  };
}

async function failure(promise: Promise<unknown>): Promise<SglangError> {
  return promise.then(
    () => expect.fail("it should have failed"),
    (error: SglangError) => error,
  );
}

/** What an interrupted run of ours leaves. */
function leavePartial(folder: string, data: Buffer, sidecar: Record<string, string | null>): void {
  writeFileSync(join(folder, "model.gguf.partial"), data);
  writeFileSync(join(folder, "model.gguf.partial.json"), JSON.stringify(sidecar));
}

describe("a download", () => {
  it("puts the whole file under its name, leaves nothing else, and reports progress up to the total", async () => {
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    const folder = temporaryFolder();
    const seen: DownloadProgress[] = [];
    await downloadFile(request(server.url, join(folder, "deep", "er"), { size: DATA.length, digest: DIGEST }), {
      onProgress: (progress) => seen.push(progress),
    });
    expect(readFileSync(join(folder, "deep", "er", "model.gguf")).equals(DATA)).toBe(true);
    expect(readdirSync(join(folder, "deep", "er"))).toEqual(["model.gguf"]);
    expect(seen.at(-1)).toEqual({ label: "model.gguf", phase: "download", received: DATA.length, total: DATA.length });
    const received = seen.map((progress) => progress.received);
    expect(received).toEqual([...received].sort((a, b) => a - b));
  });

  it("takes an empty file", async () => {
    const server = await loopback((req, res) => serveFile(req, res, Buffer.alloc(0)));
    const folder = temporaryFolder();
    const digest = sha256(sha256Hex(Buffer.alloc(0)));
    await downloadFile(request(server.url, folder, { size: 0, digest }));
    expect(readFileSync(join(folder, "model.gguf")).length).toBe(0);
  });

  it("checks the digest that git gives a blob", async () => {
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    const folder = temporaryFolder();
    const good = { algorithm: "git-sha1" as const, hex: gitSha1Hex(DATA) };
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: good }));
    const bad = { algorithm: "git-sha1" as const, hex: "0".repeat(40) };
    const error = await failure(
      downloadFile(request(server.url, temporaryFolder(), { size: DATA.length, digest: bad })),
    );
    expect(error.code).toBe("CHECKSUM_MISMATCH");
    expect(error.details.found).toBe(`git-sha1:${good.hex}`);
  });

  it("goes on where a run that failed stopped, and asks only for the rest", async () => {
    const folder = temporaryFolder();
    const { handler, onProgress } = cuttingServer(DATA, [50_000, 50_000]);
    const server = await loopback(handler);
    const wanted = request(server.url, folder, { size: DATA.length, digest: DIGEST, retries: 0 });
    const error = await failure(downloadFile(wanted, { onProgress }));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(existsSync(join(folder, "model.gguf"))).toBe(false);
    expect(readFileSync(join(folder, "model.gguf.partial")).equals(DATA.subarray(0, 50_000))).toBe(true);

    await downloadFile(wanted);
    expect(server.seen.length).toBe(3);
    expect(server.seen[2].headers.range).toBe("bytes=50000-");
    expect(server.seen[2].headers["if-range"]).toBe('"v1"');
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
    expect(readdirSync(folder)).toEqual(["model.gguf"]);
  });

  it("goes on with another server's bytes when the digest says that they are the same file", async () => {
    const folder = temporaryFolder();
    leavePartial(folder, DATA.subarray(0, 70_000), {
      digest: `sha256:${DIGEST.hex}`,
      url: "http://elsewhere/x",
      etag: '"other"',
    });
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }));
    expect(server.seen[0].headers.range).toBe("bytes=70000-");
    expect(server.seen[0].headers["if-range"]).toBeUndefined();
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("needs no request when every byte is already there", async () => {
    const folder = temporaryFolder();
    leavePartial(folder, DATA, { digest: `sha256:${DIGEST.hex}`, url: null, etag: null });
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }));
    expect(server.seen).toEqual([]);
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("starts again when the partial file belongs to another digest", async () => {
    const folder = temporaryFolder();
    leavePartial(folder, bytes(1000, 9), { digest: `sha256:${"0".repeat(64)}`, url: null, etag: null });
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }));
    expect(server.seen[0].headers.range).toBeUndefined();
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("without a digest, resumes by a strong ETag only", async () => {
    for (const [etag, range] of [
      ['"v1"', "bytes=1000-"],
      ['W/"v1"', undefined],
    ] as const) {
      const folder = temporaryFolder();
      const server = await loopback((req, res) => serveFile(req, res, DATA));
      leavePartial(folder, DATA.subarray(0, 1000), { digest: null, url: `${server.url}/model.gguf`, etag });
      await downloadFile(request(server.url, folder));
      expect(server.seen[0].headers.range).toBe(range);
      expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
    }
  });

  it("without a digest, takes the new file when the server's file has changed since", async () => {
    const folder = temporaryFolder();
    const server = await loopback((req, res) => serveFile(req, res, DATA, '"v2"'));
    leavePartial(folder, bytes(1000, 7), { digest: null, url: `${server.url}/model.gguf`, etag: '"v1"' });
    await downloadFile(request(server.url, folder));
    expect(server.seen[0].headers["if-range"]).toBe('"v1"');
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("starts again with a server that ignores Range", async () => {
    const folder = temporaryFolder();
    leavePartial(folder, DATA.subarray(0, 5000), { digest: `sha256:${DIGEST.hex}`, url: null, etag: null });
    const server = await loopback((_req, res) => res.writeHead(200, { "content-length": DATA.length }).end(DATA));
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }));
    expect(server.seen[0].headers.range).toBe("bytes=5000-");
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("starts again with a server that answers another range than asked for", async () => {
    const folder = temporaryFolder();
    leavePartial(folder, DATA.subarray(0, 5000), { digest: `sha256:${DIGEST.hex}`, url: null, etag: null });
    const server = await loopback((req, res, index) => {
      if (index > 0) return serveFile(req, res, DATA);
      res
        .writeHead(206, { "content-range": `bytes 0-9/${DATA.length}`, "content-length": 10 })
        .end(DATA.subarray(0, 10));
    });
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }));
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("starts again after 416, when the server's file is shorter than what is kept", async () => {
    const folder = temporaryFolder();
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    leavePartial(folder, bytes(DATA.length + 10), { digest: null, url: `${server.url}/model.gguf`, etag: '"v1"' });
    await downloadFile(request(server.url, folder));
    expect(server.seen.map((seen) => seen.headers.range)).toEqual([`bytes=${DATA.length + 10}-`, undefined]);
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("removes a file with a wrong checksum and says what was expected and found", async () => {
    const folder = temporaryFolder();
    const server = await loopback((req, res) => serveFile(req, res, bytes(DATA.length, 2)));
    const error = await failure(downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST })));
    expect(error.code).toBe("CHECKSUM_MISMATCH");
    expect(error.details.expected).toBe(`sha256:${DIGEST.hex}`);
    expect(error.details.found).toBe(`sha256:${sha256Hex(bytes(DATA.length, 2))}`);
    expect(error.message).toContain(DIGEST.hex);
    expect(readdirSync(folder)).toEqual([]);
  });

  it("fetches once more from the start when the part kept from an earlier run was damaged", async () => {
    const folder = temporaryFolder();
    leavePartial(folder, bytes(5000, 3), { digest: `sha256:${DIGEST.hex}`, url: null, etag: null });
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    const messages: string[] = [];
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }), {
      onMessage: (line) => messages.push(line),
    });
    expect(server.seen.map((seen) => seen.headers.range)).toEqual(["bytes=5000-", undefined]);
    expect(messages[0]).toContain("damaged");
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("refuses a file of another length before fetching it", async () => {
    const folder = temporaryFolder();
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    const error = await failure(downloadFile(request(server.url, folder, { size: 123, digest: DIGEST })));
    expect(error.code).toBe("CHECKSUM_MISMATCH");
    expect(error.details).toMatchObject({ expected: "123 bytes", found: `${DATA.length} bytes` });
    expect(readdirSync(folder)).toEqual([]);
  });

  it("stops a body that is longer than the file can be", async () => {
    const folder = temporaryFolder();
    const server = await loopback((_req, res) => res.writeHead(200).end(DATA)); // chunked: no length stated
    const error = await failure(downloadFile(request(server.url, folder, { size: 1000, digest: DIGEST })));
    expect(error.code).toBe("CHECKSUM_MISMATCH");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("tries again after each cut, from where it was cut, as long as new bytes come", async () => {
    const folder = temporaryFolder();
    const { handler, onProgress } = cuttingServer(DATA, [30_000, 60_000, 90_000]);
    const server = await loopback(handler);
    const messages: string[] = [];
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST, retries: 0 }), {
      onProgress,
      onMessage: (line) => messages.push(line),
    });
    expect(server.seen.map((seen) => seen.headers.range)).toEqual([
      undefined,
      "bytes=30000-",
      "bytes=60000-",
      "bytes=90000-",
    ]);
    expect(messages.length).toBe(3);
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("gives up on a server that keeps cutting without a new byte, keeps what came, and says why", async () => {
    const folder = temporaryFolder();
    const { handler, onProgress } = cuttingServer(DATA, [40_000, 40_000, 40_000, 40_000, 40_000]);
    const server = await loopback(handler);
    const wanted = request(server.url, folder, { size: DATA.length, digest: DIGEST, retries: 2 });
    const error = await failure(downloadFile(wanted, { onProgress }));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toMatch(/^model\.gguf could not be fetched from 127\.0\.0\.1:\d+: .+\.$/);
    expect(server.seen.length).toBe(4);
    expect(readFileSync(join(folder, "model.gguf.partial")).length).toBe(40_000);
  });

  it.each([
    [401, "private or does not exist"],
    [403, "gated"],
    [404, "does not have it"],
    [418, "HTTP 418"],
  ])("does not repeat a request that was answered %i", async (status, words) => {
    const folder = temporaryFolder();
    const server = await loopback((_req, res) => res.writeHead(status).end("no"));
    const error = await failure(downloadFile(request(server.url, folder)));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain(words);
    expect(server.seen.length).toBe(1);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([429, 500, 503])("repeats a request that was answered %i", async (status) => {
    const folder = temporaryFolder();
    const server = await loopback((req, res, index) =>
      index === 0 ? res.writeHead(status, { "retry-after": "0" }).end() : serveFile(req, res, DATA),
    );
    await downloadFile(request(server.url, folder, { digest: DIGEST }));
    expect(server.seen.length).toBe(2);
  });

  it("repeats a request whose headers or body do not come in time", async () => {
    const folder = temporaryFolder();
    const server = await loopback((req, res, index) => {
      if (index === 0) return; // never answers
      if (index === 1) {
        res.writeHead(200, { etag: '"v1"', "content-length": DATA.length });
        res.write(DATA.subarray(0, 1000)); // and then nothing
        return;
      }
      serveFile(req, res, DATA);
    });
    const messages: string[] = [];
    await downloadFile(
      request(server.url, folder, { size: DATA.length, digest: DIGEST, headerTimeoutMs: 150, idleTimeoutMs: 150 }),
      {
        onMessage: (line) => messages.push(line),
      },
    );
    expect(messages[0]).toContain("no answer");
    expect(messages[1]).toContain("stalled");
    expect(server.seen[2].headers.range).toBe("bytes=1000-");
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("ends with ABORTED when its caller stops it, and the next call goes on", async () => {
    const folder = temporaryFolder();
    const server = await loopback((req, res, index) => {
      if (index > 0) return serveFile(req, res, DATA);
      res.writeHead(200, { etag: '"v1"', "content-length": DATA.length });
      res.write(DATA.subarray(0, 60_000));
    });
    const stop = new AbortController();
    const error = await failure(
      downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }), {
        signal: stop.signal,
        onProgress: ({ received }) => received >= 60_000 && stop.abort(),
      }),
    );
    expect(error.code).toBe("ABORTED");
    expect(readFileSync(join(folder, "model.gguf.partial")).equals(DATA.subarray(0, 60_000))).toBe(true);
    await downloadFile(request(server.url, folder, { size: DATA.length, digest: DIGEST }));
    expect(server.seen[1].headers.range).toBe("bytes=60000-");
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("stops at once when its caller does, even while a read hangs that fetch does not end", async () => {
    const stop = new AbortController();
    const fetch: typeof globalThis.fetch = async () => {
      const body = new ReadableStream<Uint8Array>({ start: (controller) => controller.enqueue(bytes(10)) });
      return new Response(body, { headers: { "content-length": "20" } });
    };
    const started = downloadFile(request("http://127.0.0.1:9/file", temporaryFolder()), {
      fetch,
      signal: stop.signal,
      onProgress: ({ received }) => received === 10 && setImmediate(() => stop.abort()),
    });
    expect((await failure(started)).code).toBe("ABORTED");
  });

  it("makes no request when its signal is aborted already", async () => {
    const server = await loopback((req, res) => serveFile(req, res, DATA));
    const error = await failure(downloadFile(request(server.url, temporaryFolder()), { signal: AbortSignal.abort() }));
    expect(error.code).toBe("ABORTED");
    expect(server.seen).toEqual([]);
  });

  it("follows a redirect to another host without taking the token there", async () => {
    const folder = temporaryFolder();
    const store = await loopback((req, res) => serveFile(req, res, DATA));
    const hub = await loopback((_req, res) => res.writeHead(302, { location: `${store.url}/blob` }).end());
    await downloadFile(
      request(hub.url, folder, { digest: DIGEST, headers: { authorization: "Bearer secret", cookie: "m=secret" } }),
    );
    expect(hub.seen[0].headers.authorization).toBe("Bearer secret");
    expect(store.seen[0].headers.authorization).toBeUndefined();
    expect(store.seen[0].headers.cookie).toBeUndefined();
    expect(readFileSync(join(folder, "model.gguf")).equals(DATA)).toBe(true);
  });

  it("says how much room is missing on a full disk", async () => {
    const error = await failure(assertDiskSpace("/models", 5_000_000_000, async () => 1_000_000_000));
    expect(error.code).toBe("DOWNLOAD_FAILED");
    expect(error.message).toContain("1.0 GB free but 5.0 GB are needed");
    await assertDiskSpace("/models", 1000, async () => 1000);
  });

  it("gives the same bytes wherever the connection is cut, and however often", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 20_000 }),
        fc.array(fc.nat(), { maxLength: 5 }),
        async (length, cuts) => {
          const data = bytes(length, length);
          const folder = temporaryFolder();
          const { handler, onProgress } = cuttingServer(
            data,
            cuts.map((cut) => cut % length).sort((a, b) => a - b),
          );
          const server = await loopback(handler);
          const wanted = request(server.url, folder, { size: length, digest: sha256(sha256Hex(data)), retries: 6 });
          await downloadFile(wanted, { onProgress });
          expect(readFileSync(join(folder, "model.gguf")).equals(data)).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
  });
});
