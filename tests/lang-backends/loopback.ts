/**
 * A scripted HTTP server on the loopback. It keeps the requests it got, replies as it is told, writes event streams in
 * pieces that end anywhere (inside characters too), and notices clients that leave before the end.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Received {
  path: string;
  headers: IncomingMessage["headers"];
  // Bodies are looked into, not modelled.
  // biome-ignore lint/suspicious/noExplicitAny: see above
  body: any;
}

export interface Reply {
  /** @default 200 */
  status?: number;
  headers?: Record<string, string>;
  /** A whole reply. */
  json?: unknown;
  /** A whole reply that is not JSON. */
  text?: string;
  /** An event stream: the text of every event with its blank line. */
  events?: readonly string[];
  /** Leave the stream (or the reply) open after what there is. */
  hangs?: boolean;
  /** Cut the connection after what there is. */
  breaks?: boolean;
}

export class Loopback {
  readonly requests: Received[] = [];
  /** Requests whose client left before the reply was complete. */
  abandoned = 0;
  /** What to answer; set by the test. */
  reply: (request: Received) => Reply = () => ({ status: 500, json: { error: { message: "nothing scripted" } } });
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => void this.#handle(request, response));
  }

  async listen(): Promise<this> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get last(): Received {
    const last = this.requests.at(-1);
    if (!last) throw new Error("no request came");
    return last;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((done) => this.#server.close(() => done()));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const received = {
      path: request.url ?? "",
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
    };
    this.requests.push(received);
    response.on("close", () => {
      if (!response.writableFinished) this.abandoned += 1;
    });
    await write(response, this.reply(received));
  }
}

async function write(response: ServerResponse, reply: Reply): Promise<void> {
  const { status = 200, headers = {}, json, text, events, hangs = false, breaks = false } = reply;
  const type = events ? "text/event-stream" : json !== undefined ? "application/json" : "text/plain";
  response.writeHead(status, { "content-type": type, ...headers });
  if (events) {
    response.flushHeaders();
    for (const piece of pieces(Buffer.from(events.join(""), "utf8"))) {
      response.write(piece);
      await new Promise((next) => setImmediate(next));
    }
  }
  if (breaks) response.destroy();
  else if (!hangs) response.end(json !== undefined ? JSON.stringify(json) : text);
}

/** Lengths that fall inside fields, characters and line ends. */
const LENGTHS = [1, 7, 40, 3, 150, 2, 11];

export function pieces(bytes: Uint8Array, lengths: readonly number[] = LENGTHS): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const end = at + Math.max(1, lengths[i % lengths.length]);
    out.push(bytes.subarray(at, end));
    at = end;
  }
  return out;
}

/** A `fetch` that answers with a stream cut at exactly these lengths. */
export function cutFetch(reply: Reply, lengths: readonly number[]): typeof fetch {
  return async () => {
    const parts = pieces(new TextEncoder().encode((reply.events ?? []).join("")), lengths);
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const part = parts.shift();
        if (part) controller.enqueue(part);
        else controller.close();
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
}
