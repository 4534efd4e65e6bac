/**
 * The official OpenAI client for Python against a server on the loopback, over a scripted engine.
 * Needs a Python with the package `openai`: SGLANG_TEST_PYTHON, else python3. Without one these tests are skipped.
 */
import { execFile, spawnSync } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../../src/server/server.js";
import { FakeEngine, type FakeOptions, fakeTokenizer } from "../server/fake-engine.js";
import { silent } from "../server/harness.js";

const python = process.env.SGLANG_TEST_PYTHON ?? "python3";
const available = spawnSync(python, ["-c", "import openai"]).status === 0;
const script = join(import.meta.dirname, "openai_client.py");

const CASES = [
  "models",
  "chat",
  "chat_answer_sent_back",
  "chat_stream",
  "chat_n",
  "chat_logprobs",
  "sglang_extras",
  "completions",
  "errors",
  "request_id",
  "stream_closed_early",
  "concurrent_requests",
  "tool_calls",
  "embeddings",
];

/** Calls the tool it is offered, in pieces of three characters; says hello otherwise. */
const answer: FakeOptions["answer"] = ({ prompt }) => {
  const offered = "messages" in prompt && prompt.tools !== undefined;
  const text = offered
    ? '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    : "Hello there, friend.";
  return { pieces: text.match(/.{1,3}/gs) ?? [] };
};

describe.skipIf(!available)("the OpenAI client for Python", () => {
  const servers: RunningServer[] = [];
  let results: Record<string, string> = {};

  beforeAll(async () => {
    const start = async (engine: FakeEngine) => {
      const server = await startServer({ engine, tokenizer: fakeTokenizer, config: { port: 0 }, logger: silent });
      servers.push(server);
      return server.url;
    };
    const url = await start(new FakeEngine({ answer }));
    const embeddings = await start(new FakeEngine({ model: { isGeneration: false } }));
    const run = await promisify(execFile)(python, [script, url, "--tools", "--embedding-url", embeddings]);
    results = JSON.parse(run.stdout);
  });
  afterAll(() => Promise.all(servers.map((server) => server.close())));

  it.each(CASES)("is satisfied with %s", (name) => {
    expect(results[name]).toBe("ok");
  });

  it("has no case that is not listed here", () => {
    expect(Object.keys(results).sort()).toEqual([...CASES].sort());
  });
});
