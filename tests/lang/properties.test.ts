import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeBackend, promptOf } from "../../src/lang/backends/fake.js";
import { type ForkOptions, gen, program, type State, select, type Variable } from "../../src/lang/index.js";

/** A step of a random program; `use` counts back over the variables so far. */
type Step =
  | { kind: "text"; text: string }
  | { kind: "gen"; stop: boolean }
  | { kind: "select" }
  | { kind: "use"; back: number }
  | { kind: "wait" }
  | { kind: "scope"; steps: Step[] }
  | { kind: "fork"; branches: Step[][]; concatenate: boolean };

const { steps } = fc.letrec<{ steps: Step[]; step: Step }>((tie) => ({
  steps: fc.array(tie("step"), { maxLength: 5, depthIdentifier: "steps" }),
  step: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.record({ kind: fc.constant("text" as const), text: fc.string({ unit: "grapheme", maxLength: 6 }) }),
    fc.record({ kind: fc.constant("gen" as const), stop: fc.boolean() }),
    fc.constant({ kind: "select" as const }),
    fc.record({ kind: fc.constant("use" as const), back: fc.nat(3) }),
    fc.constant({ kind: "wait" as const }),
    fc.record({ kind: fc.constant("scope" as const), steps: tie("steps") }),
    fc.record({
      kind: fc.constant("fork" as const),
      branches: fc.array(tie("steps"), { minLength: 1, maxLength: 3 }),
      concatenate: fc.boolean(),
    }),
  ),
}));

async function play(s: State, list: readonly Step[], made: Variable<unknown>[], forks: ForkOptions): Promise<void> {
  for (const step of list) {
    if (step.kind === "text") s.text(step.text);
    else if (step.kind === "gen") made.push(s.append(gen(step.stop ? { stop: "3" } : {})));
    else if (step.kind === "select") made.push(s.append(select(["left", "right", "up"])));
    else if (step.kind === "use" && made.length > 0) s.text`<${made[Math.max(0, made.length - 1 - step.back)]}>`;
    else if (step.kind === "wait") await made.at(-1);
    else if (step.kind === "scope") {
      const scope = s.scope(`scope${made.length}`, () => play(s, step.steps, made, forks));
      await scope;
      made.push(scope);
    } else if (step.kind === "fork") {
      await s.fork(step.branches, (f, branch) => play(f, branch, [...made], forks), {
        ...forks,
        join: step.concatenate ? "concatenate" : "gather",
      });
    }
  }
}

/** A backend whose answers depend on the prompt alone, after waits that depend on it too. */
function hashing(): FakeBackend {
  const hash = (text: string) =>
    [...text].reduce((sum, char) => (sum * 31 + (char.codePointAt(0) ?? 0)) % 1_000_003, 7);
  return new FakeBackend({
    answers: async (request) => {
      const value = hash(promptOf(request));
      for (let turn = 0; turn < value % 4; turn++) await Promise.resolve();
      return `${value} `;
    },
    scores: (choice, prompt) => [-(hash(choice + prompt) % 100) - 1],
  });
}

const text = async (list: readonly Step[], forks: ForkOptions, options: object) =>
  (await program((s) => play(s, list, [], forks)).run({ backend: hashing(), ...options })).text;

describe("random programs", () => {
  it("give the same text in the background and inline", async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        expect(await text(list, {}, { execution: "inline" })).toBe(await text(list, {}, { execution: "background" }));
      }),
      { numRuns: 150 },
    );
  });

  it("give the same text with forks in parallel and one after another", async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        expect(await text(list, { concurrency: 1 }, {})).toBe(await text(list, {}, {}));
      }),
      { numRuns: 150 },
    );
  });

  it("give the same text streamed and not", async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const stream = program((s) => play(s, list, [], {})).stream({ backend: hashing() });
        expect((await stream.result).text).toBe(await text(list, {}, {}));
      }),
      { numRuns: 50 },
    );
  });

  it("fail everywhere or nowhere: with a failing backend every variable settles", async () => {
    const backend = () => new FakeBackend({ answers: () => ({ error: new Error("off") }), scores: () => [-1] });
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const made: Variable<unknown>[] = [];
        await program((s) => play(s, list, made, {}))
          .run({ backend: backend() })
          .catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 0));
        expect(made.every((variable) => variable.settled)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe("many states", () => {
  it("10,000 forks at once finish", async () => {
    const backend = new FakeBackend({ record: false, answers: (request) => promptOf(request).slice(-4) });
    const { value, usage } = await program(async (s) => {
      s.text("shared ");
      return s.fork(10_000, (f, index) => f.text`${String(index).padStart(4, "0")}${gen()}`);
    }).run({ backend });
    expect(value).toHaveLength(10_000);
    expect(value[1234]).toBe("1234");
    expect(usage.calls).toBe(10_000);
  });
});
