"""Writes transformers-logits.golden.json: logits of the tiny models as transformers computes them, in f32.

    SGLANG_KEEP_TINY_MODELS=/tmp/tiny npx vitest run tests/models/golden.test.ts
    python tests/models/make-transformers-golden.py /tmp/tiny

Every model gets the prompt that golden.test.ts gives it; the file holds, per model, the logits of PICKED ids at PICKED
positions. Needs torch and transformers 5.
"""
import json
import sys
from pathlib import Path

import torch
import transformers

PROMPT = [(i * 37 + 11) % 300 for i in range(60)]
POSITIONS = [0, 1, 6, 31, 32, 59]
IDS = list(range(0, 448, 23))

golden = {"transformers": transformers.__version__, "prompt": PROMPT, "positions": POSITIONS, "ids": IDS, "logits": {}}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0]
    golden["logits"][folder.name] = [[round(logits[p, i].item(), 6) for i in IDS] for p in POSITIONS]
path = Path(__file__).with_name("transformers-logits.golden.json")
path.write_text(json.dumps(golden) + "\n")
print(f"{len(golden['logits'])} models to {path.name}")
