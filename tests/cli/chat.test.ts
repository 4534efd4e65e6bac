import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { ChatSession } from "../../src/cli/chat.js";
import { SglangError } from "../../src/core/errors.js";
import type { ChatMessage, EngineApi, GenerateChunk, GenerateRequest } from "../../src/core/protocol.js";

/** Says what it was asked, word by word, and remembers the requests. */
function echoEngine(): { engine: EngineApi; requests: GenerateRequest[]; failNext: () => void } {
  const requests: GenerateRequest[] = [];
  let fail = false;
  const engine = {
    model: { servedModelName: "echo" },
    async *generate(request: GenerateRequest): AsyncGenerator<GenerateChunk> {
      requests.push(
        structuredClone({ prompt: request.prompt, samplingParams: request.samplingParams }) as GenerateRequest,
      );
      if (fail) {
        fail = false;
        throw new SglangError("CONTEXT_TOO_LONG", "The prompt does not fit.");
      }
      const messages = (request.prompt as { messages: readonly ChatMessage[] }).messages;
      const words = ["You", " said", ` ${messages.at(-1)?.content}`];
      for (const [i, word] of words.entries())
        yield {
          rid: "r",
          index: 0,
          textDelta: word,
          tokenIdsDelta: [i],
          finishReason: i === words.length - 1 ? { type: "stop", matched: 0 } : null,
          usage: { promptTokens: 10, completionTokens: i + 1, cachedTokens: 4 },
          timing: { queuedMs: 0, firstTokenMs: 5, totalMs: 25, retractions: 0 },
        };
    },
  } as unknown as EngineApi;
  return {
    engine,
    requests,
    failNext: () => {
      fail = true;
    },
  };
}

async function talk(lines: string[], options: ConstructorParameters<typeof ChatSession>[3] = {}) {
  const { engine, requests, failNext } = echoEngine();
  const input = new PassThrough();
  const output = new PassThrough();
  let text = "";
  output.on("data", (d: Buffer) => {
    text += d.toString();
  });
  const session = new ChatSession(engine, input, output, options);
  if (lines[0] === "FAIL") {
    failNext();
    lines = lines.slice(1);
  }
  const done = session.run();
  for (const line of lines) input.write(`${line}\n`);
  input.end();
  await done;
  return { text, messages: requests.map((r) => (r.prompt as { messages: readonly ChatMessage[] }).messages) };
}

describe("the terminal chat", () => {
  it("streams answers, keeps the conversation, and tells tokens and speed", async () => {
    const { text, messages } = await talk(["hello", "again"]);
    expect(text).toContain("You said hello");
    expect(text).toContain("[10 prompt tokens, 4 from the cache, 3 new; first after 0.01 s, 100.0 tok/s]");
    expect(messages[1]).toEqual([
      { role: "user", content: "hello" },
      { role: "assistant", content: "You said hello" },
      { role: "user", content: "again" },
    ]);
  });

  it("starts over on /reset and keeps the system message", async () => {
    const { messages } = await talk(["hello", "/reset", "again"], { system: "Be brief." });
    expect(messages[1]).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "again" },
    ]);
  });

  it("changes and removes the system message with /system", async () => {
    const { messages } = await talk(["/system You are a poet.", "a", "/system", "b"]);
    expect(messages[0]).toEqual([
      { role: "system", content: "You are a poet." },
      { role: "user", content: "a" },
    ]);
    expect(messages[1]).toEqual([{ role: "user", content: "b" }]);
  });

  it("names an unknown command, and leaves on /exit", async () => {
    const { text, messages } = await talk(["/quiet", "/exit", "never sent"]);
    expect(text).toContain("/quiet is not a command");
    expect(messages).toEqual([]);
  });

  it("throws away what was typed when Ctrl-C is pressed at the prompt", async () => {
    const { engine, requests } = echoEngine();
    const input = new PassThrough();
    const output = Object.assign(new PassThrough(), { isTTY: true });
    let shown = "";
    output.on("data", (d: Buffer) => {
      shown += d.toString();
    });
    const done = new ChatSession(engine, input, output).run();
    input.write("half typed\u0003hello\r");
    // Typed at an empty prompt it tells how to leave.
    input.write("\u0003/exit\r");
    await done;
    expect(requests.map(({ prompt }) => prompt)).toEqual([{ messages: [{ role: "user", content: "hello" }] }]);
    expect(shown.split("Ctrl-D leaves").length - 1).toBe(1);
  });

  it("shows an error and keeps the failed message out of the conversation", async () => {
    const { text, messages } = await talk(["FAIL", "too long", "short"]);
    expect(text).toContain("error: The prompt does not fit.");
    expect(messages[1]).toEqual([{ role: "user", content: "short" }]);
  });
});
