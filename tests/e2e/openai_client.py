"""Drives a server with the official OpenAI client. Prints one JSON object: {case: "ok" or a traceback}.

    python openai_client.py http://127.0.0.1:30000 [--tools] [--embedding-url http://127.0.0.1:30001]

Checks hold for any model that answers greedily; --tools needs one that calls `add` when it is offered.
"""

import argparse
import asyncio
import json
import sys
import traceback

import openai

MESSAGES = [{"role": "user", "content": "Say hello."}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]
GREEDY = {"temperature": 0, "max_tokens": 12}

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--tools", action="store_true")
parser.add_argument("--embedding-url")
args = parser.parse_args()
client = openai.OpenAI(base_url=f"{args.url}/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id


def chat(**extra):
    return client.chat.completions.create(model=model, messages=MESSAGES, **{**GREEDY, **extra})


def expect_error(kind, call, param):
    try:
        call()
    except kind as error:
        assert error.param == param, error.param
        assert param in error.message, error.message
        return error
    raise AssertionError(f"no {kind.__name__}")


def case_models():
    card = client.models.retrieve(model)
    assert card.id == model and card.object == "model" and card.owned_by == "sglang"
    try:
        client.models.retrieve("no-such-model")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("no NotFoundError")


def case_chat():
    reply = chat()
    choice = reply.choices[0]
    assert reply.object == "chat.completion" and reply.model == model
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0


def case_chat_answer_sent_back():
    message = chat().choices[0].message
    history = [*MESSAGES, message.model_dump(), {"role": "user", "content": "Again."}]
    assert client.chat.completions.create(model=model, messages=history, **GREEDY).choices[0].message.content


def case_chat_stream():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    whole = chat()
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1


def case_chat_n():
    reply = chat(n=3)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 1


def case_chat_logprobs():
    reply = chat(logprobs=True, top_logprobs=2)
    content = reply.choices[0].logprobs.content
    assert content and all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in content)


def case_sglang_extras():
    reply = chat(extra_body={"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.0, "ignore_eos": False, "rid": "from-python"})
    assert reply.id == "from-python"


def case_completions():
    complete = lambda **extra: client.completions.create(model=model, temperature=0, max_tokens=8, **extra)
    one = complete(prompt="Hello")
    assert one.object == "text_completion" and one.choices[0].text
    two = complete(prompt=["Hello", "Hello"])
    assert [choice.index for choice in two.choices] == [0, 1]
    assert {choice.text for choice in two.choices} == {one.choices[0].text}
    echoed = complete(prompt="Hello", echo=True)
    assert echoed.choices[0].text == "Hello" + one.choices[0].text
    streamed = "".join(chunk.choices[0].text for chunk in complete(prompt="Hello", stream=True))
    assert streamed == one.choices[0].text
    logprobs = complete(prompt="Hello", logprobs=1).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == len(logprobs.text_offset) > 0
    assert complete(prompt=[65, 66]).choices[0].text


def case_errors():
    expect_error(openai.BadRequestError, lambda: chat(temperature=-1), "temperature")
    expect_error(openai.BadRequestError, lambda: chat(extra_body={"no_such_field": 1}), "no_such_field")
    error = expect_error(openai.BadRequestError, lambda: chat(extra_body={"lora_path": "x"}), "lora_path")
    assert error.code == "UNSUPPORTED", error.code
    wrong = {"type": "json_schema", "json_schema": {"name": "x"}}
    expect_error(openai.BadRequestError, lambda: chat(response_format=wrong), "response_format.json_schema.schema")
    expect_error(openai.BadRequestError, lambda: client.completions.create(model=model, prompt=[]), "prompt")


def case_request_id():
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, **GREEDY, extra_headers={"X-Request-Id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.parse().choices[0].message.content


def case_stream_closed_early():
    stream = chat(stream=True)
    next(iter(stream))
    stream.close()
    assert chat().choices[0].message.content


def case_concurrent_requests():
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{args.url}/v1", api_key="none", max_retries=0) as many:
            ask = lambda: many.chat.completions.create(model=model, messages=MESSAGES, **GREEDY)
            replies = await asyncio.gather(*(ask() for _ in range(8)))
            assert len({reply.choices[0].message.content for reply in replies}) == 1

    asyncio.run(run())


def case_tool_calls():
    if not args.tools:
        return
    whole = chat(tools=TOOLS, max_tokens=200)
    choice = whole.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.type == "function" and call.function.name == "add" and call.id
    json.loads(call.function.arguments)
    deltas = [d for c in chat(tools=TOOLS, max_tokens=200, stream=True) for d in (c.choices[0].delta.tool_calls or [])]
    assert deltas[0].function.name == "add"
    assert "".join(d.function.arguments for d in deltas if d.index == 0) == call.function.arguments
    answer = {"role": "tool", "tool_call_id": call.id, "content": "3"}
    history = [*MESSAGES, choice.message.model_dump(), answer]
    assert client.chat.completions.create(model=model, messages=history, **GREEDY).choices


def case_embeddings():
    if not args.embedding_url:
        return
    embedder = openai.OpenAI(base_url=f"{args.embedding_url}/v1", api_key="none", max_retries=0)
    ask = lambda **extra: embedder.embeddings.create(model="default", input=["a", "bc"], **extra)
    default, floats = ask(), ask(encoding_format="float")
    assert [entry.index for entry in default.data] == [0, 1]
    for a, b in zip(default.data, floats.data):
        assert len(a.embedding) == len(b.embedding) > 0
        assert all(abs(x - y) < 1e-6 for x, y in zip(a.embedding, b.embedding))


results = {}
for name, case in list(globals().items()):
    if name.startswith("case_"):
        try:
            case()
            results[name[5:]] = "ok"
        except Exception:
            results[name[5:]] = traceback.format_exc()
json.dump(results, sys.stdout)
