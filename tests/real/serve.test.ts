import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createServer as createTcpServer } from "node:net";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

/** The whole system as a user runs it: the compiled CLI in a process of its own, SmolLM2-135M, real sockets. */
const MODEL = "smollm2-135m";
const cli = resolve(import.meta.dirname, "../../dist/cli/main.js");

// Replies are looked into, not modelled.
// biome-ignore lint/suspicious/noExplicitAny: see above
type Json = Record<string, any>;

interface Running {
  child: ChildProcess;
  url: string;
  output: () => string;
  exit: Promise<number | null>;
}

function launch(args: string[]): { child: ChildProcess; output: () => string; exit: Promise<number | null> } {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout?.on("data", (d: Buffer) => {
    text += d.toString();
  });
  child.stderr?.on("data", (d: Buffer) => {
    text += d.toString();
  });
  const exit = new Promise<number | null>((done) => child.on("exit", (code) => done(code)));
  return { child, output: () => text, exit };
}

async function serve(...args: string[]): Promise<Running> {
  const run = launch(["launch_server", "--model-path", MODEL, "--offline", "--port", "0", ...args]);
  for (;;) {
    const ready = /ready at (http:\S+)/.exec(run.output());
    if (ready) return { ...run, url: ready[1] };
    if (run.child.exitCode !== null) throw new Error(`the server ended: ${run.output()}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

async function post(url: string, body: unknown): Promise<{ status: number; json: Json }> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, json: (await response.json()) as Json };
}

const greedy = (n: number) => ({ max_new_tokens: n, temperature: 0 });

async function idle(url: string): Promise<Json> {
  for (let i = 0; i < 200; i++) {
    const info = (await (await fetch(`${url}/server_info`)).json()) as Json;
    const load = (await (await fetch(`${url}/get_load`)).json()) as { num_reqs: number }[];
    if (load.every((l) => l.num_reqs === 0)) return info;
    await new Promise((r) => setTimeout(r, 50));
  }
  throw new Error("requests still run after 10 s");
}

describe("a served model", () => {
  let server: Running;
  beforeAll(async () => {
    server = await serve();
  });
  afterAll(async () => {
    server.child.kill("SIGTERM");
    await server.exit;
  });

  it("answers SGLang's curl example with SGLang's reply fields", async () => {
    const { status, json } = await post(`${server.url}/generate`, {
      text: "Once upon a time,",
      sampling_params: greedy(16),
    });
    expect(status).toBe(200);
    expect(json.text.length).toBeGreaterThan(10);
    expect(json.output_ids).toHaveLength(16);
    expect(json.meta_info).toMatchObject({
      finish_reason: { type: "length", length: 16 },
      prompt_tokens: 5,
      completion_tokens: 16,
      cached_tokens: expect.any(Number),
      e2e_latency: expect.any(Number),
      id: expect.any(String),
    });
  });

  it("streams the same text, cumulative, and ends with [DONE]", async () => {
    const whole = await post(`${server.url}/generate`, { text: "Once upon a time,", sampling_params: greedy(24) });
    const response = await fetch(`${server.url}/generate`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ text: "Once upon a time,", sampling_params: greedy(24), stream: true }),
    });
    const events = (await response.text()).trim().split("\n\n");
    expect(events.at(-1)).toBe("data: [DONE]");
    const texts = events.slice(0, -1).map((e) => (JSON.parse(e.slice(6)) as { text: string }).text);
    for (let i = 1; i < texts.length; i++) expect(texts[i].startsWith(texts[i - 1])).toBe(true);
    expect(texts.at(-1)).toBe(whole.json.text);
  });

  it("answers a batch as it answers its items one by one", async () => {
    const texts = ["The sea is", "def fibonacci(n):", "春天来了", "The sea is"];
    const batch = await post(`${server.url}/generate`, { text: texts, sampling_params: greedy(12) });
    for (const [i, text] of texts.entries()) {
      const one = await post(`${server.url}/generate`, { text, sampling_params: greedy(12) });
      expect(batch.json[i].output_ids).toEqual(one.json.output_ids);
    }
  });

  it("reuses a prefix that was computed before, and says how much", async () => {
    const prefix = "A long story about a lighthouse. ".repeat(20);
    const first = await post(`${server.url}/generate`, { text: `${prefix} One:`, sampling_params: greedy(4) });
    const second = await post(`${server.url}/generate`, { text: `${prefix} Two:`, sampling_params: greedy(4) });
    expect(second.json.meta_info.cached_tokens).toBeGreaterThan(first.json.meta_info.prompt_tokens * 0.8);
  });

  it("stops computing for a client that has gone", async () => {
    const leave = new AbortController();
    const response = await fetch(`${server.url}/generate`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        text: "Count:",
        sampling_params: { max_new_tokens: 2000, ignore_eos: true, temperature: 0 },
        stream: true,
      }),
      signal: leave.signal,
    });
    await response.body?.getReader().read();
    leave.abort();
    await idle(server.url);
    const after = await (await fetch(`${server.url}/metrics`)).text();
    expect(after).toMatch(/sglang:num_running_reqs\{[^}]*\} 0/);
  });

  it.skipIf(!process.env.SGLANG_TEST_PYTHON)("serves the real OpenAI client for Python", () => {
    const run = spawnSync(
      process.env.SGLANG_TEST_PYTHON ?? "python3",
      [join(import.meta.dirname, "openai_client.py"), server.url],
      { encoding: "utf8" },
    );
    expect(run.stderr).toBe("");
    const out = JSON.parse(run.stdout) as Json;
    const text = out.chat.choices[0].message.content as string;
    expect(text.length).toBeGreaterThan(20);
    expect(out.stream.text).toBe(text);
    expect(out.stream.finish).toBe(out.chat.choices[0].finish_reason);
    expect(out.stream.usage).toMatchObject({
      prompt_tokens: out.chat.usage.prompt_tokens,
      completion_tokens: out.chat.usage.completion_tokens,
    });
    expect(out.completion.choices[0].logprobs.tokens).toHaveLength(out.completion.usage.completion_tokens);
    expect(out.models).toHaveLength(1);
    expect(out.error).toMatchObject({ status: 400, param: "temperature" });
  });

  it("lists itself, its numbers and its API", async () => {
    for (const path of [
      "/health",
      "/health_generate",
      "/model_info",
      "/get_model_info",
      "/server_info",
      "/get_server_info",
      "/v1/models",
      "/openapi.json",
      "/docs",
    ])
      expect((await fetch(`${server.url}${path}`)).status, path).toBe(200);
  });
});

describe("a server's life", () => {
  it("finishes running requests on SIGTERM and exits with 0", async () => {
    const server = await serve();
    const running = post(`${server.url}/generate`, {
      text: "Tell me more:",
      sampling_params: { ...greedy(64), ignore_eos: true },
    });
    await new Promise((r) => setTimeout(r, 300));
    server.child.kill("SIGTERM");
    expect((await running).json.output_ids).toHaveLength(64);
    expect(await server.exit).toBe(0);
  });

  it("gives the same tokens op by op, with other chunk and page sizes, and without the cache", async () => {
    const body = {
      text: `${"Numbers: one two three four five six seven. ".repeat(12)}Next:`,
      sampling_params: greedy(24),
    };
    const outputs: number[][] = [];
    for (const flags of [
      [],
      ["--disable-cuda-graph"],
      ["--chunked-prefill-size", "48", "--page-size", "32"],
      ["--disable-radix-cache", "--page-size", "1"],
    ]) {
      const server = await serve(...flags);
      outputs.push((await post(`${server.url}/generate`, body)).json.output_ids as number[]);
      server.child.kill("SIGTERM");
      await server.exit;
    }
    for (const other of outputs) expect(other).toEqual(outputs[0]);
  });

  it("stops at once on a second signal", async () => {
    const server = await serve();
    const running = post(`${server.url}/generate`, {
      text: "Tell me more:",
      sampling_params: { ...greedy(4000), ignore_eos: true },
    }).catch(() => "cut off");
    for (;;) {
      const info = (await (await fetch(`${server.url}/server_info`)).json()) as Json;
      if (info.internal_states[0].num_running_reqs > 0) break;
    }
    server.child.kill("SIGTERM");
    while (!server.output().includes("once more stops at once")) await new Promise((r) => setTimeout(r, 10));
    server.child.kill("SIGTERM");
    expect(await server.exit).toBe(143);
    expect(await running).toBe("cut off");
  });

  it("says in one sentence that the port is taken, before the model is loaded", async () => {
    const blocker = createTcpServer();
    await new Promise<void>((done) => blocker.listen(0, "127.0.0.1", done));
    const { port } = blocker.address() as { port: number };
    const run = launch(["serve", "--model-path", MODEL, "--offline", "--port", String(port)]);
    expect(await run.exit).toBe(1);
    blocker.close();
    expect(run.output()).toMatch(new RegExp(`^sglang-ts: 127\\.0\\.0\\.1:${port} is already in use: [^\n]*\n$`));
  });

  it.each([
    ["a model that is not there", ["serve", "--model-path", "./no-such-model.gguf"], 2, /no-such-model\.gguf/],
    ["a catalog name with a typo", ["serve", "--model-path", "smollm2-135n", "--offline"], 2, /smollm2-135m/],
    [
      "a flag that means nothing here",
      ["serve", "--model-path", MODEL, "--tp-size", "2"],
      2,
      /--tp-size is not supported/,
    ],
    ["a flag nobody knows", ["serve", "--model-path", MODEL, "--prot", "1"], 2, /--port/],
    ["a value out of range", ["serve", "--model-path", MODEL, "--mem-fraction-static", "7"], 2, /between 0 and 1/],
  ])("refuses %s in one sentence", async (_name, args, code, message) => {
    const run = launch(args);
    expect(await run.exit).toBe(code);
    expect(run.output()).toMatch(message);
    expect(run.output()).not.toMatch(/\n\s+at /);
  });
});

describe("generate", () => {
  const long = ["generate", "--model-path", MODEL, "--offline", "--temperature", "0", "--max-new-tokens", "4000"];

  it("keeps what was written and exits with 130 when Ctrl-C stops it", async () => {
    const run = launch([...long, "Once upon a time,"]);
    while (run.output() === "") await new Promise((r) => setTimeout(r, 10));
    run.child.kill("SIGINT");
    expect(await run.exit).toBe(130);
    expect(run.output()).toMatch(/^ the.*\n$/s);
    expect(run.output()).not.toContain("sglang-ts:");
  });

  it("ends quietly when its reader goes away, as in `| head`", async () => {
    const run = launch([...long, "Once upon a time,"]);
    run.child.stdout?.destroy();
    expect(await run.exit).toBe(141);
    expect(run.output()).toBe("");
  });
});
