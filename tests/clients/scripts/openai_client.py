"""OpenAI's own client for Python."""

import asyncio

import openai
from doing import LONG, MODEL, REFUSALS, SHORT, attempt, does, headers, plain, run, to_the_end
from pydantic import BaseModel

PLANET = b'{"custom_id": "a"}\n' * 20_000
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


class Canal(BaseModel):
    name: str
    length_km: int


def client(at, **options):
    return openai.OpenAI(base_url=at.url, api_key=at.key, **{"max_retries": 0} | options)


def aclient(at, **options):
    return openai.AsyncOpenAI(base_url=at.url, api_key=at.key, **{"max_retries": 0} | options)


def ask(text=SHORT, **options):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **options}


@does("chat")
def chat(at):
    return client(at).chat.completions.create(**ask())


@does("chat, streamed")
def chat_stream(at):
    options = {"include_usage": True}
    return list(client(at).chat.completions.create(**ask(stream=True, stream_options=options)))


@does("chat, streamed, async")
async def chat_astream(at):
    async with aclient(at) as caller:
        stream = await caller.chat.completions.create(**ask(stream=True))
        return [plain(chunk) async for chunk in stream]


@does("chat, several at once")
async def together(at):
    async with aclient(at) as caller:
        answers = [caller.chat.completions.create(**ask()) for _ in range(8)]
        return [plain(one) for one in await asyncio.gather(*answers)]


@does("chat, long")
def chat_long(at):
    return client(at).chat.completions.create(**ask(LONG))


@does("chat, long, streamed")
def chat_long_stream(at):
    with client(at).chat.completions.stream(**ask(LONG)) as stream:
        events = [event.type for event in stream]
        return [events, plain(stream.get_final_completion())]


@does("tools, long result")
def tools(at):
    caller, asked = client(at), [{"role": "user", "content": SHORT}]
    first = caller.chat.completions.create(model=MODEL, messages=asked, tools=[TOOL])
    (call,) = first.choices[0].message.tool_calls
    asked += [
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": LONG},
    ]
    return [first, caller.chat.completions.create(model=MODEL, messages=asked, tools=[TOOL])]


@does("structured output")
def structured(at):
    parsed = client(at).chat.completions.parse(**ask(response_format=Canal))
    return [parsed, parsed.choices[0].message.parsed]


@does("responses")
def responses(at):
    caller = client(at)
    first = caller.responses.create(model=MODEL, input=SHORT, instructions="Be brief.")
    after = caller.responses.create(model=MODEL, input="Why?", previous_response_id=first.id)
    parsed = caller.responses.parse(model=MODEL, input=SHORT, text_format=Canal)
    return [first, first.output_text, after, parsed.output_parsed]


@does("responses, streamed")
def responses_stream(at):
    return list(client(at).responses.create(model=MODEL, input=SHORT, stream=True))


@does("responses, long, streamed")
def responses_long(at):
    with client(at).responses.stream(model=MODEL, input=LONG) as stream:
        return [[event.type for event in stream], plain(stream.get_final_response())]


@does("responses, tools, long result")
def responses_tools(at):
    tool = {"type": "function", "name": "weather", "parameters": CITY, "strict": False}
    caller, asked = client(at), [{"role": "user", "content": SHORT}]
    first = caller.responses.create(model=MODEL, input=asked, tools=[tool])
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": LONG}
    history = [*asked, call.to_dict(), result]
    return [first, caller.responses.create(model=MODEL, input=history, tools=[tool])]


@does("completions")
def completions(at):
    caller, model = client(at), "gpt-3.5-turbo-instruct"
    prompts = (SHORT, ["a", "b"], [1, 2, 3])
    return [
        [caller.completions.create(model=model, prompt=prompt) for prompt in prompts],
        list(caller.completions.create(model=model, prompt=SHORT, stream=True)),
    ]


@does("completions, long")
def completions_long(at):
    return client(at).completions.create(model="gpt-3.5-turbo-instruct", prompt=LONG)


@does("embeddings")
def embeddings(at):
    caller = client(at)
    return [
        caller.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
        caller.embeddings.create(model="e", input="a", encoding_format="float"),
        caller.models.list(),
    ]


@does("files")
def files(at):
    return client(at).files.create(file=("a.jsonl", PLANET), purpose="batch")


@does("raw answers")
def raw(at):
    chat = client(at).chat.completions
    answer = chat.with_raw_response.create(**ask())
    told = [answer.status_code, headers(answer), answer.text, answer.request_id]
    with chat.with_streaming_response.create(**ask(stream=True)) as streaming:
        return [*told, headers(streaming), list(streaming.iter_lines())]


@does("errors")
def errors(at):
    chat = client(at).chat.completions
    return [
        attempt(lambda status=status: chat.create(**ask() | {"model": f"fails-{status}"}))
        for status in REFUSALS
    ]


@does("retries")
def retries(at):
    caller = client(at, max_retries=2)
    return caller.chat.completions.create(**ask() | {"model": "busy-at-first"})


@does("timeout")
def timeout(at):
    caller = client(at, timeout=1.0)
    return attempt(lambda: caller.chat.completions.create(**ask() | {"model": "stalls"}))


@does("a stream that breaks off")
def breaks_off(at):
    asked = ask(stream=True) | {"model": "breaks-off"}
    return to_the_end(lambda: client(at).chat.completions.create(**asked))


@does("Azure")
def azure(at):
    options = {"azure_endpoint": at.root, "api_version": "2025-04-01-preview"}
    caller = openai.AzureOpenAI(api_key=at.key, max_retries=0, **options)
    return [
        caller.chat.completions.create(**ask()),
        caller.responses.create(model=MODEL, input=SHORT),
        caller.embeddings.create(model="e", input="a"),
    ]


@does("realtime over WebSocket")
async def realtime(at):
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": LONG}]}
    async with aclient(at) as caller, caller.realtime.connect(model="gpt-realtime") as connection:
        await connection.session.update(session={"type": "realtime"})
        await connection.conversation.item.create(item=said)
        await connection.response.create()
        return await until(connection, "response.done")


@does("responses over WebSocket")
async def responses_socket(at):
    async with aclient(at) as caller, caller.responses.connect() as connection:
        await connection.send({"type": "response.create", "model": MODEL, "input": LONG})
        return await until(connection, "response.completed")


async def until(connection, last):
    """What is said, until that was said."""
    events = []
    async for event in connection:
        events.append(plain(event))
        if event.type == last:
            break
    return events


@does("policy by header")
def policy(at):
    caller = client(at, default_headers={"x-laconic-policy": "off"})
    return caller.chat.completions.create(**ask(LONG))


if __name__ == "__main__":
    run("openai")
