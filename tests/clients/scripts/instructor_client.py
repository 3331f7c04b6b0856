"""Instructor, around OpenAI's client."""

import instructor
from doing import LONG, MODEL, REFUSALS, SHORT, attempt, does, plain, run
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel


class Canal(BaseModel):
    name: str
    length_km: int


def client(at, mode=instructor.Mode.TOOLS, **options):
    caller = OpenAI(base_url=at.url, api_key=at.key, **{"max_retries": 0} | options)
    return instructor.from_openai(caller, mode=mode)


def ask(text=SHORT, **options):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **options}


def canal(caller, text=SHORT, **options):
    got, whole = caller.chat.completions.create_with_completion(
        **ask(text, response_model=Canal, max_retries=0, **options)
    )
    return [got, whole]


@does("chat, long")
def long(at):
    return canal(client(at), LONG)


@does("chat, long, streamed")
def long_stream(at):
    return list(client(at).chat.completions.create_partial(**ask(LONG, response_model=Canal)))


@does("structured output")
def structured(at):
    modes = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)
    return [canal(client(at, mode)) for mode in modes]


@does("chat, streamed")
def stream(at):
    return list(client(at).chat.completions.create_partial(**ask(response_model=Canal)))


@does("chat, streamed, async")
async def astream(at):
    caller = instructor.from_openai(AsyncOpenAI(base_url=at.url, api_key=at.key, max_retries=0))
    parts = caller.chat.completions.create_partial(**ask(response_model=Canal))
    return [plain(part) async for part in parts]


@does("responses")
def responses(at):
    return canal(client(at, instructor.Mode.RESPONSES_TOOLS))


@does("errors")
def errors(at):
    return [
        attempt(lambda status=status: canal(client(at), model=f"fails-{status}"))
        for status in REFUSALS
    ]


@does("retries")
def retries(at):
    return canal(client(at, max_retries=2), model="busy-at-first")


@does("timeout")
def timeout(at):
    return attempt(lambda: canal(client(at, timeout=1.0), model="stalls"))


@does("policy by header")
def policy(at):
    return canal(client(at, default_headers={"x-laconic-policy": "off"}), LONG)


if __name__ == "__main__":
    run("instructor")
