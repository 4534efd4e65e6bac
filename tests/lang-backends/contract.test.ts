/** The contract of backends, for every one of them. Those over HTTP talk to servers on the loopback. */
import { SglangError } from "../../src/core/errors.js";
import { aiSdkBackend } from "../../src/lang/backends/ai-sdk.js";
import { anthropicBackend } from "../../src/lang/backends/anthropic.js";
import { ALL_SAMPLING, type Backend, type BackendCapabilities } from "../../src/lang/backends/backend.js";
import { endpointBackend } from "../../src/lang/backends/endpoint.js";
import { engineBackend } from "../../src/lang/backends/engine.js";
import { type FakeAnswer, FakeBackend } from "../../src/lang/backends/fake.js";
import { openaiBackend } from "../../src/lang/backends/openai.js";
import { BackendError } from "../../src/lang/errors.js";
import { startServer } from "../../src/server/server.js";
import { type BackendUnderTest, runBackendContract, type Script } from "../contracts/backend.js";
import { silent } from "../server/harness.js";
import { aiSdkModel } from "./ai-sdk-model.js";
import { Loopback, type Received, type Reply } from "./loopback.js";
import { ScriptedEngine, scriptedTokenizer } from "./scripted-engine.js";
import { sglangServer, vllmServer } from "./servers.js";
import { anthropicReply, chatReply, completionReply } from "./wire-fakes.js";

const NOTHING: BackendCapabilities = {
  text: false,
  chat: false,
  continueTurn: false,
  constraints: [],
  sampling: [],
  score: false,
  logprobs: false,
  images: false,
  video: false,
  tools: false,
  reasoning: false,
  prefixHint: false,
};
const all = { text: true, chat: true, continueTurn: true, score: true, logprobs: true, tools: true, prefixHint: true };
const but = (...keys: string[]) => ALL_SAMPLING.filter((key) => !keys.includes(key));
const reasoning = true;
const constraints = ["regex", "jsonSchema", "ebnf", "choices"] as const;
const SGLANG: BackendCapabilities = { ...NOTHING, ...all, constraints, sampling: but("spacesBetweenSpecialTokens") };
const VLLM: BackendCapabilities = { ...NOTHING, ...all, constraints, sampling: but("stopRegex") };
const COMPLETIONS: BackendCapabilities = {
  ...NOTHING,
  text: true,
  logprobs: true,
  sampling: [
    "maxNewTokens",
    "stop",
    "temperature",
    "topP",
    "frequencyPenalty",
    "presencePenalty",
    "n",
    "logitBias",
    "seed",
  ],
};
const CHAT: BackendCapabilities = {
  ...COMPLETIONS,
  text: false,
  chat: true,
  constraints: ["jsonSchema"],
  images: true,
  tools: true,
};
const ANTHROPIC: BackendCapabilities = {
  ...NOTHING,
  chat: true,
  constraints: ["jsonSchema"],
  sampling: ["maxNewTokens", "stop", "temperature", "topP", "topK"],
  images: true,
  tools: true,
  reasoning: true,
};
const AI_SDK: BackendCapabilities = {
  ...ANTHROPIC,
  sampling: [...ANTHROPIC.sampling, "presencePenalty", "frequencyPenalty", "seed"],
};

const engineFailure = ({ status, message }: { status: number; message: string }) =>
  new SglangError(status === 503 ? "QUEUE_FULL" : "INVALID_REQUEST", message);

runBackendContract({
  name: "the engine",
  declares: { ...NOTHING, ...all, constraints, sampling: ALL_SAMPLING, reasoning: true },
  create: async () => {
    const engine = new ScriptedEngine();
    return {
      backend: engineBackend(engine),
      script: (script) => {
        engine.script = script;
      },
      fail: (failure) => {
        engine.failure = engineFailure(failure);
      },
      sent: () => engine.requests.length,
      abandoned: () => engine.abandoned,
      scriptsUsage: false,
    };
  },
});

runBackendContract({
  name: "this package's server",
  declares: { ...SGLANG, reasoning },
  create: async () => {
    const engine = new ScriptedEngine();
    const config = { port: 0, skipServerWarmup: true, disableDocs: true, reasoningParser: "qwen3" };
    const server = await startServer({ engine, tokenizer: scriptedTokenizer, config, logger: silent });
    return {
      backend: endpointBackend({ baseUrl: server.url, reasoning }),
      script: (script) => {
        engine.script = script;
      },
      fail: (failure) => {
        engine.failure = engineFailure(failure);
      },
      sent: () => engine.requests.length,
      abandoned: () => engine.abandoned,
      scriptsUsage: false,
      close: () => server.close(),
    };
  },
});

runBackendContract({
  name: "the scripted fake",
  declares: {
    ...NOTHING,
    ...all,
    constraints,
    sampling: ALL_SAMPLING,
    images: true,
    video: false,
    reasoning: true,
  },
  create: async () => {
    let script: Script | undefined;
    let failure: BackendError | undefined;
    const answers = (_: unknown, index: number): FakeAnswer => {
      const { hangs, answers } = script as Script;
      const { pieces, toolCalls, finish, reasoning } = answers[index];
      return {
        // Words without end: the fake has no way to fall silent.
        text: pieces.join("") + (hangs ? "more ".repeat(10_000) : ""),
        reasoning,
        finish,
        toolCalls: toolCalls?.map((call) => ({ ...call, arguments: JSON.parse(call.arguments) })),
        error: failure,
      };
    };
    const make = (delayMs: number) => new FakeBackend({ answers, delayMs, capabilities: { video: false } });
    let backend = make(0);
    return {
      get backend() {
        return backend;
      },
      script: (given) => {
        script = given;
        backend = make(given.hangs ? 1 : 0);
      },
      fail: ({ status, message }) => {
        const code = status === 503 ? "QUEUE_FULL" : "INVALID_REQUEST";
        failure = new BackendError(code, message, { backend: "fake", retryable: status === 503 });
      },
      sent: () => backend.requests.length + backend.scored.length + backend.hints.length,
      // Asked for only where answers have no end.
      abandoned: () => backend.requests.length - backend.running,
      scriptsUsage: false,
    };
  },
});

/** A backend over a loopback server that speaks one protocol. */
function overHttp(
  name: string,
  declares: BackendCapabilities,
  make: (url: string) => Backend,
  answer: (script: Script, request: Received) => Reply,
) {
  runBackendContract({
    name,
    declares,
    create: async (): Promise<BackendUnderTest> => {
      const server = await new Loopback().listen();
      return {
        backend: make(server.url),
        script: (script) => {
          server.reply = (request) => answer(script, request);
        },
        fail: ({ status, message }) => {
          server.reply = () => ({ status, json: { error: { message, type: "some_error", code: null } } });
        },
        sent: () => server.requests.length,
        abandoned: () => server.abandoned,
        close: () => server.close(),
      };
    },
  });
}

overHttp(
  "an SGLang server",
  { ...SGLANG, reasoning },
  (baseUrl) => endpointBackend({ baseUrl, reasoning }),
  sglangServer(false),
);
overHttp(
  "an SGLang server with incremental streams",
  SGLANG,
  (baseUrl) => endpointBackend(baseUrl),
  sglangServer(true),
);
overHttp("vLLM", VLLM, (baseUrl) => endpointBackend({ baseUrl, dialect: "vllm", model: "m" }), vllmServer);
overHttp(
  "vLLM with guided fields",
  { ...VLLM, reasoning, images: true },
  (baseUrl) => endpointBackend({ baseUrl, dialect: "vllm-guided", model: "m", reasoning, images: true }),
  vllmServer,
);
overHttp(
  "OpenAI chat",
  { ...CHAT, reasoning },
  (url) => openaiBackend({ model: "m", baseUrl: `${url}/v1`, apiKey: "k", capabilities: { reasoning } }),
  chatReply,
);
overHttp(
  "OpenAI completions",
  COMPLETIONS,
  (url) => openaiBackend({ model: "m", baseUrl: `${url}/v1`, api: "completions" }),
  completionReply,
);
overHttp("Anthropic", ANTHROPIC, (baseUrl) => anthropicBackend({ model: "m", baseUrl, apiKey: "k" }), anthropicReply);

for (const version of ["v2", "v3", "v4"] as const) {
  runBackendContract({
    name: `the AI SDK (${version})`,
    declares: AI_SDK,
    create: async () => {
      const model = aiSdkModel(version);
      return {
        backend: aiSdkBackend(model),
        script: (script) => {
          model.script = script;
        },
        fail: (failure) => {
          model.failure = failure;
        },
        sent: () => model.calls.length,
        abandoned: () => model.abandoned,
      };
    },
  });
}
