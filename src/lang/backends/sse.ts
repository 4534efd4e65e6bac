/**
 * Server-sent events, read as the HTML standard says: lines end in LF, CR LF or CR, a blank line ends an event, several
 * `data` lines are joined by LF, lines that begin with a colon are comments. What comes out depends on the bytes alone,
 * never on where the network cut them, not even inside a character or between CR and LF.
 */
import { SglangError } from "../../core/errors.js";

export interface SseEvent {
  /** The `event` field; "message" when the server named none. */
  event: string;
  data: string;
}

const LINE_END = /\r\n|\r|\n/g;
/** Most characters of one event. A reply with the logprobs of a full context stays far below. */
const MAX_EVENT_CHARS = 256 * 1024 * 1024;

/** Turns pieces of text into events. An event that the stream leaves unfinished is dropped, as the standard says. */
export class SseParser {
  #line = "";
  #event = "";
  #data: string[] = [];
  #size = 0;
  /** The last piece ended in CR: an LF that comes next belongs to it. */
  #afterCr = false;

  /** @throws SglangError ENGINE_FAILED when one event is longer than any reply can be */
  push(piece: string): SseEvent[] {
    const events: SseEvent[] = [];
    const text = this.#afterCr && piece.startsWith("\n") ? piece.slice(1) : piece;
    if (piece.length > 0) this.#afterCr = piece.endsWith("\r");
    let start = 0;
    for (const { index, 0: end } of text.matchAll(LINE_END)) {
      this.#endLine(this.#line + text.slice(start, index), events);
      this.#line = "";
      start = index + end.length;
    }
    this.#line += text.slice(start);
    if (this.#size + this.#line.length > MAX_EVENT_CHARS)
      throw new SglangError("ENGINE_FAILED", `The server sent an event of more than ${MAX_EVENT_CHARS} characters.`);
    return events;
  }

  #endLine(line: string, events: SseEvent[]): void {
    if (line === "") {
      if (this.#data.length > 0) events.push({ event: this.#event || "message", data: this.#data.join("\n") });
      this.#event = "";
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#event = value;
    else if (field === "data") {
      this.#data.push(value);
      this.#size += value.length;
    }
  }
}

/**
 * Events of a stream of UTF-8 bytes. Ending the iteration early cancels the stream, which closes its connection.
 * @throws whatever the stream fails with
 */
export async function* readSse(body: ReadableStream<Uint8Array>): AsyncGenerator<SseEvent, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  let ended = false;
  try {
    while (!ended) {
      const { done, value } = await reader.read();
      ended = done;
      yield* parser.push(decoder.decode(value, { stream: !done }));
    }
  } finally {
    // A stream that has failed rejects `cancel` with the error that is already on its way to the caller.
    if (!ended) await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}
