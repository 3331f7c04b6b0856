"""LlamaIndex, by its package for OpenAI."""

from doing import LONG, MODEL, REFUSALS, SHORT, attempt, does, plain, run, to_the_end
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI, OpenAIResponses
from pydantic import BaseModel


class Canal(BaseModel):
    """A canal."""

    name: str
    length_km: int


def weather(city: str) -> str:
    """Tell the weather."""
    return LONG


def llm(at, kind=OpenAI, **options):
    given = {"model": MODEL, "api_base": at.url, "api_key": at.key, "max_retries": 0}
    return kind(**given | options)


def said(text=SHORT):
    return [ChatMessage(role="user", content=text)]


@does("chat")
def chat(at):
    return [llm(at).chat(said()), llm(at).complete(SHORT)]


@does("chat, streamed")
def stream(at):
    return list(llm(at).stream_chat(said()))


@does("chat, streamed, async")
async def astream(at):
    return [plain(part) async for part in await llm(at).astream_chat(said())]


@does("chat, long")
def long(at):
    return llm(at).chat(said(LONG))


@does("chat, long, streamed")
def long_stream(at):
    return list(llm(at).stream_chat(said(LONG)))


@does("tools, long result")
def tools(at):
    return _round(llm(at))


def _round(model):
    """One call of a tool, and the answer that follows."""
    tool = FunctionTool.from_defaults(weather)
    first = model.chat_with_tools([tool], chat_history=said())
    (call,) = model.get_tool_calls_from_response(first)
    result = ChatMessage(
        role="tool",
        content=tool(**call.tool_kwargs).content,
        additional_kwargs={"tool_call_id": call.tool_id},
    )
    history = [*said(), first.message, result]
    return [first, model.chat_with_tools([tool], chat_history=history)]


@does("structured output")
def structured(at):
    return llm(at).as_structured_llm(Canal).chat(said()).raw


@does("responses")
def responses(at):
    return llm(at, OpenAIResponses).chat(said())


@does("responses, streamed")
def responses_stream(at):
    return list(llm(at, OpenAIResponses).stream_chat(said()))


@does("responses, long, streamed")
def responses_long(at):
    return list(llm(at, OpenAIResponses).stream_chat(said(LONG)))


@does("responses, tools, long result")
def responses_tools(at):
    return _round(llm(at, OpenAIResponses))


@does("completions")
def completions(at):
    model = llm(at, model="gpt-3.5-turbo-instruct", max_tokens=16)  # else it counts, online
    return [model.complete(SHORT), list(model.stream_complete(SHORT))]


@does("errors")
def errors(at):
    return [
        attempt(lambda status=status: llm(at, **_as(f"fails-{status}")).chat(said()))
        for status in REFUSALS
    ]


def _as(model):
    """A model's name that the library does not know, for the request alone."""
    return {"additional_kwargs": {"model": model}}


@does("retries")
def retries(at):
    return llm(at, max_retries=3, **_as("busy-at-first")).chat(said())


@does("timeout")
def timeout(at):
    return attempt(lambda: llm(at, timeout=1.0, **_as("stalls")).chat(said()))


@does("a stream that breaks off")
def breaks_off(at):
    return to_the_end(lambda: llm(at, **_as("breaks-off")).stream_chat(said()))


@does("policy by header")
def policy(at):
    return llm(at, default_headers={"x-laconic-policy": "off"}).chat(said(LONG))


if __name__ == "__main__":
    run("llama-index-llms-openai")
