/** SGLang's own program tests (`test_programs.py`), on the scripted backend. */
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { FakeBackend, promptOf } from "../../src/lang/backends/fake.js";
import { gen, genInt, image, program, select, tool } from "../../src/lang/index.js";

describe("programs of SGLang's tests", () => {
  it("few_shot_qa: gen with a stop, run and batch, answers in order", async () => {
    const facts: Record<string, string> = { France: "Paris", Germany: "Berlin", Italy: "Rome" };
    const backend = new FakeBackend({
      answers: (request) => {
        const country = /capital of (\w+)\?\nA:$/.exec(promptOf(request))?.[1] ?? "?";
        return ` ${facts[country]}\nQ: What else?`;
      },
    });
    const qa = program(async (s, country: string) => {
      s.text("Q: What is the capital of Spain?\nA: Madrid\n");
      s.text`Q: What is the capital of ${country}?\nA:`;
      return s.append(gen("answer", { stop: "\n" }));
    });
    const { value } = await qa.run("France", { backend, temperature: 0 });
    expect(value).toBe(" Paris");
    expect(backend.requests[0].sampling).toEqual({ temperature: 0, stop: ["\n"] });
    const all = await qa.batch(["Germany", "Italy", "France"], { backend });
    expect(all.map((item) => item.ok && item.value)).toEqual([" Berlin", " Rome", " Paris"]);
  });

  it("mt_bench: roles as calls and by hand give the same five messages", async () => {
    const backend = new FakeBackend({
      answers: (request) => `answer ${request.prompt.type === "chat" && request.prompt.messages.length}`,
    });
    const calls = program(async (s) => {
      s.system("You are helpful.");
      s.user("First?");
      s.assistant(gen("answer_1"));
      s.user("Second?");
      s.assistant(gen("answer_2"));
    });
    const byHand = program(async (s) => {
      for (const [role, text] of [
        ["system", "You are helpful."],
        ["user", "First?"],
      ] as const) {
        s.begin(role);
        s.text(text);
        s.end();
      }
      s.begin("assistant");
      s.append(gen("answer_1"));
      s.end();
      s.begin("user");
      s.text("Second?");
      s.end();
      s.begin("assistant");
      s.append(gen("answer_2"));
      s.end();
    });
    const [one, two] = [await calls.run({ backend }), await byHand.run({ backend })];
    expect(one.messages).toHaveLength(5);
    expect(one.messages).toEqual(two.messages);
    expect(one.messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user", "assistant"]);
    expect(await one.get("answer_2")).toBe("answer 4");
  });

  it("select: the likeliest of True, False and Unknown", async () => {
    const likely: Record<string, number> = { True: -0.2, False: -2, Unknown: -3 };
    const backend = new FakeBackend({ scores: (choice) => [likely[choice]] });
    const check = program(async (s, statement: string) => {
      s.text`Determine whether the statement is True, False, or Unknown.\nStatement: ${statement}\nAnswer: `;
      return s.append(select("answer", ["True", "False", "Unknown"]));
    });
    const result = await check.run("The capital of France is Paris.", { backend });
    expect(result.value).toBe("True");
    expect((await result.meta("answer")).choices?.map(({ score }) => score)).toEqual([-0.2, -2, -3]);
    expect(result.text.endsWith("Answer: True")).toBe(true);
  });

  it("decode_int and dtype_gen: int, float, bool and string are values of their type", async () => {
    const backend = new FakeBackend({ answers: ["1 2", "3.5\n", "True", '"blue sky"', "-7 apples"] });
    const types = program(async (s) => {
      s.text("Five: ");
      return {
        int: s.append(gen({ type: "int" })),
        float: s.append(gen({ type: "float" })),
        bool: s.append(gen({ type: "bool" })),
        string: s.append(gen({ type: "string" })),
        named: s.append(genInt("apples")),
      };
    });
    const result = await types.run({ backend });
    expect(result.value).toEqual({ int: 1, float: 3.5, bool: true, string: "blue sky", named: -7 });
    expect(backend.requests[0].sampling.stop).toEqual([" ", "\n"]);
    expect(backend.requests[0].constraint).toEqual({ type: "regex", pattern: "[-+]?[0-9]+[ \\n]*" });
  });

  it("decode_json_regex: pieces of JSON inside a scope parse as JSON", async () => {
    const backend = new FakeBackend({ answers: ["Paris", "2148000", "48.8"] });
    const city = program(async (s) => {
      s.text("Describe a city as JSON.\n");
      const json = s.scope("json", () => {
        s.text('{"name": "');
        s.append(gen({ regex: /[A-Za-z ]+/ }));
        s.text('", "population": ');
        s.append(gen({ regex: "[0-9]+" }));
        s.text(', "latitude": ');
        s.append(gen({ regex: "[0-9]+\\.[0-9]" }));
        s.text("}");
      });
      return json;
    });
    const { value } = await city.run({ backend });
    expect(JSON.parse(value)).toEqual({ name: "Paris", population: 2148000, latitude: 48.8 });
  });

  it("decode_json: a schema decides the constraint and the value", async () => {
    const backend = new FakeBackend({ answers: ['{"name":"Ada","age":36}'] });
    const person = program(async (s) => {
      s.user("Who wrote the first program?");
      return s.assistant(gen("person", { schema: z.object({ name: z.string(), age: z.int() }) }));
    });
    const { value } = await person.run({ backend });
    expect(value).toEqual({ name: "Ada", age: 36 });
    expect(backend.requests[0].constraint).toMatchObject({
      type: "jsonSchema",
      name: "person",
      schema: { type: "object", required: ["name", "age"], additionalProperties: false },
    });
  });

  it("expert_answer: a variable is used inside the next prompt without waiting for it", async () => {
    const backend = new FakeBackend({ answers: ["a physicist", "E = mc2"] });
    const expert = program(async (s, question: string) => {
      s.user`Who is an expert on: ${question}`;
      const who = s.assistant(gen("expert"));
      s.user`Answer as ${who} would: ${question}`;
      return s.assistant(gen("answer"));
    });
    const result = await expert.run("energy", { backend });
    expect(result.value).toBe("E = mc2");
    expect(promptOf(backend.requests[1])).toContain("user: Answer as a physicist would: energy");
  });

  it("tool_use: a function of the outside world between gens", async () => {
    const backend = new FakeBackend({ answers: ["3*14", "42 it is."] });
    const calculator = program(async (s) => {
      s.text("Compute 3 times 14.\nExpression: ");
      const expression = await s.append(gen("expression", { stop: "\n" }));
      const [a, b] = expression.split("*").map(Number);
      const line = s.scope("result", () => s.text`\nResult: ${a * b}\n`);
      s.append(gen("answer"));
      return { line, answer: s.get("answer") };
    });
    expect((await calculator.run({ backend })).value).toEqual({ line: "\nResult: 42\n", answer: "42 it is." });
  });

  it("react: a select steers the loop", async () => {
    const steps = ["Search", "Finish"];
    let step = 0;
    const backend = new FakeBackend({
      answers: ["I should look.", "cats", "I know.", "cats purr"],
      scores: (choice, prompt) => [choice === steps[(prompt ?? "").split("Action").length - 2] ? -0.1 : -5],
    });
    const react = program(async (s, question: string) => {
      s.text`Question: ${question}\n`;
      for (; step < 5; step++) {
        s.text`Thought: ${gen("thought", { stop: "\n" })}\nAction: `;
        const action = await s.append(select("action", ["Search", "Finish"]));
        const argument = s.text`[${gen("argument", { stop: "]" })}]\n`;
        if (action === "Finish") return argument;
        s.text`Observation: found ${argument}\n`;
      }
      return "gave up";
    });
    const { value, text } = await react.run("What do cats do?", { backend });
    expect(value).toBe("cats purr");
    expect(text).toContain("Action: Search[cats]\nObservation: found cats\nThought: I know.\nAction: Finish");
  });

  it("parallel_decoding: forks are told to the backend, joined, and their values used", async () => {
    const backend = new FakeBackend({
      cache: true,
      answers: (request) => `tip about ${/about (topic\d)/.exec(promptOf(request))?.[1]}`,
    });
    const tips = program(async (s) => {
      s.text("Five tips for staying healthy, in some detail, for people who have never cared about it. ");
      const forks = s.fork(5);
      forks.append((index) => `Write about topic${index}: `);
      forks.append(gen("tip", { maxTokens: 8 }));
      await forks.join();
      const values = await s.get<string[]>("tip");
      s.text`In summary: ${values.join("; ")}`;
      return values;
    });
    const result = await tips.run({ backend });
    expect(result.value).toEqual([0, 1, 2, 3, 4].map((index) => `tip about topic${index}`));
    expect(backend.hints).toHaveLength(1);
    const shared = promptOf({ prompt: backend.hints[0] }).trim().split(/\s+/).length;
    for (const call of result.trace().calls()) expect(call.meta?.usage.cachedTokens).toBeGreaterThanOrEqual(shared);
  });

  it("parallel_encoding: concatenate appends the forks' texts in order", async () => {
    const backend = new FakeBackend({ answers: ["done"] });
    const read = program(async (s) => {
      s.text("Documents:\n");
      s.fork(["one", "two", "three"], (f, text) => void f.text`[${text}]\n`, { join: "concatenate" });
      s.text("Summary: ");
      return s.append(gen());
    });
    await read.run({ backend });
    expect(promptOf(backend.requests[0])).toBe("Documents:\n[one]\n[two]\n[three]\nSummary: ");
  });

  it("image_qa: bytes reach the backend with their media type", async () => {
    const backend = new FakeBackend({ answers: ["A cat."] });
    const png = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
    const ask = program(async (s, question: string) => {
      s.user(image(png), question);
      return s.assistant(gen());
    });
    const { value, messages } = await ask.run("What is it?", { backend });
    expect(value).toBe("A cat.");
    expect(messages[0].content).toEqual([
      { type: "image", mediaType: "image/png", data: png },
      { type: "text", text: "What is it?" },
    ]);
  });

  it("stream: whole text and one variable, piece by piece", async () => {
    const backend = () => new FakeBackend({ answers: ["one two three", "four five"] });
    const count = program(async (s) => {
      s.text("Count: ");
      s.append(gen("first"));
      s.text("; ");
      s.append(gen("second"));
    });
    const whole: string[] = [];
    for await (const piece of count.stream({ backend: backend() }).text()) whole.push(piece);
    expect(whole).toEqual(["Count: ", "one", " two", " three", "; ", "four", " five"]);
    const second: string[] = [];
    for await (const piece of count.stream({ backend: backend() }).text("second")) second.push(piece);
    expect(second).toEqual(["four", " five"]);
  });

  it("regex: an IP address", async () => {
    const backend = new FakeBackend({ answers: ["8.8.8.8"] });
    const address = program(async (s) => {
      s.user("What is the IP address of Google's DNS server?");
      return s.assistant(gen({ regex: /((25[0-5]|2[0-4]\d|[01]?\d\d?).){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)/ }));
    });
    expect((await address.run({ backend })).value).toBe("8.8.8.8");
  });

  it("completion_speculative: fewer requests and fewer prompt tokens for the same text", async () => {
    const script = ["Construct", " a character", "Name: Ada\nBirthday: 10 December\nJob: programmer\n"];
    const fields = program(async (s) => {
      s.text(script.slice(0, 2).join(""));
      s.text`\nName:${gen("name", { stop: "\n" })}\nBirthday:${gen("birthday", { stop: "\n" })}\nJob:${gen("job", { stop: "\n" })}\n`;
    });
    const answers = (request: Parameters<typeof promptOf>[0] & { prompt: object }) => {
      const prompt = promptOf(request);
      const full = `${script[0]}${script[1]}\nName: Ada\nBirthday: 10 December\nJob: programmer\nEnd`;
      return full.slice(prompt.length);
    };
    const plain = await fields.run({ backend: new FakeBackend({ answers }) });
    const speculative = await fields.run({ backend: new FakeBackend({ answers }), apiSpeculation: 64 });
    expect(speculative.text).toBe(plain.text);
    expect(await speculative.get("birthday")).toBe(" 10 December");
    expect([plain.usage.calls, speculative.usage.calls]).toEqual([3, 1]);
    expect(speculative.usage.promptTokens * 2).toBeLessThan(plain.usage.promptTokens);
  });

  it("chat_completion_speculative: one request fills a whole assistant turn", async () => {
    const backend = new FakeBackend({
      capabilities: { continueTurn: false, text: false },
      answers: ["I will not.", "Name: Ada\nBirthday: 10 December\n"],
    });
    const fields = program(async (s) => {
      s.user("Construct a character in the format Name, Birthday.");
      s.assistant`Name:${gen("name", { stop: "\n" })}\nBirthday:${gen("birthday", { stop: "\n" })}\n`;
      return { name: s.get("name"), birthday: s.get("birthday") };
    });
    const result = await fields.run({ backend, apiSpeculation: 64 });
    expect(result.value).toEqual({ name: " Ada", birthday: " 10 December" });
    expect(backend.requests).toHaveLength(2);
    expect(result.messages[1].content).toEqual([{ type: "text", text: "Name: Ada\nBirthday: 10 December\n" }]);
    await expect(
      fields.run({ backend: new FakeBackend({ capabilities: { continueTurn: false }, answers: ["x"] }) }),
    ).rejects.toThrow("lacks continueTurn");
  });

  it("hellaswag_select: each question takes the ending that fits best", async () => {
    const fits = (choice: string, prompt: string | null) => [prompt?.includes(choice.split(" ")[0]) ? -0.3 : -4];
    const backend = new FakeBackend({ scores: fits });
    const finish = program(async (s, question: { context: string; endings: readonly string[] }) => {
      s.text`${question.context} `;
      return s.append(select(question.endings));
    });
    const questions = ["dog", "cat", "bird"].map((animal) => ({
      context: `Here is a ${animal}.`,
      endings: ["dog barks", "cat purrs", "bird sings"],
    }));
    const all = await finish.batch(questions, { backend });
    expect(all.map((item) => item.ok && item.value)).toEqual(["dog barks", "cat purrs", "bird sings"]);
  });

  it("gen_min_new_tokens: minTokens reaches the backend", async () => {
    const backend = new FakeBackend({ answers: ["x"] });
    await program(async (s) => s.text`Hi ${gen({ minTokens: 4, maxTokens: 8 })}`).run({ backend });
    expect(backend.requests[0].sampling).toEqual({ minNewTokens: 4, maxNewTokens: 8 });
  });

  it("separate_reasoning: the thinking is kept apart from value and prompt, streamed or not", async () => {
    const backend = () => new FakeBackend({ answers: ["<think>One and one.</think>\n\nTwo."] });
    const ask = program(async (s) => {
      s.user("1+1?");
      s.begin("assistant");
      const answer = s.separateReasoning(gen("answer"), "qwen3");
      s.end();
      return { answer, thought: s.get("answer_reasoning_content") };
    });
    const result = await ask.run({ backend: backend() });
    expect(result.value).toEqual({ answer: "Two.", thought: "One and one." });
    expect(result.messages[1].content).toEqual([{ type: "text", text: "Two." }]);
    const stream = ask.stream({ backend: backend() });
    const seen = { delta: "", reasoning: "" };
    for await (const event of stream)
      if (event.type === "delta" || event.type === "reasoning") seen[event.type] += event.text;
    expect(seen).toEqual({ delta: "Two.", reasoning: "One and one." });
  });

  it("tools: calls are run and answered until the model speaks", async () => {
    const backend = new FakeBackend({
      answers: [
        {
          toolCalls: [
            { name: "add", arguments: { a: 2, b: 3 } },
            { name: "ad", arguments: {} },
          ],
        },
        { toolCalls: [{ name: "add", arguments: { a: "x" } }] },
        "It is 5.",
      ],
    });
    const add = tool({
      description: "Adds.",
      parameters: z.object({ a: z.number(), b: z.number() }),
      execute: ({ a, b }) => a + b,
    });
    const ask = program(async (s) => {
      s.user("2+3?");
      return s.assistant(gen("answer", { tools: { add } }));
    });
    const { value, messages } = await ask.run({ backend });
    expect(value).toBe("It is 5.");
    expect(messages.map(({ role }) => role)).toEqual([
      "user",
      "assistant",
      "tool",
      "tool",
      "assistant",
      "tool",
      "assistant",
    ]);
    expect(messages[2]).toMatchObject({
      content: [{ type: "text", text: "5" }],
      name: "add",
      toolCallId: messages[1].toolCalls?.[0].id,
    });
    expect(messages[3].content).toEqual([{ type: "text", text: 'Error: there is no tool "ad". Did you mean add?' }]);
    expect(JSON.stringify(messages[5].content)).toContain("does not fit its schema at a");
  });

  it("tools: a call that is demanded is demanded once", async () => {
    const backend = new FakeBackend({ answers: [{ toolCalls: [{ name: "now", arguments: {} }] }, "Noon."] });
    const ask = program(async (s) => {
      s.user("What time is it?");
      const now = { description: "The time.", strict: true, execute: () => "12:00" };
      return s.assistant(gen({ tools: { now }, toolChoice: "required" }));
    });
    expect((await ask.run({ backend })).value).toBe("Noon.");
    expect(backend.requests.map(({ toolChoice }) => toolChoice)).toEqual(["required", undefined]);
    expect(backend.requests[0].tools).toMatchObject([{ function: { name: "now", strict: true } }]);
  });

  it("tools by hand: the program answers the calls itself", async () => {
    const backend = new FakeBackend({ answers: [{ toolCalls: [{ name: "now", arguments: {} }] }, "Noon."] });
    const ask = program(async (s) => {
      s.user("What time is it?");
      const first = s.assistant(gen({ tools: { now: { description: "The time." } } }));
      const [call] = (await first.meta()).toolCalls;
      s.tool({ [call.function.name]: "12:00" });
      return s.assistant(gen());
    });
    const { value, messages } = await ask.run({ backend });
    expect(value).toBe("Noon.");
    expect(messages[2]).toMatchObject({
      role: "tool",
      name: "now",
      content: [{ type: "text", text: '{"now":"12:00"}' }],
    });
  });
});
