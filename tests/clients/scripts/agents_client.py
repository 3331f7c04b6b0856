"""OpenAI's Agents SDK."""

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from doing import LONG, MODEL, REFUSALS, SHORT, awaited, does, plain, run
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)  # traces go to OpenAI, and nowhere else


class Canal(BaseModel):
    name: str
    length_km: int


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return LONG


def agent(at, *, kind=OpenAIChatCompletionsModel, model=MODEL, client=None, **options):
    caller = AsyncOpenAI(base_url=at.url, api_key=at.key, **{"max_retries": 0} | (client or {}))
    return Agent(name="guide", model=kind(model, openai_client=caller), **options)


def told(result):
    used = [plain(response.usage) for response in result.raw_responses]
    return [plain(result.final_output), plain(result.to_input_list()), used]


async def streamed(one, text):
    result = Runner.run_streamed(one, text)
    events = [plain(event.data) async for event in result.stream_events() if _is_raw(event)]
    return [events, told(result)]


def _is_raw(event):
    return event.type == "raw_response_event"


@does("chat")
def chat(at):
    return told(Runner.run_sync(agent(at, instructions="Be brief."), SHORT))


@does("chat, streamed, async")
async def stream(at):
    return await streamed(agent(at), SHORT)


@does("chat, long")
def long(at):
    return told(Runner.run_sync(agent(at, instructions="Be brief."), LONG))


@does("chat, long, streamed")
async def long_stream(at):
    return await streamed(agent(at), LONG)


@does("tools, long result")
def tools(at):
    return told(Runner.run_sync(agent(at, tools=[weather]), SHORT))


@does("structured output")
def structured(at):
    return told(Runner.run_sync(agent(at, output_type=Canal), SHORT))


@does("responses")
def responses(at):
    return told(Runner.run_sync(agent(at, kind=OpenAIResponsesModel), SHORT))


@does("responses, streamed")
async def responses_stream(at):
    return await streamed(agent(at, kind=OpenAIResponsesModel), SHORT)


@does("responses, long, streamed")
async def responses_long(at):
    return await streamed(agent(at, kind=OpenAIResponsesModel), LONG)


@does("responses, tools, long result")
def responses_tools(at):
    return told(Runner.run_sync(agent(at, kind=OpenAIResponsesModel, tools=[weather]), SHORT))


async def answer(at, model, **client):
    return told(await Runner.run(agent(at, model=model, client=client), SHORT))


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
    return told(Runner.run_sync(agent(at, client=client), LONG))


if __name__ == "__main__":
    run("openai-agents")
