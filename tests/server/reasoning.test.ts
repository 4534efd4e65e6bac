/** Thinking over HTTP: apart from the answer or in it, streamed or held back, counted, with tools and constraints. */
import { describe, expect, it } from "vitest";
import { harness } from "./harness.js";

const URL = "/v1/chat/completions";
const CHAT = { messages: [{ role: "user", content: "1+1?" }] };
const PIECES = ["<thi", "nk>One ", "and one.</th", "ink>\n", "\nTwo", "."];
const CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>';
const TOOLS = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
const qwen3 = { reasoningParser: "qwen3" };
const says = (...pieces: string[]) => ({ answer: () => ({ pieces }) });

interface Reply {
  choices: { message: Record<string, unknown>; finish_reason: string }[];
  usage: Record<string, unknown>;
}
interface Event {
  choices: { delta: Record<string, unknown> }[];
}
const deltas = (events: unknown[], key: string) =>
  (events as Event[]).flatMap(({ choices = [] }) => choices.flatMap(({ delta }) => (delta[key] ? [delta[key]] : [])));

describe("chat with a reasoning parser", () => {
  it("keeps thinking apart from the answer, and counts its tokens", async () => {
    const { post } = await harness(says(...PIECES), qwen3);
    const { choices, usage } = (await post(URL, { ...CHAT, n: 2 })).body as Reply;
    for (const { message } of choices)
      expect(message).toMatchObject({ reasoning_content: "One and one.", content: "Two." });
    // A byte is a token here.
    const thinking = 2 * "<think>One and one.</think>".length;
    expect(usage).toMatchObject({
      reasoning_tokens: thinking,
      completion_tokens_details: { reasoning_tokens: thinking },
    });
  });

  it("streams thinking as it comes, or in one piece before the answer", async () => {
    const { events } = await harness(says(...PIECES), qwen3);
    const streamed = await events(URL, { ...CHAT, stream: true });
    expect(deltas(streamed, "reasoning_content")).toEqual(["One ", "and one."]);
    expect(deltas(streamed, "content").join("")).toBe("Two.");
    const held = await events(URL, { ...CHAT, stream: true, stream_reasoning: false });
    expect(deltas(held, "reasoning_content")).toEqual(["One and one."]);
    expect(deltas(held, "content").join("")).toBe("Two.");
  });

  it("thinking that never ends is no answer, held back or not", async () => {
    const { events, post } = await harness(says("<think>Well", ", "), qwen3);
    const { choices } = (await post(URL, CHAT)).body as Reply;
    expect(choices[0].message).toMatchObject({ reasoning_content: "Well, ", content: "" });
    const held = await events(URL, { ...CHAT, stream: true, stream_reasoning: false });
    expect(deltas(held, "reasoning_content")).toEqual(["Well, "]);
  });

  it("separate_reasoning false leaves the text as it is", async () => {
    const { post } = await harness(says(...PIECES), qwen3);
    const { choices, usage } = (await post(URL, { ...CHAT, separate_reasoning: false })).body as Reply;
    expect(choices[0].message).toMatchObject({ reasoning_content: null, content: PIECES.join("") });
    expect(usage.reasoning_tokens).toBe("<think>One and one.</think>".length);
  });

  it("without a parser, text is text", async () => {
    const { engine, post } = await harness(says(...PIECES));
    const { choices, usage } = (await post(URL, { ...CHAT, separate_reasoning: true })).body as Reply;
    expect(choices[0].message).toMatchObject({ reasoning_content: null, content: PIECES.join("") });
    expect(usage).not.toHaveProperty("completion_tokens_details");
    expect(engine.requests[0].reasoning).toBeUndefined();
  });

  it("a call ends thinking that was left open, unless the call is enforced", async () => {
    const { engine, post } = await harness(says("<think>I add.\n", CALL), qwen3);
    const { choices } = (await post(URL, { ...CHAT, tools: TOOLS })).body as Reply;
    expect(choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: { reasoning_content: "I add.\n", tool_calls: [{ function: { name: "add" } }] },
    });
    await post(URL, { ...CHAT, tools: TOOLS, tool_choice: "required" });
    await post(URL, CHAT);
    expect(engine.requests.map(({ reasoning }) => reasoning?.format.interrupt)).toEqual([
      "<tool_call>",
      undefined,
      undefined,
    ]);
  });

  it("reasoning_effort sets the template's variables", async () => {
    const { engine, post } = await harness(says(...PIECES), qwen3);
    await post(URL, { ...CHAT, reasoning_effort: "none" });
    await post(URL, { ...CHAT, reasoning_effort: "high", chat_template_kwargs: { enable_thinking: false } });
    expect(engine.requests.map(({ prompt }) => prompt)).toMatchObject([
      { chatTemplateKwargs: { thinking: false, enable_thinking: false, reasoning_effort: "none" } },
      { chatTemplateKwargs: { thinking: true, enable_thinking: false, reasoning_effort: "high" } },
    ]);
    expect(await post(URL, { ...CHAT, reasoning_effort: "huge" })).toMatchObject({ status: 400 });
    const plain = await harness();
    expect(await plain.post(URL, { ...CHAT, reasoning_effort: "low" })).toMatchObject({
      status: 400,
      body: { param: "reasoning_effort" },
    });
  });
});

describe("/generate", () => {
  it("require_reasoning begins the constraint after the thinking, and keeps the text", async () => {
    const { engine, post } = await harness(says(...PIECES), qwen3);
    const body = { text: "1+1?", require_reasoning: true, sampling_params: { regex: "[a-z]+" } };
    expect((await post("/generate", body)).body).toMatchObject({
      text: PIECES.join(""),
      meta_info: { reasoning_tokens: "<think>One and one.</think>".length },
    });
    expect(engine.requests[0].reasoning).toMatchObject({ separate: false, format: { end: "</think>" } });
    const plain = await harness();
    const refused = await plain.post("/generate", body);
    expect(refused.status).toBe(400);
    expect(refused.text).toContain("--reasoning-parser");
  });
});

describe("/separate_reasoning", () => {
  it("splits a text as SGLang does", async () => {
    const { post } = await harness();
    const reply = await post("/separate_reasoning", {
      text: "why</think>\n\nbecause",
      reasoning_parser: "deepseek-r1",
    });
    expect(reply).toMatchObject({ status: 200, body: { reasoning_text: "why", text: "because" } });
  });

  it.each([
    ["gpt-oss", /gpt-oss.*is not read/],
    ["qwen4", /Did you mean qwen3/],
  ])("refuses %s by name", async (reasoning_parser, says) => {
    const { post } = await harness();
    const reply = await post("/separate_reasoning", { text: "a", reasoning_parser });
    expect(reply.status).toBe(400);
    expect(reply.text).toMatch(says);
    await expect(harness({}, { reasoningParser: reasoning_parser })).rejects.toThrow(/--reasoning-parser/);
  });
});
