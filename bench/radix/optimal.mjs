// Hit rates that no cache can beat, computed from a recorded run: each request is { prompt, output, limit } with token
// ids, in order of arrival; `limit` is the most prompt tokens that may come from a cache (the last must be computed).

/** Blocks of `pageSize` ids as nodes of a trie. */
class Trie {
  root = new Map();
  #pageSize;
  constructor(pageSize) {
    this.#pageSize = pageSize;
  }
  *blocks(ids, tokens) {
    for (let at = 0; at + this.#pageSize <= tokens; at += this.#pageSize)
      yield ids.slice(at, at + this.#pageSize).join();
  }
}

/**
 * Cached share of the prompt tokens with a cache that never forgets and is told of everything at once: what a request
 * computes is there for all that come after it.
 */
export function infiniteHitRate(requests, pageSize) {
  const trie = new Trie(pageSize);
  let cached = 0;
  let all = 0;
  for (const { prompt, output, limit } of requests) {
    all += prompt.length;
    let node = trie.root;
    for (const block of trie.blocks(prompt, limit)) {
      node = node.get(block);
      if (!node) break;
      cached += pageSize;
    }
    // The last output token has no keys and values.
    const ids = [...prompt, ...output];
    node = trie.root;
    for (const block of trie.blocks(ids, ids.length - 1)) {
      if (!node.has(block)) node.set(block, new Map());
      node = node.get(block);
    }
  }
  return all === 0 ? 0 : cached / all;
}

/**
 * The same with room for `capacity` pages and eviction that knows the future: the leaf whose next use is farthest goes
 * first (Belady's rule on a tree). Requests run one at a time, which favours the bound.
 */
export function boundedHitRate(requests, pageSize, capacity) {
  const nodes = new Map();
  const node = (path) => nodes.get(path);
  const paths = requests.map(({ prompt, output }) => {
    const ids = [...prompt, ...output];
    const list = [];
    let path = "";
    for (let at = 0; at + pageSize <= ids.length - 1; at += pageSize) {
      path += `|${ids.slice(at, at + pageSize).join()}`;
      list.push(path);
    }
    return list;
  });
  const uses = new Map();
  for (const [i, list] of paths.entries())
    for (const path of list) {
      if (!uses.has(path)) uses.set(path, []);
      uses.get(path).push(i);
    }
  let cached = 0;
  let all = 0;
  for (const [i, { prompt, limit }] of requests.entries()) {
    all += prompt.length;
    const list = paths[i];
    for (const [k, path] of list.entries()) {
      if ((k + 1) * pageSize > limit || !node(path)) break;
      cached += pageSize;
    }
    let parent = null;
    for (const path of list) {
      if (!node(path)) {
        nodes.set(path, { path, parent, children: 0 });
        if (parent) node(parent).children++;
      }
      parent = path;
    }
    while (nodes.size > capacity) {
      let victim = null;
      let farthest = -1;
      for (const candidate of nodes.values()) {
        if (candidate.children > 0) continue;
        const next = uses.get(candidate.path).find((use) => use > i) ?? Number.POSITIVE_INFINITY;
        if (next > farthest) [victim, farthest] = [candidate, next];
      }
      nodes.delete(victim.path);
      if (victim.parent) node(victim.parent).children--;
    }
  }
  return all === 0 ? 0 : cached / all;
}
