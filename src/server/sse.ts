/**
 * Server-sent events with bounded memory.
 *
 * Nothing is sent before the first event, so an error before it is still an ordinary HTTP error. Events of one tick
 * leave in one write. A slow reader makes `send` return a promise: who awaits it adds at most one event per producer to
 * the socket's own buffer, and other connections are not held up.
 */
import type { FastifyReply } from "fastify";

/** Buffered characters that are written without waiting for the end of the tick. */
const FLUSH_AT = 64 * 1024;

export class SseStream {
  readonly #reply: FastifyReply;
  #buffer = "";
  #scheduled: NodeJS.Immediate | null = null;
  #drained: Promise<void> | null = null;

  constructor(reply: FastifyReply) {
    this.#reply = reply;
  }

  /** true once an event was sent: from then on errors must be events. */
  get opened(): boolean {
    return this.#reply.sent;
  }

  /** Queues one event. A returned promise resolves when the client has caught up (or has gone). */
  send(data: unknown): Promise<void> | undefined {
    if (this.#reply.raw.destroyed) return undefined;
    if (!this.#reply.sent) this.#open();
    this.#buffer += `data: ${JSON.stringify(data)}\n\n`;
    if (this.#buffer.length >= FLUSH_AT) this.#flush();
    else this.#scheduled ??= setImmediate(() => this.#flush());
    return this.#drained ?? undefined;
  }

  /** Sends `data: [DONE]` and ends the reply. */
  end(): void {
    if (this.#reply.raw.destroyed) return;
    if (!this.#reply.sent) this.#open();
    this.#buffer += "data: [DONE]\n\n";
    this.#flush();
    this.#reply.raw.end();
  }

  #flush(): void {
    if (this.#scheduled) clearImmediate(this.#scheduled);
    this.#scheduled = null;
    const { raw } = this.#reply;
    if (this.#buffer === "" || raw.destroyed) return;
    const chunk = this.#buffer;
    this.#buffer = "";
    if (raw.write(chunk) || this.#drained) return;
    this.#drained = new Promise<void>((resolve) => {
      const done = () => {
        raw.off("drain", done).off("close", done);
        this.#drained = null;
        resolve();
      };
      raw.on("drain", done).on("close", done);
    });
  }

  #open(): void {
    this.#reply.hijack();
    this.#reply.raw.writeHead(200, {
      ...(this.#reply.getHeaders() as Record<string, string>),
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      // Asks reverse proxies to pass events on as they come.
      "x-accel-buffering": "no",
    });
  }
}
