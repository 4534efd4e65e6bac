import { describe, expect, it } from "vitest";
import type { ChatMessage, ToolDefinition } from "../../src/core/protocol.js";
import { createChatTemplate, loadTokenizer } from "../../src/tokenizer/index.js";
import { byteLevelJson, huggingFace } from "./fixtures.js";

type Options = Parameters<ReturnType<typeof createChatTemplate>["render"]>[1];
const USER: ChatMessage = { role: "user", content: "hi" };
const TOOL: ToolDefinition = { type: "function", function: { name: "f", parameters: { type: "object" } } };

function render(template: string, messages: readonly ChatMessage[] = [USER], options?: Options): string {
  return createChatTemplate({ templates: [{ name: "default", template }], variables: { eos_token: "</s>" } }).render(
    messages,
    options,
  );
}

describe("a template sees", () => {
  it.each<[string, string, Options, string]>([
    ["messages", "{% for m in messages %}{{ m.role }}:{{ m['content'] }};{% endfor %}", {}, "user:hi;"],
    ["special tokens", "{{ eos_token }}{{ bos_token }}", {}, "</s>"],
    ["add_generation_prompt, true unless said", "{{ 'yes' if add_generation_prompt else 'no' }}", {}, "yes"],
    [
      "add_generation_prompt false",
      "{{ 'yes' if add_generation_prompt else 'no' }}",
      { addGenerationPrompt: false },
      "no",
    ],
    ["tools as none when there are none", "{{ tools is none }}", { tools: [] }, "true"],
    ["tools", "{{ tools[0].function.name }}", { tools: [TOOL] }, "f"],
    [
      "extra variables",
      "{{ enable_thinking is defined and enable_thinking is false }}",
      { kwargs: { enable_thinking: false } },
      "true",
    ],
    ["an extra variable instead of a special token", "{{ eos_token }}", { kwargs: { eos_token: "X" } }, "X"],
    ["trim_blocks and lstrip_blocks", "  {% if true %}\n  a\n  {% endif %}\nb", {}, "  a\nb"],
    [
      "namespace, range and loop controls",
      "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
      {},
      "3",
    ],
  ])("%s", (_, template, options, expected) => {
    expect(render(template, [USER], options)).toBe(expected);
  });
});

describe("messages are prepared as SGLang prepares them:", () => {
  const FLAT = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
  const PARTS =
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}{% endfor %}";
  const VARIABLE =
    "{% macro show(content) %}{% for p in content %}<{{ p.text }}>{% endfor %}{% endmacro %}{{ show(messages[0].content) }}";
  const two: ChatMessage = {
    role: "user",
    content: [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ],
  };

  it.each([
    ["parts become one text where the template wants text", FLAT, "[a b]"],
    ["parts stay where the template walks through them", PARTS, "<a><b>"],
    ["parts stay where a macro walks through its content", VARIABLE, "<a><b>"],
  ])("%s", (_, template, expected) => {
    expect(render(template, [two])).toBe(expected);
  });

  it("no content is an empty text", () => {
    expect(render(FLAT, [{ role: "assistant", content: null }])).toBe("[]");
  });

  it("absent fields are not defined", () => {
    expect(
      render("{{ messages[0].tool_calls is defined }}", [{ role: "user", content: "x", tool_calls: undefined }]),
    ).toBe("false");
  });

  it.each([
    ['{"a": 1}', '{"a": 1}'],
    ["", "{}"],
    [{ a: "é" }, '{"a": "é"}'],
  ])("tool arguments %j reach the template as an object", (args, expected) => {
    const call: ChatMessage = {
      role: "assistant",
      content: "",
      tool_calls: [{ function: { name: "f", arguments: args } }],
    };
    expect(render("{{ messages[0].tool_calls[0].function.arguments | tojson }}", [call])).toBe(expected);
  });

  it("tool arguments that are no JSON are refused with their place", () => {
    const call: ChatMessage = {
      role: "assistant",
      content: "",
      tool_calls: [{ function: { name: "f", arguments: "{a" } }],
    };
    expect(() => render("x", [USER, call])).toThrow(
      /messages\[1\].tool_calls\[0\].function.arguments must be an object or its JSON text/,
    );
  });

  it("reasoning is there under both names", () => {
    const message: ChatMessage = { role: "assistant", content: "", reasoning_content: "why" };
    expect(render("{{ messages[0].thinking }}{{ messages[0].reasoning_content }}", [message])).toBe("whywhy");
  });

  it("the caller's messages stay as they are", () => {
    const messages: ChatMessage[] = [USER, { role: "assistant", content: [{ type: "text", text: "a" }] }];
    const copy = structuredClone(messages);
    render(PARTS, messages, { continueFinalMessage: true });
    expect(messages).toEqual(copy);
  });
});

describe("continueFinalMessage", () => {
  const CHAT =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
  const TRIMS = CHAT.replace("m.content }}<", "m.content | trim }}<");

  it.each([
    ["ends the prompt where the message ends", CHAT, "Once upon ", "<user>hi</user><assistant>Once upon "],
    ["follows a template that trims", TRIMS, "Once upon ", "<user>hi</user><assistant>Once upon"],
    ["takes an empty message", CHAT, "", "<user>hi</user><assistant>"],
  ])("%s", (_, template, content, expected) => {
    expect(render(template, [USER, { role: "assistant", content }], { continueFinalMessage: true })).toBe(expected);
  });

  it("continues the last text part", () => {
    const parts = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}";
    expect(
      render(
        parts,
        [
          {
            role: "assistant",
            content: [
              { type: "text", text: "a" },
              { type: "text", text: "b" },
            ],
          },
        ],
        { continueFinalMessage: true },
      ),
    ).toBe("<a><b");
  });

  it.each<[string, string, ChatMessage[], Options, RegExp]>([
    [
      "a template that drops the message",
      "{{ messages[0].role }}",
      [USER],
      { continueFinalMessage: true },
      /leaves out or rewrites the final message/,
    ],
    ["no message", CHAT, [], { continueFinalMessage: true }, /final message has text to continue/],
    [
      "a generation prompt as well",
      CHAT,
      [USER],
      { continueFinalMessage: true, addGenerationPrompt: true },
      /continue_final_message must be false/,
    ],
  ])("refuses %s", (_, template, messages, options, message) => {
    expect(() => render(template, messages, options)).toThrow(message);
  });
});

describe("errors", () => {
  it("raise_exception is the request's fault, in the template's own words", () => {
    const template = "{% if messages[0].role != 'system' %}{{ raise_exception('System first, please') }}{% endif %}";
    expect(() => render(template)).toThrow(
      expect.objectContaining({ code: "INVALID_REQUEST", message: "System first, please" }),
    );
  });

  it.each<[string, string, Options, string, RegExp]>([
    [
      "what the template can't do",
      "{{ messages.nothing.more() }}",
      {},
      "INVALID_REQUEST",
      /can't render these messages/,
    ],
    [
      "a string method on something else",
      "{{ (1).strip() }}",
      {},
      "INVALID_REQUEST",
      /calls .strip\(\) on a value of type number/,
    ],
    ["a template that is not Jinja", "{% for %}", {}, "UNSUPPORTED_MODEL", /chat template can't be parsed/],
    [
      "a variable that is ours",
      "x",
      { kwargs: { messages: [] } },
      "INVALID_REQUEST",
      /chat_template_kwargs.messages must be absent/,
    ],
    ["a range that would eat the memory", "{{ range(1000000000) }}", {}, "INVALID_REQUEST", /longer than 100000/],
  ])("%s", (_, template, options, code, message) => {
    expect(() => render(template, [USER], options)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  it("names the templates there are when none is the default", () => {
    const set = createChatTemplate({
      templates: [
        { name: "rag", template: "r" },
        { name: "tool_use", template: "t" },
      ],
    });
    expect(() => set.render([USER])).toThrow(/named rag, tool_use/);
    expect(set.render([USER], { tools: [TOOL] })).toBe("t");
  });
});

describe("a Hugging Face folder's template", () => {
  const load = (files: Parameters<typeof huggingFace>[1]) =>
    loadTokenizer(huggingFace(byteLevelJson(), files)).chatTemplate;

  it("is chat_template.jinja before tokenizer_config.json", () => {
    expect(load({ chatTemplate: "file", config: { chat_template: "config" } })?.render([])).toBe("file");
    expect(
      load({ config: { chat_template: "config {{ eos_token }}", eos_token: { content: "<|end|>" } } })?.render([]),
    ).toBe("config <|end|>");
  });

  it("may be a list, of which tool_use is for tools", () => {
    const template = load({
      config: {
        chat_template: [
          { name: "default", template: "d" },
          { name: "tool_use", template: "t" },
        ],
      },
    });
    expect([template?.render([]), template?.render([], { tools: [TOOL] }), template?.source]).toEqual(["d", "t", "d"]);
  });

  it("is refused when it is neither", () => {
    expect(() => load({ config: { chat_template: 5 } })).toThrow(/chat_template must be a string or a list/);
    expect(() => load({ config: { chat_template: [{ name: "x" }] } })).toThrow(/list of \{name, template\}/);
  });
});
