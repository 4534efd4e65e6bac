/** What a stream says does not depend on where the network cuts it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { anthropicBackend } from "../../src/lang/backends/anthropic.js";
import type { Backend } from "../../src/lang/backends/backend.js";
import { endpointBackend } from "../../src/lang/backends/endpoint.js";
import { openaiBackend } from "../../src/lang/backends/openai.js";
import { collect, requestOf, type Script, textOf } from "../contracts/backend.js";
import { cutFetch, type Received, type Reply } from "./loopback.js";
import { anthropicReply, chatReply, completionReply, nativeReply } from "./wire-fakes.js";

const usage = { promptTokens: 9, completionTokens: 4, cachedTokens: 3 };
const baseUrl = "http://server.test";
type Make = (fetch: typeof globalThis.fetch) => Backend;
type Answer = (script: Script, request: Received) => Reply;

const PROTOCOLS: [name: string, make: Make, answer: Answer, body: object][] = [
  ["OpenAI chat", (fetch) => openaiBackend({ model: "m", baseUrl, fetch }), chatReply, { stream_options: {} }],
  [
    "OpenAI completions",
    (fetch) => openaiBackend({ model: "m", baseUrl, api: "completions", fetch }),
    completionReply,
    {},
  ],
  ["Anthropic", (fetch) => anthropicBackend({ model: "m", baseUrl, fetch }), anthropicReply, {}],
  ["SGLang", (fetch) => native(fetch), nativeReply, {}],
  ["SGLang, incremental", (fetch) => native(fetch), (script, request) => nativeReply(script, request, true), {}],
];

/** The native route is the one of raw text. */
function native(fetch: typeof globalThis.fetch): Backend {
  const backend = endpointBackend({ baseUrl, fetch });
  return {
    ...backend,
    name: backend.name,
    capabilities: { ...backend.capabilities, chat: false },
    generate: (request) => backend.generate(request),
  };
}

describe.each(PROTOCOLS)("a stream of %s", (_, make, answer, body) => {
  it("is read the same wherever it is cut", async () => {
    const piece = fc.oneof(
      fc.constantFrom("ü", "👋🏽", "\n", '"', "\\", "\u2028", "data: [DONE]"),
      fc.string({ unit: "grapheme", minLength: 1 }),
    );
    const lengths = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 6 }), lengths, async (pieces, cut) => {
        const script: Script = { answers: [{ pieces, finish: "stop" }], usage };
        const reply = answer(script, { path: "", headers: {}, body: { stream: true, sampling_params: {}, ...body } });
        const backend = make(cutFetch(reply, cut));
        const deltas = await collect(backend.generate(requestOf(backend)));
        expect(textOf(deltas)).toBe(pieces.join(""));
        expect(deltas.at(-1)).toMatchObject({ finish: "stop", usage: { promptTokens: 9 } });
      }),
      { numRuns: 60 },
    );
  });

  it.each([0.3, 0.6, 0.9])("is an error when it ends at %d of its length", async (share) => {
    const script: Script = { answers: [{ pieces: ["one", "two", "three"], finish: "stop" }], usage };
    const { events = [] } = answer(script, {
      path: "",
      headers: {},
      body: { stream: true, sampling_params: {}, ...body },
    });
    // The last event is the protocol's own end, or usage: what is lost must be part of the answer.
    const kept = events.slice(0, Math.floor((events.length - 3) * share));
    const backend = make(cutFetch({ events: kept }, [64]));
    await expect(collect(backend.generate(requestOf(backend)))).rejects.toMatchObject({
      name: "BackendError",
      code: "ENGINE_FAILED",
    });
  });
});
