"""Golden files of a real model: made by PyTorch `transformers` on exactly dequantised weights, f32 throughout.

    python make_model_golden.py MODEL.gguf data/NAME.json

For each of 8 prompts: input ids, per-layer sums of the last position's hidden state, logits of the last position
(the 16 largest and every 499th), and 64 greedy tokens with the smallest margin between best and second best on the way.
Needs: torch, transformers, gguf. Weights are dequantised by gguf-py (inside transformers), independent of this project.
"""
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LONG = (
    "The lighthouse keeper wrote one line in the log every hour, whether or not anything had happened. "
    "At {h} o'clock on day {d} the wind came from the {w}, the lamp burned steadily, and ship number {n} passed at a safe distance. "
)
WINDS = ["north", "south", "east", "west"]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
                "required": ["city"],
            },
        },
    }
]


def prompts(tok):
    def chat(messages, **kw):
        text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **kw)
        return tok(text, add_special_tokens=False)["input_ids"]

    def raw(text):
        return tok(text, add_special_tokens=False)["input_ids"]

    long_text = "".join(LONG.format(h=i % 24, d=i // 24 + 1, w=WINDS[i % 4], n=17 * i % 101) for i in range(46))
    code = 'def quicksort(items: list[int]) -> list[int]:\n    """Sort a list of integers."""\n'
    return [
        ("english", raw("Once upon a time, in a village by the sea, there lived")),
        ("english_chat", chat([{"role": "system", "content": "You are concise."}, {"role": "user", "content": "Why is the sky blue?"}])),
        ("chinese", raw("春天来了,西湖边的柳树")),
        ("chinese_chat", chat([{"role": "system", "content": "你是一位作家。"}, {"role": "user", "content": "以杭州的春天为题,写一篇100字的短文"}])),
        ("code", raw(code)),
        ("code_chat", chat([{"role": "user", "content": "Write a TypeScript function that reverses a linked list."}])),
        ("tools_chat", chat([{"role": "user", "content": "What is the weather in Hangzhou in celsius?"}], tools=TOOLS)),
        ("long", raw(long_text + "\n\nSummary of the log:")),
    ]


@torch.no_grad()
def main(gguf, out):
    torch.set_num_threads(int(os.environ.get("GOLDEN_THREADS", "1")))
    folder, file = os.path.split(os.path.abspath(gguf))
    tok = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
    cases = []
    for name, ids in prompts(tok):
        x = torch.tensor([ids])
        layers = []
        hooks = [
            layer.register_forward_hook(
                lambda _m, _i, o: layers.append((o[0] if isinstance(o, tuple) else o)[0, -1].double())
            )
            for layer in model.model.layers
        ]
        o = model(x, use_cache=True, logits_to_keep=1)
        for h in hooks:
            h.remove()
        logits = o.logits[0, -1].double()
        top = torch.topk(logits, 16)
        greedy, margins, cache, cur = [], [], o.past_key_values, logits
        for _ in range(64):
            best = torch.topk(cur, 2)
            greedy.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
            step = model(torch.tensor([[greedy[-1]]]), past_key_values=cache, use_cache=True)
            cache, cur = step.past_key_values, step.logits[0, -1].double()
        cases.append(
            {
                "name": name,
                "ids": ids,
                "layerSums": [float(h.sum()) for h in layers],
                "layerNorms": [float(h.norm()) for h in layers],
                "topIds": top.indices.tolist(),
                "topLogits": [round(v, 6) for v in top.values.tolist()],
                "everyLogit": 499,
                "logits": [round(v, 6) for v in logits[::499].tolist()],
                "logitNorm": float(logits.norm()),
                "greedy": greedy,
                "greedyText": tok.decode(greedy, skip_special_tokens=False),
                "smallestMargin": min(margins),
            }
        )
        print(name, len(ids), repr(cases[-1]["greedyText"][:60]), "margin", round(min(margins), 5), flush=True)
    with open(out, "w") as f:
        json.dump({"file": file, "transformers": __import__("transformers").__version__, "cases": cases}, f, ensure_ascii=False)
        f.write("\n")


main(sys.argv[1], sys.argv[2])
