// `npm run bench:radix-tree`: the radix tree alone, at a million cached tokens.
//   memory   bytes per cached token, token ids and page list included: JavaScript heap and array buffers
//   speed    match + insert of a prompt of 100,000 tokens whose first half is cached; and eviction of as much
// Trees: `few-shot` is 100 prompts of 2,000 tokens with 100 questions of 80 each (leaves short, much shared); `chats` is
// 500 conversations of 4 turns of 500 tokens, each turn inserted by itself; `documents` is 40 texts of 25,000 tokens.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { RadixCache } from "../dist/runtime/index.js";
import { median, printTable, quantile, writeResults } from "./record.mjs";

const TOKENS = 1_000_000;
const PROMPT = 100_000;
const RUNS = 21;
const LIMITS = { milliseconds: 5, bytesPerToken: 8 };

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc");
const memory = () => {
  gc();
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

let state = 12345;
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state % 151_936;
};
const fresh = (length) => Int32Array.from({ length }, random);
const join = (...parts) => {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
};

/** Prompts as they come, made one at a time. */
const TREES = {
  *"few-shot"() {
    for (let i = 0; i < 100; i++) {
      const examples = fresh(2000);
      for (let question = 0; question < 100; question++) yield join(examples, fresh(80));
    }
  },
  *chats() {
    for (let i = 0; i < 500; i++) {
      let chat = new Int32Array(0);
      for (let turn = 0; turn < 4; turn++) {
        chat = join(chat, fresh(500));
        yield chat;
      }
    }
  },
  *documents() {
    for (let i = 0; i < 40; i++) yield fresh(25_000);
  },
};

/** The part of KvPool that the tree sees, without its arrays. */
class Pages {
  #next = 0;
  #freed = [];
  free = (page) => this.#freed.push(page);
  take(count) {
    return Array.from({ length: count }, () => this.#freed.pop() ?? this.#next++);
  }
}

function insert(cache, pages, ids, pageSize) {
  const { pages: matched, node } = cache.matchPrefix(ids);
  cache.incLock(node);
  const count = Math.floor(ids.length / pageSize) - matched.length;
  cache.insert(ids, [...matched, ...pages.take(count)]);
  cache.decLock(node);
}

/** Pages that a tree takes at a page size. */
function pageCount(name, pageSize) {
  const pages = new Pages();
  const cache = new RadixCache({ pageSize, free: pages.free });
  for (const ids of TREES[name]()) insert(cache, pages, ids, pageSize);
  return cache.evictablePages;
}

function measure(name, pageSize) {
  const count = pageCount(name, pageSize);
  const pages = new Pages();
  const capacity = Math.ceil((TOKENS + 2 * PROMPT) / pageSize);
  const before = memory();
  // A little room: prompts that begin alike by chance are others the second time.
  const cache = new RadixCache({ pageSize, free: pages.free, pages: count + 128 });
  for (const ids of TREES[name]()) insert(cache, pages, ids, pageSize);
  const cached = cache.evictablePages * pageSize;
  const bytesPerToken = (memory() - before) / cached;

  const half = fresh(PROMPT / 2);
  insert(cache, pages, half, pageSize);
  const times = { matchInsert: [], evict: [] };
  for (let run = 0; run < RUNS; run++) {
    const ids = join(half, fresh(PROMPT / 2));
    const own = pages.take(PROMPT / pageSize);
    const started = performance.now();
    cache.matchPrefix(ids);
    const inserted = cache.insert(ids, own);
    times.matchInsert.push(performance.now() - started);
    cache.incLock(inserted.node);
    const excess = cache.evictablePages + cache.protectedPages + PROMPT / pageSize / 2 - capacity;
    const evicting = performance.now();
    if (excess > 0) cache.evict(excess);
    times.evict.push(performance.now() - evicting);
    cache.decLock(inserted.node);
  }
  return {
    tree: name,
    pageSize,
    cachedTokens: cached,
    bytesPerToken,
    matchInsertMs: median(times.matchInsert),
    matchInsertP95Ms: quantile(times.matchInsert, 0.95),
    evictMs: median(times.evict.filter((ms) => ms > 0)),
  };
}

measure("few-shot", 16); // Compiles.
const results = Object.keys(TREES).flatMap((name) => [1, 16, 32].map((pageSize) => measure(name, pageSize)));
const digits = (value, count) => value.toFixed(count);
printTable([
  ["tree", "page size", "cached tokens", "bytes/token", "match+insert 100k ms", "p95 ms", "evict ms"],
  ...results.map((r) => [
    r.tree,
    String(r.pageSize),
    String(r.cachedTokens),
    digits(r.bytesPerToken, 2),
    digits(r.matchInsertMs, 2),
    digits(r.matchInsertP95Ms, 2),
    digits(r.evictMs, 2),
  ]),
]);
console.log(
  `\nlimits at every page size: ${LIMITS.bytesPerToken} bytes per token, ${LIMITS.milliseconds} ms for match + insert`,
);
writeResults("radix-tree", "npm run bench:radix-tree", { limits: LIMITS, results });
