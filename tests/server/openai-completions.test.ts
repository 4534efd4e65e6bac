import { describe, expect, it } from "vitest";
import { harness } from "./harness.js";

const URL = "/v1/completions";

describe("completion request", () => {
  const CONVERSIONS: readonly (readonly [what: string, body: object, expected: object[]])[] = [
    [
      "a text, with 16 tokens by default",
      { prompt: "a" },
      [{ prompt: { text: "a" }, samplingParams: { maxNewTokens: 16 }, stream: false }],
    ],
    ["max_tokens null as the default", { prompt: "a", max_tokens: null }, [{ samplingParams: { maxNewTokens: 16 } }]],
    ["max_tokens 0", { prompt: "a", max_tokens: 0 }, [{ samplingParams: { maxNewTokens: 0 } }]],
    [
      "texts",
      { prompt: ["a", "b"], rid: "r" },
      [
        { prompt: { text: "a" }, rid: "r_0" },
        { prompt: { text: "b" }, rid: "r_1" },
      ],
    ],
    ["token ids", { prompt: [1, 2] }, [{ prompt: { inputIds: [1, 2] } }]],
    [
      "lists of token ids",
      { prompt: [[1], [2, 3]] },
      [{ prompt: { inputIds: [1] } }, { prompt: { inputIds: [2, 3] } }],
    ],
    ["logprobs of the answer", { prompt: "a", logprobs: 2 }, [{ logprobs: { startLen: -1, topNum: 2 } }]],
    ["logprobs 0", { prompt: "a", logprobs: 0 }, [{ logprobs: { startLen: -1, topNum: 0 } }]],
    [
      "logprobs of prompt and answer",
      { prompt: "a", logprobs: 1, echo: true },
      [{ logprobs: { startLen: 0, topNum: 1 } }],
    ],
    ["best_of equal to n", { prompt: "a", best_of: 2, n: 2 }, [{ samplingParams: { n: 2 } }]],
    ["an empty suffix", { prompt: "a", suffix: "", user: "u" }, [{}]],
  ];

  it.each(CONVERSIONS)("takes %s", async (_, body, expected) => {
    const { engine, post } = await harness();
    const reply = await post(URL, { model: "m", ...body });
    expect(reply.status, reply.text).toBe(200);
    expect(engine.requests).toMatchObject(expected);
    expect(engine.requests).toHaveLength(expected.length);
  });

  it.each([
    ["no prompt", {}, "prompt", /required/],
    ["an empty list", { prompt: [] }, "prompt", /empty list/],
    ["a mixed list", { prompt: ["a", 1] }, "prompt", /must be a text, a list of texts/],
    ["an empty list in a list", { prompt: [[]] }, "prompt[0]", /empty list/],
    ["a token outside the vocabulary", { prompt: [300] }, "prompt[0]", /\[0, 256\), got 300/],
    ["a suffix", { prompt: "a", suffix: "z" }, "suffix", /fill-in-the-middle/],
    ["best_of above n", { prompt: "a", best_of: 3, n: 2 }, "best_of", /must equal n \(2\)/],
    ["logprobs true", { prompt: "a", logprobs: true }, "logprobs", /must be an integer/],
    ["too many logprobs", { prompt: "a", logprobs: 65 }, "logprobs", /from 0 to 64/],
    ["chat's field", { prompt: "a", messages: [] }, "messages", /not a known field/],
  ])("refuses %s by name", async (_, body, param, says) => {
    const { post } = await harness();
    const reply = await post(URL, body);
    expect(reply.status).toBe(400);
    expect(reply.body).toMatchObject({ object: "error", param, message: expect.stringMatching(says) });
  });
});

describe("completion reply", () => {
  it("has OpenAI's shape", async () => {
    const { post } = await harness();
    expect((await post(URL, { model: "m", prompt: "a", rid: "r" })).body).toEqual({
      id: "r",
      object: "text_completion",
      created: expect.any(Number),
      model: "m",
      choices: [{ index: 0, text: "Hello, world", logprobs: null, finish_reason: "stop", matched_stop: 0 }],
      usage: {
        prompt_tokens: 2,
        completion_tokens: 12,
        total_tokens: 14,
        reasoning_tokens: 0,
        prompt_tokens_details: null,
      },
    });
  });

  it("numbers n answers of several prompts by prompt, and counts each prompt once", async () => {
    const { post } = await harness({
      answer: ({ prompt }, i) => ({ pieces: [`${"text" in prompt && prompt.text}${i}`] }),
    });
    const { body } = await post(URL, { prompt: ["a", "bb"], n: 2 });
    const { choices, usage } = body as { choices: { index: number; text: string }[]; usage: object };
    expect(choices.map(({ index, text }) => [index, text])).toEqual([
      [0, "a0"],
      [1, "a1"],
      [2, "bb0"],
      [3, "bb1"],
    ]);
    expect(usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 10 });
  });

  it("echoes texts and token ids before the answer", async () => {
    const { post } = await harness({ answer: () => ({ pieces: ["!"] }) });
    expect((await post(URL, { prompt: "Hi", echo: true })).body).toMatchObject({ choices: [{ text: "Hi!" }] });
    expect((await post(URL, { prompt: [72, 105], echo: true })).body).toMatchObject({ choices: [{ text: "Hi!" }] });
  });

  it("lists logprobs of the echoed prompt before those of the answer", async () => {
    const { post } = await harness({ answer: () => ({ pieces: ["B"] }) });
    const { body } = await post(URL, { prompt: [65], echo: true, logprobs: 1 });
    expect(body).toMatchObject({
      choices: [
        {
          text: "AB",
          logprobs: {
            tokens: ["A", "B"],
            token_logprobs: [null, -0.66],
            text_offset: [0, 1],
            top_logprobs: [null, { A: -0.1 }],
          },
        },
      ],
    });
  });

  it("has no top_logprobs for logprobs 0", async () => {
    const { post } = await harness({ answer: () => ({ pieces: ["B"] }) });
    expect((await post(URL, { prompt: "a", logprobs: 0 })).body).toMatchObject({
      choices: [{ logprobs: { tokens: ["B"], token_logprobs: [-0.66], text_offset: [0], top_logprobs: null } }],
    });
  });
});

describe("completion stream", () => {
  it("sends the echo first, deltas, finish reason and usage", async () => {
    const { events } = await harness();
    const all = await events(URL, {
      prompt: "Hi",
      echo: true,
      stream: true,
      logprobs: 0,
      stream_options: { include_usage: true },
    });
    expect(all.at(-1)).toBe("[DONE]");
    const chunks = all.slice(0, -1) as {
      choices: { text: string; finish_reason: string | null; logprobs: { text_offset: number[] } }[];
      usage: unknown;
    }[];
    expect(chunks.map(({ choices }) => choices[0]?.text)).toEqual(["Hi" + "Hello", ", ", "world", undefined]);
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason)).toEqual([null, null, "stop", undefined]);
    expect(chunks.map(({ choices }) => choices[0]?.logprobs.text_offset[0])).toEqual([0, 8, 10, undefined]);
    expect(chunks.at(-1)?.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 12 });
  });

  it("interleaves the answers of several prompts under their index", async () => {
    const { events } = await harness({ answer: ({ rid }) => ({ pieces: [`${rid}`, "."] }) });
    const all = (await events(URL, { prompt: ["a", "b"], rid: "r", stream: true })).slice(0, -1) as {
      id: string;
      choices: { index: number; text: string }[];
    }[];
    const texts = ["", ""];
    for (const { choices } of all) texts[choices[0].index] += choices[0].text;
    expect(texts).toEqual(["r_0.", "r_1."]);
    expect(all.every(({ id }) => id === "r")).toBe(true);
  });
});
