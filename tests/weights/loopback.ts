/** A scripted HTTP server on the loopback interface, and small helpers, for the download tests. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";

export interface Seen {
  method: string;
  url: string;
  headers: IncomingMessage["headers"];
}

export interface Loopback {
  /** `http://127.0.0.1:port` */
  url: string;
  /** Every request, in order. */
  seen: Seen[];
}

export type Handler = (request: IncomingMessage, response: ServerResponse, index: number) => void;

const cleanups: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** Starts a server that lives until the test ends. */
export async function loopback(handler: Handler): Promise<Loopback> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
    handler(request, response, seen.length - 1);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

/** A folder that is deleted when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "weights-test-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Bytes that look random and are the same in every run. */
export function bytes(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = state >>> 24;
  }
  return out;
}

export function sha256Hex(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

export function gitSha1Hex(data: Uint8Array): string {
  return createHash("sha1").update(`blob ${data.byteLength}\0`).update(data).digest("hex");
}

/** Serves `data` the way a good file server does: strong ETag, Range, If-Range. */
export function serveFile(request: IncomingMessage, response: ServerResponse, data: Buffer, etag = '"v1"'): void {
  const ifRange = request.headers["if-range"];
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
  if (range && (ifRange === undefined || ifRange === etag)) {
    const start = Number(range[1]);
    if (start >= data.length) {
      response.writeHead(416, { "content-range": `bytes */${data.length}` }).end();
      return;
    }
    response.writeHead(206, {
      etag,
      "content-length": data.length - start,
      "content-range": `bytes ${start}-${data.length - 1}/${data.length}`,
    });
    response.end(data.subarray(start));
    return;
  }
  response.writeHead(200, { etag, "content-length": data.length });
  response.end(data);
}

/**
 * A file server that cuts the connection: request `i` delivers up to byte `cuts[i]`, and is cut once the client has
 * reported that it took them (a client may drop what it has not read when the connection breaks). Later requests are served.
 */
export function cuttingServer(data: Buffer, cuts: readonly number[]) {
  let open: ServerResponse | null = null;
  let limit = 0;
  const handler: Handler = (request, response, index) => {
    if (index >= cuts.length) return serveFile(request, response, data);
    open = response;
    limit = cuts[index];
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const head = { etag: '"v1"', "content-length": data.length - start };
    const range = { ...head, "content-range": `bytes ${start}-${data.length - 1}/${data.length}` };
    response.writeHead(start > 0 ? 206 : 200, start > 0 ? range : head);
    response.write(data.subarray(start, limit), () => limit <= start && response.destroy());
  };
  const onProgress = ({ received }: { received: number }) => {
    if (received >= limit) open?.destroy();
  };
  return { handler, onProgress };
}

export function sendJson(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}
