/**
 * What every backend must do, as one suite: answers arrive whole however they are cut, what is not declared is refused
 * before anything is sent, failures are BackendErrors, and an abort reaches whoever does the work.
 */
import { afterEach, describe, expect, it } from "vitest";
import {
  ALL_SAMPLING,
  type Backend,
  type BackendCapabilities,
  type BackendConstraint,
  type BackendDelta,
  type BackendFinish,
  type BackendGenerateRequest,
  type BackendPrompt,
  type BackendUsage,
} from "../../src/lang/backends/backend.js";
import { BackendError, CapabilityError } from "../../src/lang/errors.js";

export interface ScriptedAnswer {
  /** Never empty, unless there are tool calls. */
  pieces: string[];
  reasoning?: string;
  toolCalls?: { id: string; name: string; arguments: string }[];
  finish: BackendFinish;
  /** Stop text that ended it. */
  matched?: string;
}
export interface Script {
  answers: ScriptedAnswer[];
  usage: BackendUsage;
  /** Nothing more comes after the pieces, and the request stays open. */
  hangs?: boolean;
}

export interface BackendUnderTest {
  backend: Backend;
  /** How the next requests are answered. */
  script(script: Script): void;
  /** How the next requests fail. */
  fail(failure: { status: number; message: string }): void;
  /** Requests that reached whoever does the work. */
  sent(): number;
  /** Those whose caller left before their end. */
  abandoned(): number;
  /** false: whoever does the work counts tokens by itself. @default true */
  scriptsUsage?: boolean;
  close?(): Promise<void>;
}

export interface BackendContract {
  name: string;
  /** Exactly what the backend must declare. */
  declares: BackendCapabilities;
  create(): Promise<BackendUnderTest>;
}

const USAGE = { promptTokens: 30, completionTokens: 5, cachedTokens: 20 };
const CONSTRAINTS: BackendConstraint[] = [
  { type: "regex", pattern: "[0-9]+" },
  { type: "jsonSchema", schema: { type: "object" }, name: "thing" },
  { type: "ebnf", grammar: 'root ::= "a"' },
  { type: "choices", choices: ["yes", "no"] },
];
const TOOLS = [
  {
    type: "function" as const,
    function: { name: "add", description: "Adds.", parameters: { type: "object", properties: {} } },
  },
];
/** A value of every sampling parameter that is in range everywhere. */
const SAMPLING: Required<BackendGenerateRequest["sampling"]> = {
  maxNewTokens: 9,
  minNewTokens: 1,
  stop: ["\n\n"],
  stopTokenIds: [3],
  stopRegex: ["x+"],
  temperature: 0.5,
  topP: 0.9,
  topK: 5,
  minP: 0.1,
  frequencyPenalty: 0.2,
  presencePenalty: 0.2,
  repetitionPenalty: 1.1,
  n: 1,
  ignoreEos: true,
  skipSpecialTokens: false,
  spacesBetweenSpecialTokens: false,
  noStopTrim: true,
  logitBias: { 5: 1 },
  seed: 7,
};
const THINKING = { start: "<think>", end: "</think>" };
const IMAGE = { type: "image" as const, mediaType: "image/png", data: Uint8Array.of(1, 2, 3) };
const VIDEO = { type: "video" as const, url: "https://example.com/v.mp4", frames: 4 };

export const one = (pieces: string[], rest: Partial<ScriptedAnswer> = {}): Script => ({
  answers: [{ pieces, finish: "stop", ...rest }],
  usage: USAGE,
});

const textPrompt = (text = "Once"): BackendPrompt => ({ type: "text", parts: [{ type: "text", text }] });
const chatPrompt = (text = "Hi"): BackendPrompt => ({
  type: "chat",
  messages: [{ role: "user", content: [{ type: "text", text }] }],
  continueFinal: false,
});

/** The prompts that a backend takes. */
function promptsOf({ capabilities }: Backend): [name: string, prompt: BackendPrompt][] {
  return [
    ...(capabilities.text ? [["raw text", textPrompt()] as [string, BackendPrompt]] : []),
    ...(capabilities.chat ? [["turns", chatPrompt()] as [string, BackendPrompt]] : []),
  ];
}

export function requestOf(backend: Backend, rest: Partial<BackendGenerateRequest> = {}): BackendGenerateRequest {
  return {
    prompt: backend.capabilities.chat ? chatPrompt() : textPrompt(),
    sampling: {},
    stream: true,
    signal: new AbortController().signal,
    ...rest,
  };
}

export async function collect(deltas: AsyncIterable<BackendDelta>): Promise<BackendDelta[]> {
  const all: BackendDelta[] = [];
  for await (const delta of deltas) all.push(delta);
  return all;
}

export const textOf = (deltas: readonly BackendDelta[], index = 0) =>
  deltas.map((delta) => (delta.index === index ? delta.text : "")).join("");

/** Resolves when `condition` holds; rejects after five seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`never happened: ${what}`);
}

const scoring = (backend: Backend) => backend as Backend & { score: NonNullable<Backend["score"]> };

/** One request for each thing that the backend does not declare. */
function refusals(backend: Backend): [capability: string, request: BackendGenerateRequest][] {
  const { capabilities } = backend;
  const cases: [boolean, string, Partial<BackendGenerateRequest>][] = [
    [capabilities.text, "text", { prompt: textPrompt() }],
    [capabilities.chat, "chat", { prompt: chatPrompt() }],
    [capabilities.continueTurn || !capabilities.chat, "continueTurn", { prompt: BEGUN }],
    [capabilities.logprobs, "logprobs", { logprobs: { top: 0 } }],
    [capabilities.tools, "tools", { tools: TOOLS }],
    [capabilities.images, "images", { prompt: withPart(backend, IMAGE) }],
    [capabilities.video, "video", { prompt: withPart(backend, VIDEO) }],
    ...CONSTRAINTS.map((constraint): (typeof cases)[number] => {
      const declared = capabilities.constraints.includes(constraint.type);
      return [declared, `constraints.${constraint.type}`, { constraint }];
    }),
    ...ALL_SAMPLING.map((key): (typeof cases)[number] => {
      return [capabilities.sampling.includes(key), `sampling.${key}`, { sampling: { [key]: SAMPLING[key] } }];
    }),
  ];
  return cases.flatMap(([declared, name, rest]) => (declared ? [] : [[name, requestOf(backend, rest)]]));
}

const BEGUN: BackendPrompt = {
  type: "chat",
  messages: [
    { role: "user", content: [{ type: "text", text: "Hi" }] },
    { role: "assistant", content: [{ type: "text", text: "So" }] },
  ],
  continueFinal: true,
};

const withPart = ({ capabilities }: Backend, part: typeof IMAGE | typeof VIDEO): BackendPrompt =>
  capabilities.chat
    ? { type: "chat", messages: [{ role: "user", content: [part] }], continueFinal: false }
    : { type: "text", parts: [part] };

export function runBackendContract({ name, declares, create }: BackendContract): void {
  describe(`${name} as a backend`, () => {
    const open: BackendUnderTest[] = [];
    const start = async (script: Script = one(["Hello", ", ", "world"])) => {
      const under = await create();
      open.push(under);
      under.script(script);
      return under;
    };
    afterEach(async () => {
      await Promise.all(open.splice(0).map((under) => under.close?.()));
    });

    it("says what it is, and exactly what it can do", async () => {
      const { backend } = await start();
      expect(backend.name).toMatch(/^[\w-]+(\(.+\))?$/);
      expect(backend.capabilities).toEqual(declares);
      expect(backend.score !== undefined).toBe(declares.score);
      if (declares.prefixHint) expect(backend.prefixHint).toBeTypeOf("function");
    });

    it.each([true, false])("gives the whole answer, its end and its usage (stream: %s)", async (stream) => {
      const pieces = ["Grüße", ", ", "世界", " 👋🏽", "\r\n", "end"];
      const { backend, scriptsUsage = true } = await start(one(pieces));
      for (const [, prompt] of promptsOf(backend)) {
        const deltas = await collect(backend.generate(requestOf(backend, { prompt, stream })));
        expect(textOf(deltas)).toBe(pieces.join(""));
        expect(deltas.filter(({ finish }) => finish)).toHaveLength(1);
        const last = deltas.at(-1);
        expect(last).toMatchObject({ index: 0, finish: "stop", usage: expect.anything() });
        if (scriptsUsage) expect(last?.usage).toMatchObject({ promptTokens: 30, completionTokens: expect.any(Number) });
        else expect(last?.usage?.promptTokens).toBeGreaterThan(0);
        expect(last?.usage?.completionTokens).toBeGreaterThan(0);
      }
    });

    it.each([true, false])("tells an answer that was cut off (stream: %s)", async (stream) => {
      const { backend } = await start(one(["cut"], { finish: "length" }));
      for (const [, prompt] of promptsOf(backend)) {
        const deltas = await collect(backend.generate(requestOf(backend, { prompt, stream })));
        expect(deltas.at(-1)?.finish).toBe("length");
      }
    });

    it("sends nothing before the answer is asked for", async () => {
      const { backend, sent } = await start();
      backend.generate(requestOf(backend));
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(sent()).toBe(0);
    });

    it("answers many requests at once, each its own", async () => {
      const { backend } = await start();
      const all = await Promise.all(Array.from({ length: 8 }, () => collect(backend.generate(requestOf(backend)))));
      expect(all.map((deltas) => textOf(deltas))).toEqual(Array(8).fill("Hello, world"));
    });

    if (declares.sampling.includes("n")) {
      it.each([true, false])("keeps the answers of n = 3 apart (stream: %s)", async (stream) => {
        const answers = [["a", "b", "c"], ["d"], ["e", "f"]].map((pieces) => ({ pieces, finish: "stop" as const }));
        const { backend } = await start({ answers, usage: USAGE });
        for (const [, prompt] of promptsOf(backend)) {
          const deltas = await collect(backend.generate(requestOf(backend, { prompt, stream, sampling: { n: 3 } })));
          expect([0, 1, 2].map((index) => textOf(deltas, index))).toEqual(["abc", "d", "ef"]);
          expect(
            deltas
              .filter(({ finish }) => finish)
              .map(({ index }) => index)
              .sort(),
          ).toEqual([0, 1, 2]);
          expect(deltas.at(-1)?.usage).toBeDefined();
        }
      });
    }

    if (declares.logprobs) {
      it.each([true, false])("gives logprobs that spell the answer (stream: %s)", async (stream) => {
        const { backend } = await start(one(["ab", "cd", "e"]));
        for (const [, prompt] of promptsOf(backend)) {
          const request = requestOf(backend, { prompt, stream, logprobs: { top: 2 } });
          const deltas = await collect(backend.generate(request));
          const tokens = deltas.flatMap(({ logprobs = [] }) => logprobs);
          expect(tokens.map(([, , text]) => text).join("")).toBe("abcde");
          for (const [logprob] of tokens) expect(logprob).toBeLessThanOrEqual(0);
          const top = deltas.flatMap(({ topLogprobs = [] }) => topLogprobs);
          expect(top).toHaveLength(tokens.length);
          for (const list of top) expect(list).toHaveLength(2);
        }
      });
    }

    if (declares.tools) {
      it.each([true, false])("gives whole tool calls (stream: %s)", async (stream) => {
        const toolCalls = [
          { id: "call_a", name: "add", arguments: '{"a":1,"b":[2,"ü"]}' },
          { id: "call_b", name: "add", arguments: "{}" },
        ];
        const { backend } = await start(one(["Let me see."], { toolCalls, finish: "toolCalls" }));
        const deltas = await collect(backend.generate(requestOf(backend, { stream, tools: TOOLS })));
        const calls = deltas.flatMap(({ toolCalls: found = [] }) => found);
        expect(calls.map(({ function: called }) => called)).toEqual(
          toolCalls.map(({ name, arguments: args }) => ({ name, arguments: args })),
        );
        expect(new Set(calls.map(({ id }) => id)).size).toBe(2);
        for (const { id } of calls) expect(id).toBeTruthy();
        expect(textOf(deltas)).toBe("Let me see.");
        expect(deltas.at(-1)?.finish).toBe("toolCalls");
      });
    }

    if (declares.tools) {
      it.each<[BackendGenerateRequest["toolChoice"]]>([["required"], [{ name: "add" }]])(
        "demands calls (toolChoice: %j)",
        async (toolChoice) => {
          const toolCalls = [{ id: "call_a", name: "add", arguments: '{"a":1}' }];
          const { backend, sent } = await start(one([], { toolCalls, finish: "toolCalls" }));
          const deltas = await collect(backend.generate(requestOf(backend, { tools: TOOLS, toolChoice })));
          expect(deltas.flatMap(({ toolCalls: found = [] }) => found)).toMatchObject([
            { function: { name: "add", arguments: '{"a":1}' } },
          ]);
          expect(deltas.at(-1)?.finish).toBe("toolCalls");
          expect(sent()).toBe(1);
        },
      );
    }

    if (declares.reasoning) {
      it.each([true, false])("keeps reasoning apart (stream: %s)", async (stream) => {
        const { backend } = await start(one(["Four."], { reasoning: "Two and two." }));
        const deltas = await collect(backend.generate(requestOf(backend, { stream, reasoning: THINKING })));
        expect(deltas.map(({ reasoning = "" }) => reasoning).join("")).toBe("Two and two.");
        expect(textOf(deltas)).toBe("Four.");
      });
    }

    it("refuses by name whatever it does not declare, before anything is sent", async () => {
      const { backend, sent } = await start();
      const cases = refusals(backend);
      for (const [capability, request] of cases) {
        const error = await collect(backend.generate(request)).catch((reason: unknown) => reason);
        expect(error, capability).toBeInstanceOf(CapabilityError);
        expect(error).toMatchObject({ code: "UNSUPPORTED", backend: backend.name, capability });
        expect((error as Error).message).toContain(backend.name);
      }
      expect(cases.length).toBeGreaterThan(0);
      expect(sent()).toBe(0);
    });

    it("takes what it declares", async () => {
      const { backend } = await start();
      const { capabilities } = backend;
      for (const [, prompt] of promptsOf(backend)) {
        for (const key of capabilities.sampling) {
          const request = requestOf(backend, { prompt, sampling: { [key]: SAMPLING[key] } });
          expect(textOf(await collect(backend.generate(request))), key).toBe("Hello, world");
        }
        for (const constraint of CONSTRAINTS) {
          if (!capabilities.constraints.includes(constraint.type)) continue;
          const request = requestOf(backend, { prompt, constraint });
          expect(textOf(await collect(backend.generate(request))), constraint.type).toBe("Hello, world");
        }
      }
    });

    it("throws the signal's reason when aborted, and the work stops", async () => {
      const under = await start({ ...one(["Hello", ", "]), hangs: true });
      const { backend, sent, abandoned } = under;
      const reason = new Error("enough");
      const controller = new AbortController();
      const seen: string[] = [];
      const run = (async () => {
        for await (const delta of backend.generate(requestOf(backend, { signal: controller.signal }))) {
          seen.push(delta.text);
          if (seen.join("").startsWith("Hello, ")) controller.abort(reason);
        }
      })();
      await expect(run).rejects.toBe(reason);
      await until(() => abandoned() === sent(), "the work stops");
    });

    it("throws the signal's reason while nothing comes", async () => {
      const { backend, sent, abandoned } = await start({ ...one(["Hello"]), hangs: true });
      const controller = new AbortController();
      const run = collect(backend.generate(requestOf(backend, { signal: controller.signal })));
      const settled = run.catch((error: unknown) => error);
      await until(() => sent() === 1, "the request is sent");
      const reason = new Error("enough");
      controller.abort(reason);
      expect(await settled).toBe(reason);
      await until(() => abandoned() === 1, "the work stops");
    });

    it("sends nothing when the signal is aborted already", async () => {
      const { backend, sent } = await start();
      const signal = AbortSignal.abort(new Error("too late"));
      await expect(collect(backend.generate(requestOf(backend, { signal })))).rejects.toThrow("too late");
      expect(sent()).toBe(0);
    });

    it("stops the work when the reader leaves", async () => {
      const { backend, abandoned } = await start({ ...one(["Hello", ", "]), hangs: true });
      for await (const { text } of backend.generate(requestOf(backend))) if (text !== "") break;
      await until(() => abandoned() === 1, "the work stops");
    });

    it.each([
      [400, "INVALID_REQUEST", false],
      [503, "QUEUE_FULL", true],
    ])("reports a failure with status %i as BackendError %s", async (status, code, retryable) => {
      const under = await start();
      under.fail({ status, message: "the sky fell on our heads" });
      for (const stream of [true, false]) {
        const run = collect(under.backend.generate(requestOf(under.backend, { stream })));
        const error = (await run.catch((reason: unknown) => reason)) as BackendError;
        expect(error).toBeInstanceOf(BackendError);
        expect(error).toMatchObject({ code, retryable, backend: under.backend.name });
        expect(error.message).toContain("the sky fell on our heads");
      }
    });

    if (declares.score) {
      it("scores continuations of one prompt in order", async () => {
        const { backend, sent } = await start();
        for (const [, prompt] of promptsOf(backend)) {
          const signal = new AbortController().signal;
          const continuations = ["yes", "no, never", "y"];
          const { scores, usage } = await scoring(backend).score({
            prompt,
            continuations,
            unconditional: true,
            signal,
          });
          expect(scores.map(({ tokens }) => tokens.map(([, , text]) => text).join(""))).toEqual(continuations);
          for (const { tokens, unconditional } of scores) {
            expect(unconditional).toHaveLength(tokens.length);
            for (const logprob of unconditional ?? []) expect(logprob ?? 0).toBeLessThanOrEqual(0);
            for (const [logprob] of tokens) expect(logprob).toBeLessThanOrEqual(0);
          }
          expect(usage.promptTokens).toBeGreaterThan(0);
        }
        expect(sent()).toBeGreaterThan(0);
      });
    }

    if (declares.prefixHint) {
      it("warms a prefix, and stops at an abort", async () => {
        const { backend, sent } = await start();
        for (const [, prompt] of promptsOf(backend)) {
          const before = sent();
          await backend.prefixHint?.(prompt, new AbortController().signal);
          expect(sent()).toBeGreaterThan(before);
          const late = backend.prefixHint?.(prompt, AbortSignal.abort(new Error("too late")));
          await expect(late).rejects.toThrow("too late");
        }
      });
    }
  });
}
