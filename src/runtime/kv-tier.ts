/**
 * The second tier of the prefix cache: pages that left the KV pool (or will, with write_through) as opaque bytes in host
 * memory, and behind it, if a backend is configured, in files.
 *
 * A page is named by a digest of the model's identity, the namespace and all token ids up to its end, so whatever finds it
 * by its name may use it. Copies out of and into the pool run in the runner's queue: what is copied out before a step is
 * what the steps before it left, what is copied in is there for the steps after it; nothing waits for them.
 */
import { createHash } from "node:crypto";
import { logger } from "../core/logger.js";
import type { HicacheStats } from "../core/protocol.js";

export const WRITE_POLICIES = ["write_back", "write_through", "write_through_selective"] as const;
export type WritePolicy = (typeof WRITE_POLICIES)[number];
/** With write_through_selective: requests that must have found a prefix before it is copied. */
export const SELECTIVE_HITS = 2;

/** The bytes of one page outside of the pool. */
export interface PageBlock {
  /** Not a copy. Not while a copy of the block is queued. */
  view(): Uint8Array;
  close(): void;
}

/** What moves pages; the runner has one. */
export interface PageStore {
  readonly pageBytes: number;
  createBlock(): PageBlock;
  /** Queued like a step. */
  save(pages: readonly number[], blocks: readonly PageBlock[]): Promise<void>;
  load(pages: readonly number[], blocks: readonly PageBlock[]): Promise<void>;
}

/** Pages by name in slower, lasting storage. Failures are its own to report: a page that cannot be read is not there. */
export interface StorageTier {
  has(key: string): boolean;
  /** Fills `into`; false when the page is not there (any more) or is damaged. */
  read(key: string, into: Uint8Array): Promise<boolean>;
  write(key: string, bytes: Uint8Array): Promise<void>;
  /** Waits for writes under way. */
  close(): Promise<void>;
  readonly stats: StorageStats;
}

export type StorageStats = NonNullable<HicacheStats["storage"]>;

interface Entry {
  readonly block: PageBlock;
  /** The copy out of the pool; null when the bytes are there. */
  pending: Promise<void> | null;
  fromStorage: boolean;
}

export interface KvTierOptions {
  store: PageStore;
  /** Bytes of host memory; the least recently used pages go. */
  maxBytes: number;
  policy: WritePolicy;
  /** Of model, KV layout, dtype and page size: pages of another identity have other names. */
  identity: string;
  storage: StorageTier | null;
}

export class KvTier {
  readonly policy: WritePolicy;
  readonly #options: KvTierOptions;
  /** Least recently used first. */
  readonly #host = new Map<string, Entry>();
  readonly #reading = new Map<string, Promise<void>>();
  readonly #writing = new Set<Promise<void>>();
  #saved = 0;
  #loaded = 0;

  constructor(options: KvTierOptions) {
    this.#options = options;
    this.policy = options.policy;
  }

  get stats(): HicacheStats {
    return {
      hostPages: this.#host.size,
      hostBytes: this.#host.size * this.#options.store.pageBytes,
      savedPages: this.#saved,
      loadedPages: this.#loaded,
      storage: this.#options.storage?.stats ?? null,
    };
  }

  /** The name before the first page of a namespace. */
  rootKey(namespace: string): string {
    return createHash("sha256")
      .update(JSON.stringify([this.#options.identity, namespace]))
      .digest("base64url");
  }

  /** The name of the page with these ids that follows the page (or root) called `before`. */
  nextKey(before: string, ids: Int32Array): string {
    const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
    return createHash("sha256").update(before).update(bytes).digest("base64url");
  }

  /** Copies pages out of the pool, those that are not here yet. Their bytes may be overwritten by any step after this. */
  save(pages: readonly number[], keys: readonly string[]): void {
    const { store } = this.#options;
    const most = Math.floor(this.#options.maxBytes / store.pageBytes);
    const fresh: { page: number; key: string; block: PageBlock }[] = [];
    for (const [i, key] of keys.entries()) {
      const known = this.#host.get(key);
      if (known) {
        this.#host.delete(key);
        this.#host.set(key, known);
      } else if (fresh.length < most) {
        const block = this.#newBlock();
        if (block) fresh.push({ page: pages[i], key, block });
      }
    }
    if (fresh.length === 0) return;
    this.#makeRoom(most - fresh.length);
    this.#saved += fresh.length;
    const copied = store.save(
      fresh.map(({ page }) => page),
      fresh.map(({ block }) => block),
    );
    const entries = fresh.map(({ key, block }) => {
      const entry: Entry = { block, pending: null, fromStorage: false };
      this.#host.set(key, entry);
      return { key, entry };
    });
    const pending = copied.then(
      () => {
        for (const { key, entry } of entries) {
          entry.pending = null;
          if (this.policy !== "write_back" && this.#host.get(key) === entry) this.#persist(key, entry);
        }
      },
      (error: Error) => {
        logger.warn(`KV pages were not kept: ${error.message}`);
        for (const { key, entry } of entries) if (this.#host.get(key) === entry) this.#host.delete(key);
      },
    );
    for (const { entry } of entries) entry.pending = pending;
  }

  /** How many of the pages with these names, one after the other, can be had at once. */
  available(keys: Iterable<string>): number {
    let count = 0;
    for (const key of keys) {
      if (!this.#host.has(key)) break;
      count++;
    }
    return count;
  }

  /** Copies pages that are in host memory into the pool; returns how many of them had come from storage. */
  load(keys: readonly string[], pages: readonly number[]): number {
    let fromStorage = 0;
    const blocks = keys.map((key) => {
      const entry = this.#host.get(key) as Entry;
      this.#host.delete(key);
      this.#host.set(key, entry);
      if (entry.fromStorage) fromStorage++;
      entry.fromStorage = false;
      return entry.block;
    });
    this.#loaded += keys.length;
    // A copy that fails fails with the runtime, and so do the steps that would read the pages.
    this.#options.store.load(pages, blocks).catch(() => {});
    return fromStorage;
  }

  /**
   * Begins to read what follows in storage into host memory; null when there is nothing to wait for. Never rejects.
   * @param keys names of the pages that are wanted, in order
   */
  fetch(keys: readonly string[]): Promise<void> | null {
    const { storage, store, maxBytes } = this.#options;
    if (!storage) return null;
    const waits: Promise<void>[] = [];
    const most = Math.floor(maxBytes / store.pageBytes);
    for (const key of keys.slice(0, most)) {
      if (this.#host.has(key)) continue;
      if (!storage.has(key)) break;
      waits.push(this.#read(key, storage));
    }
    return waits.length === 0 ? null : Promise.all(waits).then(() => {});
  }

  get hasStorage(): boolean {
    return this.#options.storage !== null;
  }

  /** Forgets what is in host memory. */
  clearHost(): void {
    for (const { block } of this.#host.values()) block.close();
    this.#host.clear();
  }

  /** Writes what only host memory has to storage, then frees the memory. Copies under way must be able to end. */
  async close(): Promise<void> {
    await Promise.all([...this.#reading.values()]);
    for (const [key, entry] of this.#host) {
      await entry.pending;
      if (this.policy === "write_back") this.#persist(key, entry);
    }
    await Promise.all(this.#writing);
    for (const { block } of this.#host.values()) block.close();
    this.#host.clear();
    await this.#options.storage?.close();
  }

  #read(key: string, storage: StorageTier): Promise<void> {
    let reading = this.#reading.get(key);
    if (!reading) {
      reading = this.#readNow(key, storage).finally(() => this.#reading.delete(key));
      this.#reading.set(key, reading);
    }
    return reading;
  }

  async #readNow(key: string, storage: StorageTier): Promise<void> {
    const block = this.#newBlock();
    if (!block) return;
    if (!(await storage.read(key, block.view())) || this.#host.has(key)) {
      block.close();
      return;
    }
    this.#makeRoom(Math.floor(this.#options.maxBytes / this.#options.store.pageBytes) - 1);
    this.#host.set(key, { block, pending: null, fromStorage: true });
  }

  #newBlock(): PageBlock | null {
    try {
      return this.#options.store.createBlock();
    } catch (error) {
      logger.warn(`KV pages are not kept: ${(error as Error).message}`);
      return null;
    }
  }

  /** Lets the least recently used pages go until at most `pages` are left. */
  #makeRoom(pages: number): void {
    for (const [key, entry] of this.#host) {
      if (this.#host.size <= Math.max(0, pages)) return;
      this.#host.delete(key);
      if (this.policy === "write_back" && this.#options.storage) {
        // The bytes must be there before they can be written, and closed after.
        const settled = (entry.pending ?? Promise.resolve()).then(() => this.#write(key, entry));
        this.#track(settled.finally(() => entry.block.close()));
      } else {
        // Copies that are queued and views that are being written keep the bytes.
        entry.block.close();
      }
    }
  }

  #persist(key: string, entry: Entry): void {
    if (this.#options.storage) this.#track(this.#write(key, entry));
  }

  async #write(key: string, { block }: Entry): Promise<void> {
    const { storage } = this.#options;
    if (storage && !storage.has(key)) await storage.write(key, block.view());
  }

  #track(work: Promise<void>): void {
    const tracked = work.catch((error: Error) => logger.warn(`A KV page was not stored: ${error.message}`));
    this.#writing.add(tracked);
    void tracked.finally(() => this.#writing.delete(tracked));
  }
}
