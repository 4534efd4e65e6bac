import { describe, expect, it } from "vitest";
import { harness } from "./harness.js";

const PARAMS = { max_new_tokens: 8, temperature: 0 };

describe("/generate request", () => {
  const CONVERSIONS: readonly (readonly [what: string, body: object, expected: object[]])[] = [
    ["a text", { text: "Hi" }, [{ prompt: { text: "Hi" }, samplingParams: {}, stream: false }]],
    ["token ids", { input_ids: [5, 6] }, [{ prompt: { inputIds: [5, 6] } }]],
    ["a list of texts", { text: ["a", "b"] }, [{ prompt: { text: "a" } }, { prompt: { text: "b" } }]],
    [
      "lists of token ids",
      { input_ids: [[1], [2, 3]] },
      [{ prompt: { inputIds: [1] } }, { prompt: { inputIds: [2, 3] } }],
    ],
    ["a rid", { text: "a", rid: "r1" }, [{ rid: "r1" }]],
    ["a rid as the prefix of a batch", { text: ["a", "b"], rid: "r" }, [{ rid: "r_0" }, { rid: "r_1" }]],
    ["a rid per prompt", { text: ["a", "b"], rid: ["x", "y"] }, [{ rid: "x" }, { rid: "y" }]],
    [
      "every sampling parameter",
      {
        text: "a",
        sampling_params: {
          max_new_tokens: 5,
          min_new_tokens: 1,
          stop: "x",
          stop_token_ids: [3],
          stop_regex: ["a+"],
          temperature: 0.5,
          top_p: 0.9,
          top_k: 4,
          min_p: 0.1,
          frequency_penalty: 1,
          presence_penalty: -1,
          repetition_penalty: 1.1,
          n: 1,
          ignore_eos: true,
          skip_special_tokens: false,
          spaces_between_special_tokens: false,
          no_stop_trim: true,
          logit_bias: { "7": 2 },
          sampling_seed: 9,
        },
      },
      [
        {
          samplingParams: {
            maxNewTokens: 5,
            minNewTokens: 1,
            stop: ["x"],
            stopTokenIds: [3],
            stopRegex: ["a+"],
            temperature: 0.5,
            topP: 0.9,
            topK: 4,
            minP: 0.1,
            frequencyPenalty: 1,
            presencePenalty: -1,
            repetitionPenalty: 1.1,
            n: 1,
            ignoreEos: true,
            skipSpecialTokens: false,
            spacesBetweenSpecialTokens: false,
            noStopTrim: true,
            logitBias: { 7: 2 },
            seed: 9,
          },
        },
      ],
    ],
    [
      "nulls as defaults",
      { text: "a", sampling_params: { top_p: null, stop: null, n: null }, stream: null },
      [{ samplingParams: {} }],
    ],
    [
      "max_new_tokens null as no limit",
      { text: "a", sampling_params: { max_new_tokens: null } },
      [{ samplingParams: { maxNewTokens: null } }],
    ],
    [
      "sampling parameters per prompt",
      { text: ["a", "b"], sampling_params: [{ top_k: 1 }, { top_k: 2 }] },
      [{ samplingParams: { topK: 1 } }, { samplingParams: { topK: 2 } }],
    ],
    [
      "logprob fields",
      { text: "a", return_logprob: true, logprob_start_len: 0, top_logprobs_num: 2, token_ids_logprob: [4] },
      [{ logprobs: { startLen: 0, topNum: 2, tokenIds: [4] } }],
    ],
    [
      "logprob fields per prompt",
      { text: ["a", "b"], return_logprob: [true, false], top_logprobs_num: [1, 0], token_ids_logprob: [[4], null] },
      [{ logprobs: { startLen: -1, topNum: 1, tokenIds: [4] } }, { logprobs: undefined }],
    ],
    ["a cache namespace", { text: "a", extra_key: "k" }, [{ extraKey: '[null,"k"]' }]],
    ["a salt, which is no key of the same name", { text: "a", cache_salt: "k" }, [{ extraKey: '["k",null]' }]],
    ["a salted cache namespace", { text: "a", extra_key: "k", cache_salt: "s" }, [{ extraKey: '["s","k"]' }]],
    [
      "refused fields at their harmless values",
      {
        text: "a",
        lora_path: null,
        return_hidden_states: false,
        image_data: null,
        priority: null,
        session_params: null,
        background: false,
        sampling_params: { json_schema: null, regex: null },
      },
      [{ samplingParams: {} }],
    ],
  ];

  it.each(CONVERSIONS)("takes %s", async (_, body, expected) => {
    const { engine, post } = await harness();
    const reply = await post("/generate", body);
    expect(reply.text).toBeTruthy();
    expect(reply.status).toBe(200);
    expect(engine.requests).toMatchObject(expected);
    expect(engine.requests).toHaveLength(expected.length);
  });

  it("gives the engine exactly the sampling parameters that were sent", async () => {
    const { engine, post } = await harness();
    await post("/generate", { text: "a", sampling_params: PARAMS });
    expect(engine.requests[0].samplingParams).toEqual({ maxNewTokens: 8, temperature: 0 });
  });

  it("takes PUT like POST", async () => {
    const { app } = await harness();
    const reply = await app.inject({ method: "PUT", url: "/generate", payload: { text: "a" } });
    expect(reply.json()).toMatchObject({ text: "Hello, world" });
  });

  const REFUSALS: readonly (readonly [what: string, body: unknown, param: string | null, says: RegExp])[] = [
    ["a body that is a list", [], null, /must be a JSON object, got a list/],
    ["a body that is null", "null", null, /must be a JSON object, got null/],
    ["no prompt", {}, "text", /text is required/],
    ["both prompts", { text: "a", input_ids: [1] }, "input_ids", /either text or input_ids/],
    ["a prompt of the wrong type", { text: 5 }, "text", /text must be a text or a list of texts, got 5/],
    ["an empty batch", { text: [] }, "text", /must not be an empty list/],
    ["empty token ids", { input_ids: [] }, "input_ids", /must not be an empty list/],
    ["empty token ids in a batch", { input_ids: [[1], []] }, "input_ids[1]", /must not be an empty list/],
    ["a token outside the vocabulary", { input_ids: [1, 256] }, "input_ids[1]", /in \[0, 256\), got 256/],
    ["a fractional token", { input_ids: [1.5] }, "input_ids", /list of token ids.*, got \[1\.5\]/],
    ["a long list", { input_ids: Array(9).fill("a") }, "input_ids", /list of token ids.*, got a list/],
    ["an unknown field", { text: "a", temprature: 1 }, "temprature", /not a known field/],
    ["a mistyped field", { text: "a", return_logprobs: true }, "return_logprobs", /Did you mean return_logprob\?/],
    [
      "an unknown sampling field",
      { text: "a", sampling_params: { top_b: 1 } },
      "sampling_params.top_b",
      /Did you mean top_p\?/,
    ],
    [
      "OpenAI's name of a sampling field",
      { text: "a", sampling_params: { max_tokens: 1 } },
      "sampling_params.max_tokens",
      /Did you mean max_new_tokens\?/,
    ],
    [
      "a sampling value out of range",
      { text: "a", sampling_params: { top_p: 2 } },
      "sampling_params.top_p",
      /in \(0, 1\], got .?2/,
    ],
    [
      "a sampling value of the wrong type",
      { text: "a", sampling_params: { top_p: "x" } },
      "sampling_params.top_p",
      /must be a number, got "x"/,
    ],
    [
      "a bias that is no number",
      { text: "a", sampling_params: { logit_bias: { "5": "x" } } },
      "sampling_params.logit_bias",
      /must be .*, got \{"5":"x"\}/,
    ],
    [
      "a bias for something that is no token",
      { text: "a", sampling_params: { logit_bias: { "": 1 } } },
      "sampling_params.logit_bias",
      /keys are token ids/,
    ],
    [
      "a range error inside a batch",
      { text: ["a", "b"], sampling_params: [{}, { n: 0 }] },
      "sampling_params[1].n",
      /n must be an integer from 1/,
    ],
    [
      "different n in a batch",
      { text: ["a", "b"], sampling_params: [{ n: 1 }, { n: 2 }] },
      "sampling_params[1].n",
      /the same for every item/,
    ],
    [
      "too few sampling parameters",
      { text: ["a", "b"], sampling_params: [{}] },
      "sampling_params",
      /one entry per prompt \(2\), got 1/,
    ],
    ["a list for a single prompt", { text: "a", rid: ["x", "y"] }, "rid", /single value for a single prompt/],
    ["an empty rid", { text: "a", rid: "" }, "rid", /1 to 256 characters/],
    ["one rid twice", { text: ["a", "b"], rid: ["x", "x"] }, "rid", /must be unique/],
    [
      "a negative logprob start",
      { text: "a", return_logprob: true, logprob_start_len: -2 },
      "logprob_start_len",
      />= -1, got -2/,
    ],
    [
      "too many top logprobs",
      { text: "a", return_logprob: true, top_logprobs_num: 65 },
      "top_logprobs_num",
      /from 0 to 64/,
    ],
    ["a LoRA adapter", { text: "a", lora_path: "x" }, "lora_path", /lora_path is not supported: LoRA/],
    ["an image", { text: "a", image_data: "x" }, "image_data", /image_data is not supported/],
    ["a session's label", { text: "a", session_id: "s" }, "session_id", /session_params\.id/],
    ["a session without a name", { text: "a", session_params: { rid: "r" } }, "session_params.id", /required/],
    [
      "an unknown member of a session",
      { text: "a", session_params: { id: "s", ofset: 1 } },
      "session_params.ofset",
      /offset/,
    ],
    ["a timeout that has passed already", { text: "a", timeout_s: 0 }, "timeout_s", /above 0, .*got 0/],
    ["a priority that is no integer", { text: "a", priority: 1.5 }, "priority", /an integer/],
    ["embeddings as a prompt", { input_embeds: [[0.1]] }, "input_embeds", /not supported/],
    ["a key that is a property of every object", { text: "a", constructor: 1 }, "constructor", /not a known field/],
  ];

  it.each(REFUSALS)("refuses %s by name", async (_, body, param, says) => {
    const { engine, post } = await harness();
    const reply = await post("/generate", body);
    expect(reply.status).toBe(400);
    const { error } = reply.body as { error: { message: string; param: string | null } };
    expect(error.message).toMatch(says);
    expect(error.param).toBe(param);
    expect(engine.requests).toHaveLength(0);
  });
});

describe("/generate reply", () => {
  it("has SGLang's shape", async () => {
    const { post } = await harness({}, { weightVersion: "v7" });
    const reply = await post("/generate", { text: "Hi", rid: "r", sampling_params: PARAMS });
    expect(reply.body).toEqual({
      text: "Hello, world",
      output_ids: [...Buffer.from("Hello, world")],
      meta_info: {
        id: "r",
        finish_reason: { type: "stop", matched: 0 },
        prompt_tokens: 3,
        weight_version: "v7",
        num_retractions: 0,
        completion_tokens: 12,
        cached_tokens: 1,
        e2e_latency: 0.27,
      },
    });
  });

  it("is a list for a batch, in the order of the prompts, and for n answers", async () => {
    const { post } = await harness({
      answer: ({ prompt }, index) => ({ pieces: [`${"text" in prompt ? prompt.text : ""}${index}`] }),
    });
    const texts = (body: unknown) => (body as { text: string }[]).map(({ text }) => text);
    expect(texts((await post("/generate", { text: ["a"] })).body)).toEqual(["a0"]);
    expect(texts((await post("/generate", { text: "a", sampling_params: { n: 2 } })).body)).toEqual(["a0", "a1"]);
    const both = await post("/generate", { text: ["a", "b"], sampling_params: { n: 2 } });
    expect(texts(both.body)).toEqual(["a0", "a1", "b0", "b1"]);
  });

  it("carries logprobs as SGLang lists them", async () => {
    const { post } = await harness({ answer: () => ({ pieces: ["A", "B"] }) });
    const ask = { text: "x", return_logprob: true, logprob_start_len: 0, top_logprobs_num: 1, token_ids_logprob: [66] };
    const { meta_info } = (await post("/generate", ask)).body as { meta_info: Record<string, unknown> };
    expect(meta_info).toMatchObject({
      input_token_logprobs: [
        [null, 1, null],
        [-1.2, 120, null],
      ],
      output_token_logprobs: [
        [-0.65, 65, null],
        [-0.66, 66, null],
      ],
      output_token_logprobs_length: 2,
      input_top_logprobs: [null, [[-0.1, 65, null]]],
      output_top_logprobs: [[[-0.1, 65, null]], [[-0.1, 65, null]]],
      input_token_ids_logprobs: [null, [[-0.5, 66, null]]],
      output_token_ids_logprobs: [[[-0.5, 66, null]], [[-0.5, 66, null]]],
    });
    const named = await post("/generate", { text: "x", return_logprob: true, return_text_in_logprobs: true });
    const { meta_info: withText } = named.body as { meta_info: Record<string, unknown> };
    expect(withText.output_token_logprobs).toEqual([
      [-0.65, 65, "A"],
      [-0.66, 66, "B"],
    ]);
    expect(withText).not.toHaveProperty("output_top_logprobs");
    expect(withText.input_token_logprobs).toEqual([]);
  });

  it("returns the prompt's tokens when asked", async () => {
    const { post } = await harness();
    expect((await post("/generate", { input_ids: [7, 8], return_prompt_token_ids: true })).body).toMatchObject({
      prompt_token_ids: [7, 8],
    });
  });

  it.each([
    ["stop at a text", { type: "stop", matched: "\n" }, { type: "stop", matched: "\n" }],
    ["length", { type: "length", length: 12 }, { type: "length", length: 12 }],
    ["abort", { type: "abort", message: "gone" }, { type: "abort", message: "gone" }],
  ] as const)("reports the finish reason %s", async (_, finish, expected) => {
    const { post } = await harness({ answer: () => ({ pieces: ["x"], finish }) });
    expect((await post("/generate", { text: "a" })).body).toMatchObject({ meta_info: { finish_reason: expected } });
  });

  it.each([
    [400, 400],
    [503, 503],
    [500, 500],
  ])("answers an abort with status %i as HTTP %i", async (statusCode, status) => {
    const finish = { type: "abort", message: "The reason.", statusCode } as const;
    const { post } = await harness({ answer: () => ({ pieces: ["x"], finish }) });
    const reply = await post("/generate", { text: "a" });
    expect(reply.status).toBe(status);
    expect(reply.body).toMatchObject({ error: { message: "The reason." } });
  });
});

describe("/generate stream", () => {
  const ask = { text: "Hi", stream: true, rid: "r" };

  it("sends everything so far with every event, then [DONE]", async () => {
    const { events } = await harness();
    const all = (await events("/generate", ask)) as {
      text: string;
      output_ids: number[];
      meta_info: Record<string, unknown>;
    }[];
    expect(all.at(-1)).toBe("[DONE]");
    const chunks = all.slice(0, -1);
    expect(chunks.map(({ text }) => text)).toEqual(["Hello", "Hello, ", "Hello, world"]);
    expect(chunks.map(({ output_ids }) => output_ids.length)).toEqual([5, 7, 12]);
    expect(chunks.map(({ meta_info }) => meta_info.finish_reason)).toEqual([null, null, { type: "stop", matched: 0 }]);
    expect(chunks.map(({ meta_info }) => "e2e_latency" in meta_info)).toEqual([false, false, true]);
    expect(chunks.every((chunk) => !("index" in chunk))).toBe(true);
  });

  it("sends deltas when the server is told so, logprobs too", async () => {
    const { events } = await harness({}, { incrementalStreamingOutput: true });
    const all = await events("/generate", { ...ask, return_logprob: true });
    const chunks = all.slice(0, -1) as { text: string; output_ids: number[]; meta_info: Record<string, unknown[]> }[];
    expect(chunks.map(({ text }) => text)).toEqual(["Hello", ", ", "world"]);
    expect(chunks.map(({ output_ids }) => output_ids.length)).toEqual([5, 2, 5]);
    expect(chunks.map(({ meta_info }) => meta_info.output_token_logprobs.length)).toEqual([5, 2, 5]);
    expect(chunks.map(({ meta_info }) => meta_info.output_token_logprobs_length)).toEqual([5, 7, 12]);
  });

  it("numbers the answers of a batch", async () => {
    const { events } = await harness({ answer: ({ rid }, i) => ({ pieces: [`${rid}:${i}`, "."] }) });
    const all = await events("/generate", { ...ask, text: ["a", "b"], sampling_params: { n: 2 } });
    const last = new Map<number, string>();
    for (const event of all.slice(0, -1) as { index: number; text: string }[]) last.set(event.index, event.text);
    expect([...last].sort()).toEqual([
      [0, "r_0:0."],
      [1, "r_0:1."],
      [2, "r_1:0."],
      [3, "r_1:1."],
    ]);
  });

  it("answers an error before the first event with its HTTP status", async () => {
    const { post } = await harness({ fail: { error: new Error("boom") } });
    const reply = await post("/generate", ask);
    expect(reply.status).toBe(500);
    expect(reply.body).toMatchObject({ error: { message: "Internal error: boom" } });
  });

  it("sends a later error as one event before [DONE], after what was already said", async () => {
    const { events } = await harness({ fail: { error: new Error("boom"), after: 1 } });
    const all = await events("/generate", ask);
    expect(all).toHaveLength(3);
    expect(all[0]).toMatchObject({ text: "Hello" });
    expect(all[1]).toMatchObject({ error: { message: "Internal error: boom" } });
    expect(all[2]).toBe("[DONE]");
  });
});
