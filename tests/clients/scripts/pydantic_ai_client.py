"""Pydantic AI, with its models for OpenAI."""

import asyncio

from doing import LONG, MODEL, REFUSALS, SHORT, awaited, does, plain, run
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class Canal(BaseModel):
    name: str
    length_km: int


def agent(at, *, kind=OpenAIChatModel, model=MODEL, client=None, **options):
    options_of_client = {"max_retries": 0} | (client or {})
    caller = AsyncOpenAI(base_url=at.url, api_key=at.key, **options_of_client)
    return Agent(kind(model, provider=OpenAIProvider(openai_client=caller)), **options)


def told(result):
    """The output, and every message without its moment."""
    messages = [_told(message) for message in result.all_messages()]
    return [plain(result.output), messages, repr(result.usage)]


def _told(message):
    parts = [[part.part_kind, plain(getattr(part, "content", None))] for part in message.parts]
    return [message.kind, parts, getattr(message, "finish_reason", None)]


async def streamed(one, text):
    async with one.run_stream(text) as result:
        parts = [part async for part in result.stream_text(delta=True, debounce_by=None)]
        return [parts, await result.get_output(), repr(result.usage)]


def weather(city: str) -> str:
    """Tell the weather."""
    return LONG


@does("chat")
def chat(at):
    return told(agent(at).run_sync(SHORT))


@does("chat, streamed, async")
async def stream(at):
    return await streamed(agent(at), SHORT)


@does("chat, several at once")
async def together(at):
    one = agent(at)
    return [told(got) for got in await asyncio.gather(*(one.run(SHORT) for _ in range(4)))]


@does("chat, long")
def long(at):
    return told(agent(at, instructions="Answer from the passages.").run_sync(LONG))


@does("chat, long, streamed")
async def long_stream(at):
    return await streamed(agent(at), LONG)


@does("tools, long result")
def tools(at):
    return told(agent(at, tools=[weather]).run_sync(SHORT))


@does("structured output")
def structured(at):
    by_tool = agent(at, output_type=Canal).run_sync(SHORT)
    by_schema = agent(at, output_type=NativeOutput(Canal)).run_sync(SHORT)
    return [told(by_tool), told(by_schema)]


@does("responses")
def responses(at):
    return told(agent(at, kind=OpenAIResponsesModel).run_sync(SHORT))


@does("responses, streamed")
async def responses_stream(at):
    return await streamed(agent(at, kind=OpenAIResponsesModel), SHORT)


@does("responses, long, streamed")
async def responses_long(at):
    return await streamed(agent(at, kind=OpenAIResponsesModel), LONG)


@does("responses, tools, long result")
def responses_tools(at):
    return told(agent(at, kind=OpenAIResponsesModel, tools=[weather]).run_sync(SHORT))


async def answer(at, model, **client):
    return told(await agent(at, model=model, client=client).run(SHORT))


@does("errors")
async def errors(at):
    return [await awaited(answer(at, f"fails-{status}")) for status in REFUSALS]


@does("retries")
async def retries(at):
    return await answer(at, "busy-at-first", max_retries=2)


@does("timeout")
async def timeout(at):
    return await awaited(answer(at, "stalls", timeout=1.0))


@does("a stream that breaks off")
async def breaks_off(at):
    return await awaited(streamed(agent(at, model="breaks-off"), SHORT))


@does("policy by header")
def policy(at):
    client = {"default_headers": {"x-laconic-policy": "off"}}
    return told(agent(at, client=client).run_sync(LONG))


if __name__ == "__main__":
    run("pydantic-ai-slim")
