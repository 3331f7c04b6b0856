"""LangChain, by its package for OpenAI."""

import asyncio

from doing import LONG, MODEL, REFUSALS, SHORT, attempt, does, plain, run, to_the_end
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Canal(BaseModel):
    """A canal."""

    name: str
    length_km: int


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return city


def chat(at, **options):
    given = {"model": MODEL, "base_url": at.url, "api_key": at.key, "max_retries": 0}
    return ChatOpenAI(**given | options)


@does("chat")
def invoke(at):
    return chat(at).invoke(SHORT)


@does("chat, streamed")
def stream(at):
    return list(chat(at).stream(SHORT))


@does("chat, streamed, async")
async def astream(at):
    return [plain(part) async for part in chat(at).astream(SHORT)]


@does("chat, several at once")
async def together(at):
    model = chat(at)
    return plain(await asyncio.gather(*(model.ainvoke(SHORT) for _ in range(4))))


@does("chat, long")
def long(at):
    return chat(at).invoke(LONG)


@does("chat, long, streamed")
def long_stream(at):
    return list(chat(at).stream(LONG))


def tool_round(model):
    asked = [HumanMessage(SHORT)]
    first = model.bind_tools([weather]).invoke(asked)
    (call,) = first.tool_calls
    asked += [first, ToolMessage(LONG, tool_call_id=call["id"])]
    return [first, model.bind_tools([weather]).invoke(asked)]


@does("tools, long result")
def tools(at):
    return tool_round(chat(at))


@does("structured output")
def structured(at):
    methods = ("json_schema", "function_calling", "json_mode")
    models = (
        Canal if method != "json_mode" else {"title": "City", "type": "object"}
        for method in methods
    )
    return [
        chat(at).with_structured_output(model, method=method).invoke(SHORT)
        for model, method in zip(models, methods, strict=True)
    ]


@does("responses")
def responses(at):
    return chat(at, use_responses_api=True).invoke(SHORT)


@does("responses, streamed")
def responses_stream(at):
    return list(chat(at, use_responses_api=True).stream(SHORT))


@does("responses, long, streamed")
def responses_long(at):
    return list(chat(at, use_responses_api=True).stream(LONG))


@does("responses, tools, long result")
def responses_tools(at):
    return tool_round(chat(at, use_responses_api=True))


@does("completions")
def completions(at):
    model = OpenAI(model="gpt-3.5-turbo-instruct", base_url=at.url, api_key=at.key, max_retries=0)
    return [model.invoke(SHORT), list(model.stream(SHORT))]


@does("embeddings")
def embeddings(at):
    # check_embedding_ctx_length would fetch an encoding from the network
    options = {"check_embedding_ctx_length": False, "max_retries": 0}
    model = OpenAIEmbeddings(model="e", base_url=at.url, api_key=at.key, **options)
    return model.embed_documents(["a", "b"])


@does("errors")
def errors(at):
    return [
        attempt(lambda status=status: chat(at, model=f"fails-{status}").invoke(SHORT))
        for status in REFUSALS
    ]


@does("retries")
def retries(at):
    return chat(at, model="busy-at-first", max_retries=2).invoke(SHORT)


@does("timeout")
def timeout(at):
    return attempt(lambda: chat(at, model="stalls", timeout=1.0).invoke(SHORT))


@does("a stream that breaks off")
def breaks_off(at):
    return to_the_end(lambda: chat(at, model="breaks-off").stream(SHORT))


@does("Azure")
def azure(at):
    place = {"azure_endpoint": at.root, "azure_deployment": MODEL, "api_key": at.key}
    return AzureChatOpenAI(api_version="2025-04-01-preview", max_retries=0, **place).invoke(SHORT)


@does("policy by header")
def policy(at):
    return chat(at, default_headers={"x-laconic-policy": "off"}).invoke(LONG)


if __name__ == "__main__":
    run("langchain-openai")
