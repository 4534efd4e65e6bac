import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeBackend, promptOf } from "../../src/lang/backends/fake.js";
import { gen, Limiter, type Progress, program } from "../../src/lang/index.js";
import { progressLine } from "../../src/lang/progress.js";

const reply = (request: Parameters<typeof promptOf>[0]) => promptOf(request).split(" ").at(-1)?.toUpperCase() ?? "";
const upper = program(async (s, word: string) => s.text`Shout ${word}${gen()}`);
const values = (items: readonly { ok: boolean; value?: unknown }[]) =>
  items.map((item) => (item.ok ? item.value : "failed"));

describe("batch", () => {
  it("gives results in order, however long each takes", async () => {
    const backend = new FakeBackend({
      answers: async (request) => {
        const text = reply(request);
        for (let turn = 0; turn < 50 - 10 * text.length; turn++) await Promise.resolve();
        return text;
      },
    });
    expect(values(await upper.batch(["a", "bbbb", "cc", "ddd"], { backend }))).toEqual(["A", "BBBB", "CC", "DDD"]);
  });

  it("keeps failures to their items", async () => {
    const backend = new FakeBackend({
      answers: (request) => (reply(request) === "B" ? { error: new Error("bad") } : reply(request)),
    });
    const items = await upper.batch(["a", "b", "c"], { backend });
    expect(values(items)).toEqual(["A", "failed", "C"]);
    expect(items[1]).toMatchObject({ index: 1, ok: false, error: { message: "bad" } });
  });

  it("never has more in work than its concurrency, nor in flight than its limits", async () => {
    const words = Array.from({ length: 40 }, (_, index) => `w${index}`);
    const wide = new FakeBackend({ delayMs: 1, answers: reply });
    await upper.batch(words, { backend: wide, concurrency: 7, sharedPrefix: false });
    expect(wide.maxRunning).toBe(7);
    const narrow = new FakeBackend({ delayMs: 1, answers: reply });
    await upper.batch(words.slice(0, 12), {
      backend: narrow,
      concurrency: 12,
      limits: { concurrency: 3 },
      sharedPrefix: false,
    });
    expect(narrow.maxRunning).toBe(3);
  });

  it("takes an endless async source and reads no further than it must", async () => {
    let taken = 0;
    let closed = false;
    async function* words() {
      try {
        for (;;) yield `w${taken++}`;
      } finally {
        closed = true;
      }
    }
    const seen: unknown[] = [];
    for await (const item of upper.batch(words(), { backend: new FakeBackend({ answers: reply }), concurrency: 4 })) {
      seen.push(item.ok && item.value);
      if (seen.length === 10) break;
    }
    expect(seen).toEqual(Array.from({ length: 10 }, (_, index) => `W${index}`));
    expect(taken).toBeLessThanOrEqual(10 + 4 * 4);
    expect(closed).toBe(true);
  });

  it("does not wait for the next item of a slow source to give a result", async () => {
    let release = () => {};
    async function* slow() {
      yield "a";
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      yield "b";
    }
    const seen: unknown[] = [];
    const batch = upper.batch(slow(), { backend: new FakeBackend({ answers: reply }), sharedPrefix: false });
    for await (const item of batch) {
      seen.push(item.ok && item.value);
      release();
    }
    expect(seen).toEqual(["A", "B"]);
  });

  it("computes what the prompts share once, before all other requests", async () => {
    const shots = "Q: one A: ONE ".repeat(20);
    const order: string[] = [];
    const backend = new FakeBackend({
      cache: true,
      answers: (request) => {
        order.push("gen");
        return reply(request);
      },
    });
    const hint = backend.prefixHint.bind(backend);
    backend.prefixHint = async (prompt, signal) => {
      order.push("hint");
      await hint(prompt, signal);
    };
    const few = program(async (s, word: string) => s.text`${shots}Q: ${word}${gen("a")}`);
    const items = await few.batch(["x1", "y2", "z3"], { backend });
    expect(order).toEqual(["hint", "gen", "gen", "gen"]);
    expect(promptOf({ prompt: backend.hints[0] })).toBe(`${shots}Q: `);
    for (const item of items) expect(item.ok && item.usage.cachedTokens).toBeGreaterThanOrEqual(80);
  });

  it("shares chat prompts up to the turn that differs, and hints nothing where little is shared", async () => {
    const backend = new FakeBackend({ answers: () => "ok" });
    const chat = program(async (s, word: string) => {
      s.system("x".repeat(80));
      s.user`Say ${word}`;
      return s.assistant(gen());
    });
    await chat.batch(["one", "two"], { backend });
    expect(backend.hints[0]).toMatchObject({
      messages: [
        { role: "system", content: [{ text: "x".repeat(80) }] },
        { role: "user", content: [{ text: "Say " }] },
      ],
      continueFinal: false,
    });
    await upper.batch(["one", "two"], { backend });
    await chat.batch(["only"], { backend });
    expect(backend.hints).toHaveLength(1);
  });

  it("is not held up by programs that never ask a model, or by a hint that fails", async () => {
    const backend = new FakeBackend({ answers: reply });
    backend.prefixHint = () => Promise.reject(new Error("no cache"));
    const some = program(async (s, word: string) =>
      word === "skip" ? "skipped" : s.text`${"p".repeat(99)} ${word}${gen()}`,
    );
    expect(values(await some.batch(["skip", "a", "b"], { backend }))).toEqual(["skipped", "A", "B"]);
    expect(values(await some.batch(["a", "b"], { backend }))).toEqual(["A", "B"]);
    expect(values(await some.batch([], { backend }))).toEqual([]);
  });

  it("makes the arguments of a program from an item", async () => {
    const add = program(async (_s, a: number, b: number) => a + b);
    const items = await add.batch([{ x: 1 }, { x: 2 }], {
      backend: new FakeBackend(),
      args: ({ x }, index) => [x, index],
    });
    expect(values(items)).toEqual([1, 3]);
    const wrong = add.batch as unknown as (items: unknown[], options: object) => unknown;
    expect(() => wrong([1], { backend: new FakeBackend() })).toThrow(
      "batch.args must be a function that makes 2 arguments",
    );
  });

  it("reports progress", async () => {
    const seen: Progress[] = [];
    await upper.batch(["a", "b"], {
      backend: new FakeBackend({ answers: reply }),
      progress: (progress) => seen.push(progress),
    });
    expect(seen.map(({ done, total }) => [done, total])).toEqual([
      [1, 2],
      [2, 2],
    ]);
    const line = progressLine({
      done: 5,
      failed: 1,
      resumed: 0,
      total: 10,
      promptTokens: 9,
      completionTokens: 20,
      elapsedMs: 2000,
    });
    expect(line).toBe("[############------------] 5/10, 1 failed, 2.5 items/s, 10 tokens/s");
  });

  it("stops when it is aborted, and when its reader leaves", async () => {
    const backend = new FakeBackend({ delayMs: 10_000, answers: reply });
    const controller = new AbortController();
    const batch = upper.batch(["a", "b"], { backend, signal: controller.signal, sharedPrefix: false });
    setTimeout(() => controller.abort(new Error("enough")), 2);
    const items = await batch;
    expect(items.map((item) => !item.ok && (item.error as { code: string }).code)).toEqual(["ABORTED", "ABORTED"]);
    expect(backend.aborted).toBe(2);
    const long = upper.batch(["a", "b", "c"], {
      backend,
      signal: AbortSignal.timeout(2),
      concurrency: 2,
      sharedPrefix: false,
    });
    await expect(long).rejects.toThrow("The batch was aborted after 2 items.");
  });

  it("can be read once", async () => {
    const batch = upper.batch(["a"], { backend: new FakeBackend({ answers: reply }) });
    expect(await batch).toEqual(await batch);
    await expect((async () => void (await batch[Symbol.asyncIterator]().next()))()).rejects.toThrow("read already");
  });
});

describe("checkpoints", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "lang-batch-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("resume: what is done is not asked again, what failed or was cut off is", async () => {
    const checkpoint = join(folder, "done.jsonl");
    const first = new FakeBackend({
      answers: (request) => (reply(request) === "B" ? { error: new Error("bad") } : reply(request)),
    });
    await upper.batch(["a", "b", "c"], { backend: first, checkpoint });
    await appendFile(checkpoint, '{"index":3,"item":"cut o');
    const second = new FakeBackend({ answers: reply });
    const items = await upper.batch(["a", "b", "c", "d"], { backend: second, checkpoint });
    expect(values(items)).toEqual(["A", "B", "C", "D"]);
    expect(items.map((item) => item.ok && item.resumed)).toEqual([true, false, true, false]);
    expect(second.requests.map(promptOf)).toEqual(["Shout b", "Shout d"]);
    const third = await upper.batch(["a", "b", "c", "d"], { backend: new FakeBackend({ answers: [] }), checkpoint });
    expect(values(third)).toEqual(["A", "B", "C", "D"]);
    expect((await readFile(checkpoint, "utf8")).trim().split("\n")).toHaveLength(4);
  });

  it("of other items, or damaged in the middle, are refused", async () => {
    const checkpoint = join(folder, "done.jsonl");
    const backend = new FakeBackend({ answers: reply });
    await upper.batch(["a"], { backend, checkpoint });
    await expect(upper.batch(["z"], { backend, checkpoint })).rejects.toThrow("Item 0 is not the one");
    await writeFile(checkpoint, "nonsense\n");
    await expect(upper.batch(["a"], { backend, checkpoint })).rejects.toThrow("Line 1 of checkpoint");
  });
});

describe("limits", () => {
  const never = new AbortController().signal;

  it("let through what fits, first come first served, and give places back", async () => {
    const limiter = new Limiter({ concurrency: 1 });
    const order: number[] = [];
    const first = await limiter.acquire(1, never);
    const rest = [1, 2].map((id) =>
      limiter.acquire(1, never).then((release) => {
        order.push(id);
        release();
      }),
    );
    expect(limiter.running).toBe(1);
    first();
    first();
    await Promise.all(rest);
    expect(order).toEqual([1, 2]);
    expect(limiter.running).toBe(0);
  });

  it("leave the queue when aborted", async () => {
    const limiter = new Limiter({ concurrency: 1 });
    const release = await limiter.acquire(1, never);
    const controller = new AbortController();
    const waiting = limiter.acquire(1, controller.signal);
    controller.abort(new Error("gone"));
    await expect(waiting).rejects.toThrow("gone");
    release();
    (await limiter.acquire(1, never))();
  });

  it("count tokens per minute by what was really used", async () => {
    const limiter = new Limiter({ tokensPerMinute: 6000 });
    const release = await limiter.acquire(10, never);
    release(6003);
    // Overdrawn by 3 tokens, at 100 tokens a second: the next must wait, and is let in by the timer.
    let admitted = false;
    const next = limiter.acquire(1, never).then((release) => {
      admitted = true;
      release();
    });
    await Promise.resolve();
    expect(admitted).toBe(false);
    await next;
  });

  it("refuse nonsense", () => {
    expect(() => new Limiter({ concurrency: 0 })).toThrow("limits.concurrency must be a number >= 1, got 0");
  });
});
