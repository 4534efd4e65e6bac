"""Golden chat prompts: real templates rendered by transformers (jinja2), to be matched exactly.

    python chat_templates.py data/chat-templates.json NAME=MODEL.gguf ... [NAME=tokenizer_config.json ...]

The templates are written into the file, so the test needs no model. Needs: transformers, jinja2, gguf.
"""
import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather of a city, in °C — \"exactly\".",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "杭州 or <another> & city's"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": None},
                    "days": {"type": "integer", "minimum": 1, "maximum": 10},
                    "threshold": {"type": "number", "multipleOf": 0.5, "exclusiveMinimum": 0.00001},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def call(name, arguments, i=0):
    return {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "You are concise."}
USER = {"role": "user", "content": "What is the weather in Hangzhou?"}
CODE = "\n\n    def f():\n        return 1\n\n"
CASES = {
    "user only": ([USER], {}),
    "system and user": ([SYSTEM, USER], {}),
    "no generation prompt": ([SYSTEM, USER], {"add_generation_prompt": False}),
    "many turns": ([SYSTEM, USER, {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "And tomorrow?\n"}], {}),
    "tools": ([USER], {"tools": TOOLS}),
    "tools and system": ([SYSTEM, USER], {"tools": TOOLS}),
    "tool call and result": (
        [USER, {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "杭州", "days": 3, "threshold": 1.5})]}, {"role": "tool", "content": "{\"t\": 21}"}],
        {"tools": TOOLS},
    ),
    "two calls, two results, more text": (
        [
            SYSTEM,
            USER,
            {"role": "assistant", "content": "Let me look.", "tool_calls": [call("get_weather", {"city": "Hangzhou", "nested": {"a": [1, None, True]}}), call("now", {}, 1)]},
            {"role": "tool", "content": "21"},
            {"role": "tool", "content": "noon"},
            {"role": "assistant", "content": "21 degrees at noon."},
            {"role": "user", "content": "Thanks"},
        ],
        {"tools": TOOLS},
    ),
    "indented code in history": ([USER, {"role": "assistant", "content": CODE}, {"role": "user", "content": "Explain."}], {}),
    "reasoning in history": (
        [USER, {"role": "assistant", "content": "<think>\n    step one\n</think>\n\n    indented answer\n"}, {"role": "user", "content": "Again."}],
        {},
    ),
    "reasoning field": ([USER, {"role": "assistant", "reasoning_content": "\n  because\n", "content": "\n  so\n"}], {"add_generation_prompt": False}),
    "thinking off": ([USER], {"enable_thinking": False}),
    "continue": ([USER, {"role": "assistant", "content": "The weather is "}], {"continue_final_message": True, "add_generation_prompt": False}),
    "continue, spaces trimmed by nobody": ([USER, {"role": "assistant", "content": "  def f():\n    return"}], {"continue_final_message": True, "add_generation_prompt": False}),
    "unicode and quotes": ([{"role": "user", "content": "“引号” 'a' \"b\" \\n 😀 <|im_end|> {{ x }}"}], {}),
}


def template_of(path):
    """The template and the variables it sees."""
    if path.endswith(".json"):
        config = json.load(open(path, encoding="utf-8"))
        content = lambda token: token["content"] if isinstance(token, dict) else token
        return config["chat_template"], {k: content(config[k]) for k in ("bos_token", "eos_token", "pad_token") if config.get(k)}
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    variables = {}
    for name in ("bos", "eos"):
        key = f"tokenizer.ggml.{name}_token_id"
        if key in fields:
            variables[f"{name}_token"] = tokens[fields[key].contents()]
    return fields["tokenizer.chat_template"].contents(), variables


def main():
    out, *sources = sys.argv[1:]
    templates = {}
    for source in sources:
        name, path = source.split("=", 1)
        template, variables = template_of(path)
        rendered = {}
        for case, (messages, options) in CASES.items():
            options = {"add_generation_prompt": True, **options}
            rendered[case] = render_jinja_template([messages], chat_template=template, **options, **variables)[0][0]
        templates[name] = {"template": template, "variables": variables, "rendered": rendered}
    cases = {name: {"messages": messages, "options": options} for name, (messages, options) in CASES.items()}
    with open(out, "w", encoding="utf-8", newline="\n") as file:
        json.dump({"cases": cases, "templates": templates}, file, ensure_ascii=True, indent=1)
        file.write("\n")


main()
