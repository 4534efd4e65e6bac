"""One measurement of OpenVINO GenAI through its continuous batching pipeline; run by ../run.mjs --openvino PYTHON, prints
one JSON line.

    python openvino_genai_peer.py MODEL.gguf THREADS CASES

The same work as ours: prefill of 512 tokens, then B sequences of CONTEXT prompt tokens (128 if not said) decoding together,
greedy. Its GGUF reader takes Q4_0, Q4_1, Q8_0 and F16 files; others end with its own message. Needs
`pip install openvino-genai` (2025.2 or newer).
"""
import json
import re
import statistics
import sys
import time

import numpy
import openvino
import openvino_genai

model, threads, cases = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
# Keys and values take 12 KiB a token in the 0.5B model as f16: 2 GB hold every case.
scheduler = openvino_genai.SchedulerConfig()
scheduler.cache_size = 2
scheduler.enable_prefix_caching = False
scheduler.max_num_batched_tokens = 512
scheduler.max_num_seqs = 64
pipeline = openvino_genai.ContinuousBatchingPipeline(model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
next_id = 0


def tokens(count, salt):
    ids = [300 + ((i * 7919 + salt * 104729) % 5000) for i in range(count)]
    return openvino.Tensor(numpy.array([ids], dtype=numpy.int64))


def add(prompt, max_new_tokens):
    global next_id
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = max_new_tokens
    config.ignore_eos = True
    config.do_sample = False
    next_id += 1
    return pipeline.add_request(next_id, prompt, config)


def finish():
    while pipeline.has_non_finished_requests():
        pipeline.step()


def prefill(count):
    rates = []
    for salt in range(3):
        _handle = add(tokens(count, salt), 1)  # a handle that nobody holds cancels its request
        started = time.perf_counter()
        finish()
        rates.append(count / (time.perf_counter() - started))
    return statistics.median(rates)


def decode(batch, context):
    rates = []
    for round in range(1 if batch * context > 8192 else 2):
        handles = [add(tokens(context, 1000 * round + i), 49 if batch > 1 else 33) for i in range(batch)]
        # Decode only, at full batch: from the moment every request has its first token until one has its last.
        have = [0] * batch

        def read():
            for i, handle in enumerate(handles):
                while handle.can_read():
                    have[i] += sum(len(output.generated_ids) for output in handle.read().values())

        while min(have) == 0:
            pipeline.step()
            read()
        before, started = sum(have), time.perf_counter()
        for _ in range(24 if batch > 1 else 31):
            pipeline.step()
            read()
        rates.append((sum(have) - before) / (time.perf_counter() - started))
        finish()
    return statistics.median(rates)


_handle = add(tokens(64, 9999), 2)
finish()
result = {"engine": "openvino-genai", "version": openvino_genai.__version__}
for name in cases:
    if name.startswith("prefill"):
        result[name] = prefill(int(name[len("prefill") :]))
        continue
    batch, context = re.fullmatch(r"decode(\d+)(?:x(\d+))?", name).groups()
    result[name] = decode(int(batch), int(context or 128))
with open("/proc/self/statm") as statm:
    result["rssBytes"] = int(statm.read().split()[1]) * 4096
print(json.dumps(result))
