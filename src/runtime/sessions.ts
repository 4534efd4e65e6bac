/**
 * Sessions: requests that continue earlier ones by name, so that a client sends only what is new. SGLang's semantics: a
 * session is a tree of requests, and a request grows from any finished one, cut at a token offset if wanted.
 *
 * A session keeps token ids only. The keys and values of its requests are ordinary cached prefixes, found again through
 * the radix tree; when they were evicted meanwhile they are computed again and the answer is the same.
 */
import { randomUUID } from "node:crypto";
import { SglangError } from "../core/errors.js";
import type { SessionOptions, SessionParams } from "../core/protocol.js";
import type { Req } from "./request.js";

/** Open sessions beyond this are refused: clients that forget to close them must not fill the memory. */
const MAX_SESSIONS = 4096;

/** One request of a session. */
export class SessionNode {
  readonly rid: string;
  readonly children: SessionNode[] = [];
  /** The request while it runs; null before it is queued and after its end. */
  #req: Req | null = null;
  #ids: Int32Array = new Int32Array();
  #promptLength = 0;
  #abort: (() => void) | null = null;
  isFinished = false;

  constructor(rid: string) {
    this.rid = rid;
  }

  /** The request was queued. `abort` ends it early. */
  started(req: Req, abort: () => void): void {
    this.#req = req;
    this.#abort = abort;
    this.#promptLength = req.promptLength;
  }

  /** The request has ended, one way or the other. */
  ended(): void {
    if (this.#req) this.#ids = this.#req.ids.slice();
    this.#req = null;
    this.#abort = null;
    this.isFinished = true;
  }

  /** Aborts the request where it still runs. */
  abort(): void {
    this.#abort?.();
  }

  get length(): number {
    return this.#req?.length ?? this.#ids.length;
  }

  /** Prompt, and output as far as there is any. */
  ids(withOutput: boolean): number[] {
    const ids = this.#req?.ids ?? this.#ids;
    return [...(withOutput ? ids : ids.subarray(0, this.#promptLength))];
  }
}

class Session {
  readonly id: string;
  readonly #nodes = new Map<string, SessionNode>();
  readonly #capacity: number;
  readonly #timer: NodeJS.Timeout | null;

  constructor(id: string, capacity: number, timer: NodeJS.Timeout | null) {
    this.id = id;
    this.#capacity = capacity;
    this.#timer = timer;
  }

  close(): void {
    if (this.#timer) clearTimeout(this.#timer);
  }

  add(params: SessionParams, rid: string, ids: readonly number[], bos: number | null): [number[], SessionNode] {
    this.#timer?.refresh();
    const parent = this.#parent(params);
    if (this.#nodes.has(rid))
      throw invalid(
        "rid",
        `rid ${JSON.stringify(rid)} is taken by an earlier request of session ${JSON.stringify(this.id)}.`,
      );
    const full = parent ? continued(parent, params, ids, bos) : [...ids];
    let kept = full.length;
    for (const node of this.#nodes.values()) kept += node.length;
    if (this.#capacity > 0 && kept > this.#capacity) {
      throw invalid(
        "session_params.id",
        `Session ${JSON.stringify(this.id)} would keep ${kept} tokens, more than its capacity of ${this.#capacity}; replace a branch, or open another session.`,
      );
    }
    const node = new SessionNode(rid);
    this.#nodes.set(rid, node);
    parent?.children.push(node);
    return [full, node];
  }

  /** A request that came to nothing before it was queued. */
  remove(node: SessionNode): void {
    if (this.#nodes.get(node.rid) === node) this.#nodes.delete(node.rid);
  }

  /** The request that is continued; null = a fresh start. What `replace` replaces is gone afterwards. */
  #parent({ rid, replace = false }: SessionParams): SessionNode | null {
    if (rid === undefined) {
      if (replace) for (const node of [...this.#nodes.values()]) this.#clear(node);
      return null;
    }
    const parent = this.#nodes.get(rid);
    if (!parent)
      throw invalid(
        "session_params.rid",
        `session_params.rid ${JSON.stringify(rid)} is no request of session ${JSON.stringify(this.id)}.`,
      );
    if (replace) {
      parent.abort();
      for (const child of parent.children.splice(0)) this.#clear(child);
    } else if (!parent.isFinished) {
      throw invalid(
        "session_params.rid",
        `Request ${JSON.stringify(rid)} has not finished; wait for it, or set session_params.replace.`,
      );
    }
    return parent;
  }

  #clear(root: SessionNode): void {
    // Not recursive: a conversation of many turns is a deep path.
    const left = [root];
    for (let node = left.pop(); node; node = left.pop()) {
      left.push(...node.children);
      node.abort();
      this.remove(node);
    }
  }
}

function continued(parent: SessionNode, params: SessionParams, ids: readonly number[], bos: number | null): number[] {
  const before = parent.ids(!params.dropPreviousOutput);
  // Tokenisers put it before every text, but this one does not begin here.
  const own = ids[0] === bos ? ids.slice(1) : ids;
  return [...(params.offset ? before.slice(0, params.offset) : before), ...own];
}

export class Sessions {
  readonly #sessions = new Map<string, Session>();

  get size(): number {
    return this.#sessions.size;
  }

  /** @throws SglangError INVALID_REQUEST when the id is taken, a number is out of range, or too many sessions are open */
  open({ id = randomUUID().replaceAll("-", ""), capacity = 0, timeoutSeconds }: SessionOptions = {}): string {
    if (this.#sessions.has(id)) throw invalid("session_id", `Session ${JSON.stringify(id)} is open already.`);
    if (!Number.isSafeInteger(capacity) || capacity < 0)
      throw invalid("capacity_of_str_len", `capacity_of_str_len must be an integer >= 0, got ${capacity}.`);
    if (timeoutSeconds !== undefined && !(timeoutSeconds > 0 && timeoutSeconds < 2 ** 31 / 1000))
      throw invalid("timeout", `timeout must be a number of seconds above 0, got ${timeoutSeconds}.`);
    if (this.#sessions.size >= MAX_SESSIONS)
      throw invalid("session_id", `${MAX_SESSIONS} sessions are open, which is the limit; close some.`);
    const timer = timeoutSeconds === undefined ? null : setTimeout(() => this.close(id), timeoutSeconds * 1000).unref();
    this.#sessions.set(id, new Session(id, capacity, timer));
    return id;
  }

  close(id: string): boolean {
    this.#sessions.get(id)?.close();
    return this.#sessions.delete(id);
  }

  closeAll(): void {
    for (const id of [...this.#sessions.keys()]) this.close(id);
  }

  /**
   * The whole prompt of a session's new request, and its place in the session.
   * @param bos id that tokenisers put before a text; null = none
   * @throws SglangError INVALID_REQUEST naming the field
   */
  add(params: SessionParams, rid: string, ids: readonly number[], bos: number | null): [number[], SessionNode] {
    return this.#session(params.id).add(params, rid, ids, bos);
  }

  /** Takes a request out that came to nothing before it was queued. */
  remove(id: string, node: SessionNode): void {
    this.#sessions.get(id)?.remove(node);
  }

  #session(id: string): Session {
    const session = this.#sessions.get(id);
    if (session) return session;
    throw invalid("session_params.id", `Session ${JSON.stringify(id)} is not open; open it with /open_session.`);
  }
}

function invalid(field: string, message: string): SglangError {
  return new SglangError("INVALID_REQUEST", message, { field });
}
