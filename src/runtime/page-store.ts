/** The {@link PageStore} over the native KV pool. */
import type { NativeHandles } from "../models/load.js";
import type { NativeKvBlock, NativeKvPool } from "../native/addon.js";
import type { PageBlock, PageStore } from "./kv-tier.js";

class NativeBlock implements PageBlock {
  readonly block: NativeKvBlock;
  readonly #native: NativeHandles;

  constructor(native: NativeHandles, kv: NativeKvPool) {
    this.#native = native;
    this.block = native.addon.createKvBlock(kv);
  }

  view(): Uint8Array {
    return this.#native.addon.kvBlockView(this.block);
  }

  close(): void {
    this.#native.addon.closeKvBlock(this.block);
  }
}

export class NativePageStore implements PageStore {
  readonly pageBytes: number;
  readonly #native: NativeHandles;
  readonly #kv: NativeKvPool;

  constructor(native: NativeHandles, kv: NativeKvPool) {
    this.#native = native;
    this.#kv = kv;
    this.pageBytes = native.addon.kvBlockBytes(kv);
  }

  createBlock(): PageBlock {
    return new NativeBlock(this.#native, this.#kv);
  }

  save(pages: readonly number[], blocks: readonly PageBlock[]): Promise<void> {
    const { addon, runtime } = this.#native;
    return addon.saveKvPages(runtime, this.#kv, Int32Array.from(pages), handles(blocks));
  }

  load(pages: readonly number[], blocks: readonly PageBlock[]): Promise<void> {
    const { addon, runtime } = this.#native;
    return addon.loadKvPages(runtime, this.#kv, Int32Array.from(pages), handles(blocks));
  }
}

const handles = (blocks: readonly PageBlock[]) => (blocks as readonly NativeBlock[]).map(({ block }) => block);
