import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { FakeBackend } from "../../src/lang/backends/fake.js";
import { gen, program, select } from "../../src/lang/index.js";

const interview = program(
  async (s, topic: string) => {
    s.system("You are concise.");
    s.user`Name a city famous for ${topic}.`;
    const city = s.assistant(gen("city", { schema: z.object({ name: z.string() }) }));
    s.user("Is it a capital?");
    s.assistant(select("capital", ["yes", "no"]));
    await s.fork(["history", "food"], (f, about) => {
      f.user`One sentence about its ${about}.`;
      return f.assistant(gen("line"));
    });
    s.user`Thanks for ${s.get("line")}`;
    return city;
  },
  { name: "interview" },
);
const backend = () => new FakeBackend({ cache: true, answers: ['{"name":"Kyoto"}', "Old & <b>bold</b>.", "Good."] });

describe("traces", () => {
  it("show states, turns, calls with tokens, forks and joins", async () => {
    const result = await interview.run("cherry blossoms", {
      backend: backend(),
      pricing: { prompt: 1, completion: 10, cached: 0.1 },
    });
    const trace = result.trace();
    expect(trace.states().map(({ id, label }) => [id, label])).toEqual([
      ["0", "interview"],
      ["0.0", "history"],
      ["0.1", "food"],
    ]);
    expect(trace.calls().map(({ kind, name, state }) => `${kind} ${name} ${state}`)).toEqual([
      "gen city 0",
      "select capital 0",
      "gen line 0.0",
      "gen line 0.1",
    ]);
    const text = trace.toString();
    expect(text).toContain('  turn system\n  text "You are concise."');
    expect(text).toMatch(/gen city = "\{\\"name\\":\\"Kyoto\\"\}" \[\d+ prompt, 0 cached, 1 new\]/);
    expect(text).toContain("  fork 2\n    state 0.0 history");
    expect(text).toContain("join gather 0.0 0.1");
    const { promptTokens, cachedTokens, completionTokens, cost } = trace.usage;
    expect(cost).toBeCloseTo((promptTokens - cachedTokens + cachedTokens * 0.1 + completionTokens * 10) / 1e6, 12);
    expect(trace.usage.calls).toBe(4);
    expect(JSON.parse(JSON.stringify(trace)).root.id).toBe("0");
  });

  it("as a page are one file that escapes what models say", async () => {
    const html = await (await interview.run("x", { backend: backend() })).trace().toHTML();
    expect(html).toContain("Old &amp; &lt;b&gt;bold&lt;/b&gt;.");
    expect(html).not.toContain("<b>bold");
    expect(html).toContain('class="cached"');
    expect(html).toContain('class="bar select"');
    expect(html).not.toMatch(/<(script|link)|src=|href=/);
  });

  describe("with SGLANG_TRACE", () => {
    afterEach(() => {
      delete process.env.SGLANG_TRACE;
    });
    it("are written, one page a run, for failed runs too", async () => {
      const folder = await mkdtemp(join(tmpdir(), "lang-trace-"));
      process.env.SGLANG_TRACE = join(folder, "new");
      await interview.run("x", { backend: backend() });
      await program((s) => s.append(gen()), { name: "fails" })
        .run({ backend: new FakeBackend({ answers: [] }) })
        .catch(() => {});
      const files = (await readdir(join(folder, "new"))).sort();
      expect(files.map((file) => file.replace(/^.*-/, ""))).toEqual(["interview.html", "fails.html"]);
      expect(await readFile(join(folder, "new", files[1]), "utf8")).toContain("failed");
      await rm(folder, { recursive: true });
    });
  });
});

describe("symbolic traces", () => {
  it("show the calls and forks of few-shot, select, role and fork programs without a model", async () => {
    const trace = await interview.trace("tea");
    expect(trace.stopped).toBeUndefined();
    expect(trace.calls().map(({ kind, name, value }) => [kind, name, value])).toEqual([
      ["gen", "city", { name: "⟨name⟩" }],
      ["select", "capital", "yes"],
      ["gen", "line", "⟨line⟩"],
      ["gen", "line", "⟨line⟩"],
    ]);
    expect(trace.usage.calls).toBe(0);
  });

  it("go through programs that call programs", async () => {
    const inner = program(async (s, word: string) => s.text`${word} ${gen("inner", { type: "int" })}`);
    const outer = program(async (s) => {
      const number: number = await s.run(inner, "own").then(() => inner(s, "same").then(Number));
      return s.text`${number + 1}${gen("outer")}`;
    });
    expect((await outer.trace()).calls().map(({ name }) => name)).toEqual(["inner", "outer"]);
  });

  it("end where a program would loop for ever, and where a placeholder breaks it", async () => {
    const endless = program(async (s) => {
      while ((await s.append(gen("word"))) !== "stop");
    });
    expect((await endless.trace()).stopped).toContain("256 model calls");
    const breaks = program(async (s) => {
      const answer = await s.append(gen());
      JSON.parse(answer);
      s.append(gen("never"));
    });
    const trace = await breaks.trace();
    expect(trace.stopped).toContain("JSON");
    expect(trace.calls()).toHaveLength(1);
  });
});

describe("cache and bind", () => {
  const shots = "Q: 1+1? A: 2\n".repeat(10);
  const ask = program(
    async (s, examples: string, question: string) => s.text`${examples}Q: ${question} A:${gen("answer")}`,
  );

  it("cache sends the text before the first gen, when it is long enough and the backend keeps one", async () => {
    const backend = new FakeBackend({ answers: ["4"] });
    const bound = ask.bind(shots);
    expect(await bound.cache("2+2?", { backend })).toBe(true);
    expect(backend.hints).toEqual([{ type: "text", parts: [{ type: "text", text: `${shots}Q: 2+2? A:` }] }]);
    expect(await ask.cache("", "2+2?", { backend })).toBe(false);
    expect(await bound.cache("2+2?", { backend: new FakeBackend({ capabilities: { prefixHint: false } }) })).toBe(
      false,
    );
    expect(await program(async () => "no gen").cache({ backend })).toBe(false);
    expect((await bound.run("2+2?", { backend })).value).toBe("4");
  });

  it("cache stops at the first fork", async () => {
    const backend = new FakeBackend();
    const forks = program(async (s) => {
      s.text("x".repeat(100));
      await s.fork(2, (f, index) => f.text`${index}${gen()}`);
    });
    await forks.cache({ backend });
    expect(backend.hints).toEqual([{ type: "text", parts: [{ type: "text", text: "x".repeat(100) }] }]);
  });

  it("bind fixes first arguments, with sets defaults that a run can override", async () => {
    const backend = new FakeBackend({ answers: ["a", "b"] });
    const warm = ask.bind("", "x").with({ backend, temperature: 0.5 });
    await warm.run();
    await warm.run({ temperature: 0 });
    expect(backend.requests.map(({ sampling }) => sampling.temperature)).toEqual([0.5, 0]);
    expect(() => (ask.bind as (...args: unknown[]) => unknown)(1, 2, 3)).toThrow("at most 2 arguments");
  });
});

describe("OpenTelemetry", () => {
  const API = Symbol.for("opentelemetry.js.api.1");
  afterEach(() => {
    delete (globalThis as Record<symbol, unknown>)[API];
  });

  it("gets a span per model call, with tokens, from the tracer that is registered", async () => {
    const spans: { name: string; attributes: Record<string, unknown>; status?: unknown; ended: boolean }[] = [];
    const tracer = {
      startSpan: (name: string, options?: { attributes?: Record<string, string | number> }) => {
        const span = {
          name,
          attributes: { ...options?.attributes } as Record<string, unknown>,
          status: undefined as unknown,
          ended: false,
        };
        spans.push(span);
        return {
          setAttribute: (key: string, value: unknown) => Object.assign(span.attributes, { [key]: value }),
          recordException: () => {},
          setStatus: (status: unknown) => Object.assign(span, { status }),
          end: () => Object.assign(span, { ended: true }),
        };
      },
    };
    (globalThis as Record<symbol, unknown>)[API] = { trace: { getTracer: () => tracer } };
    await program(async (s) => {
      s.user("hi there");
      s.assistant(gen("x", { maxTokens: 5 }));
      s.user("and?");
      return s.assistant(gen("y")).catch(() => {});
    }).run({ backend: new FakeBackend({ answers: ["a b", { error: new Error("off") }] }) });
    expect(spans.map(({ name, ended }) => [name, ended])).toEqual([
      ["chat fake-model", true],
      ["chat fake-model", true],
    ]);
    expect(spans[0].attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.request.max_tokens": 5,
      "gen_ai.usage.output_tokens": 2,
      "gen_ai.response.finish_reasons": ["stop"],
    });
    expect(spans[1].status).toEqual({ code: 2, message: "off" });
  });
});
