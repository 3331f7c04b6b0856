"""LiteLLM's client, with OpenAI's wire."""

import asyncio

import litellm
from doing import LONG, MODEL, REFUSALS, SHORT, attempt, does, plain, run, to_the_end
from pydantic import BaseModel

litellm.suppress_debug_info = True
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


class Canal(BaseModel):
    name: str
    length_km: int


def ask(at, text=SHORT, *, model=MODEL, **options):
    return {
        "model": f"openai/{model}",
        "messages": [{"role": "user", "content": text}],
        "api_base": at.url,
        "api_key": at.key,
        "max_retries": 0,
        **options,
    }


@does("chat")
def chat(at):
    return litellm.completion(**ask(at))


@does("chat, streamed")
def stream(at):
    options = {"include_usage": True}
    return list(litellm.completion(**ask(at, stream=True, stream_options=options)))


@does("chat, streamed, async")
async def astream(at):
    parts = await litellm.acompletion(**ask(at, stream=True))
    return [plain(part) async for part in parts]


@does("chat, several at once")
async def together(at):
    return plain(await asyncio.gather(*(litellm.acompletion(**ask(at)) for _ in range(4))))


@does("chat, long")
def long(at):
    return litellm.completion(**ask(at, LONG))


@does("chat, long, streamed")
def long_stream(at):
    return list(litellm.completion(**ask(at, LONG, stream=True)))


@does("tools, long result")
def tools(at):
    asked = ask(at, tools=[TOOL])
    first = litellm.completion(**asked)
    said = first.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": LONG}
    asked["messages"] = [*asked["messages"], said, result]
    return [first, litellm.completion(**asked)]


@does("structured output")
def structured(at):
    return litellm.completion(**ask(at, response_format=Canal))


def item(at, text=SHORT, **options):
    place = {"api_base": at.url, "api_key": at.key}
    return {"model": f"openai/{MODEL}", "input": text, **place, **options}


@does("responses")
def responses(at):
    return litellm.responses(**item(at))


@does("responses, streamed")
def responses_stream(at):
    return list(litellm.responses(**item(at, stream=True)))


@does("responses, long, streamed")
def responses_long(at):
    return list(litellm.responses(**item(at, LONG, stream=True)))


@does("completions")
def completions(at):
    asked = {"prompt": SHORT, "api_base": at.url, "api_key": at.key, "max_retries": 0}
    return litellm.text_completion(model="text-completion-openai/gpt-3.5-turbo-instruct", **asked)


@does("embeddings")
def embeddings(at):
    place = {"api_base": at.url, "api_key": at.key, "max_retries": 0}
    return litellm.embedding(model="openai/text-embedding-3-small", input=["a", "b"], **place)


@does("errors")
def errors(at):
    return [
        attempt(lambda status=status: litellm.completion(**ask(at, model=f"fails-{status}")))
        for status in REFUSALS
    ]


@does("retries")
def retries(at):
    return litellm.completion(**ask(at, model="busy-at-first", max_retries=2))


@does("timeout")
def timeout(at):
    return attempt(lambda: litellm.completion(**ask(at, model="stalls", timeout=1.0)))


@does("a stream that breaks off")
def breaks_off(at):
    return to_the_end(lambda: litellm.completion(**ask(at, model="breaks-off", stream=True)))


@does("Azure")
def azure(at):
    asked = ask(at, api_base=at.root, api_version="2025-04-01-preview")
    return litellm.completion(**asked | {"model": f"azure/{MODEL}"})


@does("policy by header")
def policy(at):
    return litellm.completion(**ask(at, LONG, extra_headers={"x-laconic-policy": "off"}))


if __name__ == "__main__":
    run("litellm")
