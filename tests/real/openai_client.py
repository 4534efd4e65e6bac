"""The real OpenAI client against a running server: python openai_client.py BASE_URL. Prints one JSON object."""
import json
import sys

from openai import BadRequestError, OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "以杭州的春天为题,写一篇100字的短文"},
]
out = {}

reply = client.chat.completions.create(model="default", messages=MESSAGES, temperature=0, max_tokens=150)
out["chat"] = reply.model_dump()

pieces, usage, finish = [], None, None
stream = client.chat.completions.create(
    model="default", messages=MESSAGES, temperature=0, max_tokens=150, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    if chunk.usage:
        usage = chunk.usage.model_dump()
    if chunk.choices:
        pieces.append(chunk.choices[0].delta.content or "")
        finish = chunk.choices[0].finish_reason or finish
out["stream"] = {"text": "".join(pieces), "chunks": len(pieces), "usage": usage, "finish": finish}

out["completion"] = client.completions.create(
    model="default", prompt="The capital of France is", max_tokens=8, temperature=0, logprobs=2
).model_dump()
out["models"] = [m.id for m in client.models.list().data]
try:
    client.chat.completions.create(model="default", messages=MESSAGES, temperature=-1)
    out["error"] = None
except BadRequestError as error:
    out["error"] = {"status": error.status_code, "message": error.message, "param": error.param, "type": error.type}
print(json.dumps(out))
