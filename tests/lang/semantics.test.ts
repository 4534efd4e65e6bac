import { describe, expect, it } from "vitest";
import { z } from "zod";
import { SglangError } from "../../src/core/errors.js";
import { FakeBackend, promptOf } from "../../src/lang/backends/fake.js";
import {
  BackendError,
  CapabilityError,
  gen,
  image,
  program,
  type State,
  select,
  setDefaultBackend,
  type Tools,
  tokenLengthNormalized,
  video,
} from "../../src/lang/index.js";

const messageOf = (error: unknown) => (error as Error).message;
const echo = () => new FakeBackend({ answers: (request) => `<${promptOf(request).length}>` });
const failing = (error: unknown = new Error("no power")) => new FakeBackend({ answers: () => ({ error }) });

describe("variables", () => {
  it("come back at once, before any request is sent", async () => {
    const backend = echo();
    await program(async (s) => {
      const variable = s.text`a${gen("x")}`;
      expect(variable.settled).toBe(false);
      expect(s.has("x")).toBe(true);
      expect(await variable).toBe("<1>");
      expect(await variable.text()).toBe("<1>");
      expect((await variable.meta()).usage.promptTokens).toBe(1);
    }).run({ backend });
  });

  it("are dataflow across states: a fork waits for a variable of another", async () => {
    const backend = new FakeBackend({ delayMs: 1, answers: ["first", "second"] });
    const flow = program(async (s) => {
      const [a, b] = s.fork(2).states;
      a.text("A: ");
      const x = a.append(gen());
      b.text`B after ${x}: `;
      return b.append(gen());
    });
    expect((await flow.run({ backend })).value).toBe("second");
    expect(promptOf(backend.requests[1])).toBe("B after first: ");
  });

  it("give their text piece by piece while the program runs, and once more to a late reader", async () => {
    const backend = new FakeBackend({ delayMs: 1, answers: ["a b c"] });
    const pieces: string[] = [];
    const stream = program(async (s) => {
      const variable = s.append(gen());
      for await (const piece of variable) pieces.push(piece);
      let late = "";
      for await (const piece of variable) late += piece;
      return late;
    }).stream({ backend });
    expect((await stream.result).value).toBe("a b c");
    expect(pieces).toEqual(["a", " b", " c"]);
  });

  it("with n are lists, and the prompt goes on with the first", async () => {
    const backend = new FakeBackend({ answers: (_, index) => `${index + 1}` });
    const { value, text } = await program(async (s) => s.append(gen({ n: 3, type: "int" }))).run({ backend });
    expect(value).toEqual([1, 2, 3]);
    expect(text).toBe("1");
  });

  it("hold logprobs and token ids where they were asked for", async () => {
    const backend = new FakeBackend({ answers: ["a b"] });
    const result = await program((s) => s.append(gen("x", { logprobs: 2 }))).run({ backend });
    const meta = await result.meta("x");
    expect(meta.logprobs.map(([, , text]) => text)).toEqual(["a", " b"]);
    expect(meta.topLogprobs[0]).toHaveLength(2);
    expect(meta.tokenIds).toHaveLength(2);
  });

  it("may stand several in one template, and await together", async () => {
    const backend = new FakeBackend({ answers: ["Ada", "36"] });
    const value = await program(async (s) => {
      const pair = s.text`${gen()} is ${gen({ type: "int" })}`;
      const [name, age] = pair;
      expect(await name).toBe("Ada");
      expect(await age).toBe(36);
      return pair;
    }).run({ backend });
    expect(value.value).toEqual(["Ada", 36]);
  });

  it("can be set, and take promises, numbers and objects in templates", async () => {
    const result = await program(async (s) => {
      s.set("limit", 3);
      s.text`${Promise.resolve("later")} ${7} ${true} ${{ a: 1 }} ${s.get("limit")}`;
    }).run({ backend: echo() });
    expect(result.text).toBe('later 7 true {"a":1} 3');
  });
});

describe("failures", () => {
  it("surface where the variable is awaited", async () => {
    const { value } = await program(async (s) => {
      s.text("a");
      const variable = s.append(gen("x"));
      return variable.then(() => "no", messageOf);
    }).run({ backend: failing() });
    expect(value).toBe("no power");
  });

  it("surface nowhere when nobody awaits, and stay in the result", async () => {
    const rejections: unknown[] = [];
    const note = (error: unknown) => void rejections.push(error);
    process.on("unhandledRejection", note);
    const result = await program(async (s) => {
      s.append(gen("x"));
      s.fork(2, (f) => f.append(gen("y")));
      s.text`then ${gen("z")}`;
      const other = program((own: State) => own.append(gen()));
      s.run(other);
      other(s);
      return "done";
    }).run({ backend: failing() });
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.off("unhandledRejection", note);
    expect(result.value).toBe("done");
    expect(result.error).toMatchObject({ message: "no power" });
    expect(rejections).toEqual([]);
    await expect(result.get("z")).rejects.toThrow('"z" did not run because "x" before it failed: no power');
  });

  it("reject the run when the failed variable is returned or awaited", async () => {
    const returned = program(async (s) => ({ x: s.append(gen("x")) }));
    await expect(returned.run({ backend: failing() })).rejects.toThrow("no power");
    const awaited = program(async (s) => await s.append(gen("x")));
    await expect(awaited.run({ backend: failing() })).rejects.toThrow("no power");
  });

  it("of a branch are told to whoever uses its value, and leave the other branches alone", async () => {
    const backend = new FakeBackend({
      answers: (request) => (promptOf(request).endsWith("bad") ? { error: new Error("broken") } : "fine"),
    });
    const { value, error } = await program(async (s) => {
      const group = s.fork(["good", "bad"], (f, kind) => f.text`${kind}${gen(kind)}`);
      const outcomes = await group.settled();
      const after = s.text`use ${group.states[1].get("bad")}${gen("after")}`;
      return {
        outcomes: outcomes.map(({ status }) => status),
        after: await after.catch(messageOf),
      };
    }).run({ backend });
    expect(value.outcomes).toEqual(["fulfilled", "rejected"]);
    expect(value.after).toBe(
      '"after" did not run because an earlier step of its state failed: The value of "bad" was used in a text, but it failed: broken',
    );
    expect(error).toMatchObject({ message: "broken" });
  });

  it("of the function itself reject the run and abort what is in flight", async () => {
    const backend = new FakeBackend({ delayMs: 10_000, answers: ["never"] });
    const run = program(async (s) => {
      s.append(gen());
      await Promise.resolve();
      throw new Error("my mistake");
    }).run({ backend });
    await expect(run).rejects.toThrow("my mistake");
    expect(backend.requests[0].signal.aborted).toBe(true);
  });

  it("of a scope's body fail the scope, not the program", async () => {
    const result = await program(async (s) => {
      s.scope("x", async () => {
        throw new Error("inside");
      });
    }).run({ backend: echo() });
    await expect(result.get("x")).rejects.toThrow("inside");
  });

  it("say whether an answer was cut off, does not fit its schema, or was not enforced", async () => {
    const schema = z.object({ age: z.int() });
    const ask = (answer: ConstructorParameters<typeof FakeBackend>[0], options: object) =>
      program((s) => s.append(gen("x", options))).run({ backend: new FakeBackend(answer) });
    await expect(ask({ answers: [{ text: '{"ag', finish: "length" }] }, { schema })).rejects.toThrow(
      "cut off; raise maxTokens",
    );
    await expect(ask({ answers: ['{"age":"old"}'] }, { schema })).rejects.toThrow('"x" does not fit its schema at age');
    await expect(ask({ answers: ["abc"] }, { regex: "[0-9]+" })).rejects.toThrow("did not enforce it");
    await expect(ask({ answers: ["many"] }, { type: "int" })).rejects.toThrow('"x" is not an int');
  });
});

describe("abort", () => {
  it("reaches the backend, ends what waits, and rejects the run", async () => {
    const backend = new FakeBackend({ delayMs: 10_000, answers: () => "never" });
    const controller = new AbortController();
    const run = program(async (s) => {
      s.fork(3, (f) => f.append(gen()));
      s.append(gen());
      await s.text`${gen("later")}`;
    }).run({ backend, signal: controller.signal });
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(backend.running).toBe(4);
    controller.abort(new Error("enough"));
    await expect(run).rejects.toMatchObject({ code: "ABORTED", cause: { message: "enough" } });
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect([backend.running, backend.aborted]).toEqual([0, 4]);
  });

  it("before the start sends nothing", async () => {
    const backend = echo();
    const run = program((s) => s.append(gen())).run({ backend, signal: AbortSignal.abort() });
    await expect(run).rejects.toMatchObject({ code: "ABORTED" });
    expect(backend.requests).toEqual([]);
  });

  it("ends a program whose backend ignores its signal, and one that waits for the outside world", async () => {
    const deaf = new FakeBackend({ answers: () => new Promise<string>(() => {}) });
    const asks = program((s) => s.append(gen()));
    const waits = program((s) => void s.text`${new Promise<string>(() => {})}`);
    for (const stuck of [asks, waits]) {
      const controller = new AbortController();
      const run = stuck.run({ backend: deaf, signal: controller.signal });
      setTimeout(() => controller.abort(), 1);
      await expect(run).rejects.toMatchObject({ code: "ABORTED" });
    }
  });

  it("comes from leaving a stream early", async () => {
    const backend = new FakeBackend({ delayMs: 1, answers: ["a b c d e f"] });
    const stream = program((s) => s.append(gen())).stream({ backend });
    for await (const event of stream) if (event.type === "delta") break;
    await expect(stream.result).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("comes from a timeout, which fails only its variable", async () => {
    const backend = new FakeBackend({ answers: () => new Promise<string>(() => {}) });
    const { value } = await program(async (s) => s.append(gen("x", { timeoutMs: 5 })).catch(messageOf)).run({
      backend,
    });
    expect(value).toBe('"x" took longer than its timeout of 5 ms.');
  });
});

describe("states", () => {
  it("run programs in themselves, and other programs in states of their own", async () => {
    const backend = new FakeBackend({ answers: ["deep", "inner"] });
    const part = program(async (s, word: string) => s.text`${word}: ${gen()}`);
    const whole = program(async (s) => {
      s.text("outer ");
      const inline = await part(s, "same");
      const own = await s.run(part, "own");
      return [inline, own];
    });
    const result = await whole.run({ backend });
    expect(result.value).toEqual(["deep", "inner"]);
    expect(backend.requests.map(promptOf)).toEqual(["outer same: ", "own: "]);
    expect(result.usage.calls).toBe(2);
  });

  it("copy: what the copy says stays out of the original", async () => {
    const backend = new FakeBackend({ answers: ["aside", "main"] });
    const result = await program(async (s) => {
      s.user("Hello");
      const copy = s.copy();
      copy.assistant(gen());
      await copy.sync();
      s.assistant(gen());
      return copy.transcript();
    }).run({ backend });
    expect(result.value).toBe("user: Hello\nassistant: aside\n");
    expect(result.text).toBe("user: Hello\nassistant: main\n");
  });

  it("fork inside fork, with ids that say where", async () => {
    const seen: string[] = [];
    await program(async (s) => {
      await s.fork(2, async (f) => {
        await f.fork(2, (g) => void seen.push(g.id));
      });
    }).run({ backend: echo() });
    expect(seen.sort()).toEqual(["0.0.0", "0.0.1", "0.1.0", "0.1.1"]);
  });

  it("fork in the middle of a turn continues it, and a concatenated join too", async () => {
    const backend = new FakeBackend({ answers: (request) => `[${promptOf(request).slice(-2)}]` });
    const { text } = await program(async (s) => {
      s.user("List.");
      s.begin("assistant");
      s.text("Tips: ");
      s.fork(["a ", "b "], (f, item) => void f.text`${item}${gen()} `, { join: "concatenate" });
      s.end();
    }).run({ backend });
    expect(text).toBe("user: List.\nassistant: Tips: a [a ] b [b ] \n");
  });

  it("gather new variables of forks as lists in the parent", async () => {
    const backend = new FakeBackend({ answers: (request) => promptOf(request) });
    const result = await program(async (s) => {
      s.set("old", "kept");
      const forks = s.fork(2);
      forks.append((index) => `${index}`);
      forks.append(gen("new"));
      await forks.join();
    }).run({ backend });
    expect(await result.get<string[]>("new")).toEqual(["0", "1"]);
    expect(await result.get("old")).toBe("kept");
  });

  it("take the default backend", async () => {
    setDefaultBackend(new FakeBackend({ answers: ["default"] }));
    expect((await program((s) => s.append(gen())).run()).value).toBe("default");
    setDefaultBackend(undefined);
    await expect(program((s) => s.append(gen())).run()).rejects.toThrow("A run needs a backend");
  });
});

describe("events", () => {
  it("tell text, variables, forks, joins, images and usage in order", async () => {
    const backend = new FakeBackend({ answers: ["x y", "z", "z"], capabilities: { prefixHint: false } });
    const stream = program(async (s) => {
      s.user(image("https://example.com/a.png"), "look");
      s.assistant(gen("a"));
      await s.fork(2, (f) => {
        f.user("more");
        return f.assistant(gen("b"));
      });
    }).stream({ backend });
    const events = [];
    for await (const event of stream) events.push(event);
    const told = events.map((event) => ("name" in event ? `${event.type} ${event.name}@${event.state}` : event.type));
    expect(told.slice(0, 7)).toEqual(["image", "text", "started a@0", "delta a@0", "delta a@0", "usage", "done a@0"]);
    expect(told).toContain("fork");
    expect(told.at(-1)).toBe("join");
    expect(told.filter((line) => line === "done b@0.0" || line === "done b@0.1")).toHaveLength(2);
    expect(events.findLast((event) => event.type === "usage")).toMatchObject({ usage: { calls: 3 } });
  });

  it("tell an error, and the stream throws only what the program throws", async () => {
    const quiet = program(async (s) => void s.append(gen("x"))).stream({ backend: failing() });
    const types = [];
    for await (const event of quiet) types.push(event.type);
    expect(types).toEqual(["started", "error"]);
    const loud = program(async (s) => await s.append(gen("x"))).stream({ backend: failing() });
    await expect(
      (async () => {
        for await (const _ of loud);
      })(),
    ).rejects.toThrow("no power");
  });
});

describe("capabilities", () => {
  const cases: [capability: string, override: object, body: (s: State) => unknown][] = [
    ["text", { text: false }, (s) => s.text`a${gen()}`],
    ["chat", { chat: false }, (s) => [s.user("a"), s.assistant(gen())]],
    ["continueTurn", { continueTurn: false }, (s) => [s.user("a"), s.assistant`b${gen()}`]],
    ["images", { images: false }, (s) => [s.user(image("https://a.b/c.png")), s.assistant(gen())]],
    ["video", { video: false }, (s) => [s.user(video("https://a.b/c.mp4", 4)), s.assistant(gen())]],
    ["constraints.regex", { constraints: [] }, (s) => s.append(gen({ type: "int" }))],
    ["constraints.jsonSchema", { constraints: ["regex"] }, (s) => s.append(gen({ schema: z.object({}) }))],
    ["constraints.ebnf", { constraints: ["regex"] }, (s) => s.append(gen({ grammar: 'root ::= "a"' }))],
    ["sampling.topK", { sampling: ["temperature"] }, (s) => s.append(gen({ topK: 5 }))],
    ["sampling.n", { sampling: ["temperature"] }, (s) => s.append(gen({ n: 2 }))],
    ["logprobs", { logprobs: false }, (s) => s.append(gen({ logprobs: true }))],
    ["tools", { tools: false }, (s) => [s.user("a"), s.assistant(gen({ tools: { a: {} } }))]],
    ["score", { score: false, constraints: [] }, (s) => s.append(select(["a", "b"]))],
    ["score", { score: false }, (s) => s.append(select(["a", "b"], { method: tokenLengthNormalized }))],
  ];
  it.each(cases)("without %s are refused by name before anything is sent", async (capability, capabilities, body) => {
    const backend = new FakeBackend({ name: "small", capabilities, answers: ["a"] });
    const error = await program((s) => body(s))
      .run({ backend })
      .then(
        () => null,
        (error: unknown) => error,
      );
    expect(error).toBeInstanceOf(CapabilityError);
    expect(error).toMatchObject({ backend: "small", capability, code: "UNSUPPORTED" });
    expect([backend.requests.length, backend.scored.length]).toEqual([0, 0]);
  });

  it("select falls back to constrained decoding where texts cannot be scored", async () => {
    const backend = new FakeBackend({ capabilities: { score: false }, answers: ["no"] });
    expect((await program((s) => s.append(select(["yes", "no"]))).run({ backend })).value).toBe("no");
    expect(backend.requests[0]).toMatchObject({
      constraint: { type: "choices", choices: ["yes", "no"] },
      sampling: { temperature: 0 },
    });
  });
});

describe("wrong use is told well", () => {
  const table: [what: string, body: (s: State) => unknown, message: RegExp][] = [
    [
      "an unknown variable",
      (s) => [s.set("answer", 1), s.get("anser")],
      /no variable "anser"\. Did you mean answer\? It has "answer"/,
    ],
    ["a variable of a state with none", (s) => s.get("x"), /no variable "x"\. It has none/],
    [
      "nested roles",
      (s) => [s.begin("user"), s.assistant(gen())],
      /assistant turn cannot begin inside the user turn.*s\.end\(\)/,
    ],
    ["an end without a begin", (s) => s.end(), /no turn to close/],
    ["gen in a user turn", (s) => s.user`x${gen()}`, /gen cannot stand in the user turn/],
    ["gen between turns", (s) => [s.user("x"), s.append(gen())], /gen cannot stand between turns/],
    ["raw text after turns", (s) => [s.user("x"), s.text("y")], /Raw text cannot follow turns/],
    ["turns after raw text", (s) => [s.text("y"), s.user("x")], /user turn cannot follow raw text/],
    ["select without choices", () => select([]), /select choices must be a list of at least one text, got \[\]/],
    ["select with the same choice twice", () => select(["a", "a"]), /different texts, got "a"/],
    ["select with an empty choice", () => select(["a", ""]), /non-empty texts/],
    ["null in a prompt", (s) => s.text(null as unknown as string), /A prompt cannot take null/],
    ["undefined in a template", (s) => s.text`a ${undefined as unknown as string}`, /A prompt cannot take undefined/],
    [
      "a misspelt option",
      (s) => s.append(gen({ maxToken: 1 } as object)),
      /gen option maxToken.*Did you mean maxTokens/,
    ],
    [
      "two constraints",
      (s) => s.append(gen({ type: "int", regex: "a" })),
      /one of schema, regex, choices, type and grammar.*regex and type/,
    ],
    ["sampling out of range", (s) => s.append(gen({ topP: 2 })), /top_p must be a number in \(0, 1\], got 2/],
    ["a lookahead", (s) => s.append(gen({ regex: /a(?=b)/ })), /without a lookahead/],
    ["a fork of a negative number", (s) => s.fork(-1), /fork must be a number of forks/],
    ["a tool turn without a call", async (s) => [s.user("x"), s.tool("y"), s.assistant(gen())], /answers a call/],
    ["tools on raw text", (s) => s.append(gen({ tools: { a: {} } })), /gen them in s\.assistant/],
    ["an unknown reasoning format", (s) => s.separateReasoning(gen(), "qwen4" as "qwen3"), /Did you mean qwen3/],
    [
      "a second join",
      async (s) => {
        const g = s.fork(1);
        await g.join();
        await g.join();
      },
      /joined already/,
    ],
    [
      "a use of a joined fork",
      async (s) => {
        const g = s.fork(1);
        await g.join();
        g.states[0].text("x");
      },
      /s\.append cannot be used any more, because its forks were joined/,
    ],
  ];
  it.each(table)("%s", async (_, body, message) => {
    const run = program(async (s) => body(s)).run({ backend: echo() });
    await expect(run).rejects.toThrow(message);
    await expect(run).rejects.toBeInstanceOf(SglangError);
  });

  it("gen after the program ended", async () => {
    let kept: State | undefined;
    await program(async (s) => {
      kept = s;
    }).run({ backend: echo() });
    expect(() => kept?.append(gen())).toThrow("s.append cannot be used any more, because the program ended.");
  });

  it("a wrong number of arguments, an unknown option, and an option that is no object", async () => {
    const one = program(async (_s, word: string) => word, { name: "one" });
    const run = one.run as (...args: unknown[]) => Promise<unknown>;
    await expect(run()).rejects.toThrow('one.run must be called with 1 argument and options, got "0 arguments"');
    await expect(run("a", {}, {})).rejects.toThrow("2 arguments");
    await expect(run("a", { backnd: echo() })).rejects.toThrow('no option "backnd". Did you mean backend?');
    await expect(run("a", 7)).rejects.toThrow("options must be an object");
  });

  it("tools as a list, and a tool with a key that tools do not have", async () => {
    const ask = (tools: unknown) =>
      program((s) => {
        s.user("Weather?");
        return s.assistant(gen({ tools: tools as Tools }));
      }).run({ backend: echo() });
    await expect(ask([{ name: "weather" }])).rejects.toThrow("gen option tools must be an object of tools by name");
    await expect(ask({ weather: { name: "weather" } })).rejects.toThrow(
      'Every key of tool "weather" must be one of description, parameters, strict, execute, got "name".',
    );
  });

  it("a backend that breaks off or sends answers that nobody asked for", async () => {
    const broken = echo();
    broken.generate = async function* () {
      yield { index: 0, text: "half" };
    };
    const run = program((s) => s.append(gen())).run({ backend: broken, retry: 1 });
    await expect(run).rejects.toThrow("ended the stream before answer 0 was complete");
    broken.generate = async function* () {
      yield { index: 1, text: "", finish: "stop" };
    };
    await expect(program((s) => s.append(gen())).run({ backend: broken })).rejects.toThrow("sent answer 1 of 1");
  });
});

describe("retry", () => {
  const busy = new BackendError("QUEUE_FULL", "busy", { backend: "fake", retryable: true, retryAfterMs: 0 });
  it("tries again what may succeed later, and counts the attempts", async () => {
    const backend = new FakeBackend({ answers: [{ error: busy }, { error: busy }, "at last"] });
    const result = await program((s) => s.append(gen("x"))).run({ backend });
    expect(result.value).toBe("at last");
    expect((await result.meta("x")).attempts).toBe(3);
  });

  it("gives up after its attempts, and never tries again what cannot succeed", async () => {
    const backend = new FakeBackend({ answers: [{ error: busy }, { error: busy }, "never"] });
    await expect(program((s) => s.append(gen())).run({ backend, retry: 2 })).rejects.toThrow("busy");
    const wrong = new FakeBackend({
      answers: [{ error: new BackendError("INVALID_REQUEST", "no", { backend: "fake" }) }, "x"],
    });
    await expect(program((s) => s.append(gen())).run({ backend: wrong })).rejects.toThrow("no");
    expect(wrong.requests).toHaveLength(1);
  });
});
