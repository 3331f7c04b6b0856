"""Servers that nobody here wrote answer through the proxy as they do directly.

``transformers serve`` and llama.cpp's server, each with a model of a few kilobytes whose tokens are
bytes and whose weights are random: it says nonsense, and always the same.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from matrix import HERE, HOMES, PASSAGES, QUESTION, engine, laconic, timeless, without_ids
from servers import PATIENCE_S, free_port
from tiny_models import chatting_llama

from proxy.cli.demonstration import prompt_of

ASKED = "LACONIC_CLIENTS" in os.environ
LONG = prompt_of(PASSAGES[:10], QUESTION)  # a token is a byte here
CHAT, RESPONSES, COMPLETIONS = "/v1/chat/completions", "/v1/responses", "/v1/completions"
OF_THE_MOMENT = {"date", "x-request-id", "openai-processing-ms", "connection", "transfer-encoding"}


def transformers(folder, port):
    """Hugging Face's server: it needs more packages than we have, and no others."""
    model = str(chatting_llama(folder / "llama"))
    binary = str(Path(sys.executable).with_name("transformers"))
    more = {"PYTHONPATH": str(HOMES / "serving"), "HF_HUB_OFFLINE": "1"}
    place = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return model, [binary, "serve", model, *place], more


def llama_cpp(folder, port):
    """llama.cpp's server in Python."""
    python, model = str(HOMES / "llama-cpp" / "bin" / "python"), str(folder / "tiny.gguf")
    script = HERE / "scripts" / "tiny_gguf.py"
    subprocess.run([python, script, model], check=True)  # noqa: S603 - our own
    place = ["--host", "127.0.0.1", "--port", str(port)]
    choices = ["--model_alias", "tiny", "--chat_format", "chatml", "--n_ctx", "16384"]
    return "tiny", [python, "-m", "llama_cpp.server", "--model", model, *choices, *place], {}


SERVERS = {
    "transformers": (transformers, "serving", "make test-clients"),
    "llama.cpp": (llama_cpp, "llama-cpp", "make .clients/llama-cpp/.installed test-clients"),
}


@contextmanager
def started(server, folder):
    """A server in a process of its own, once it answers: its model's name and its address."""
    port = free_port()
    model, command, more = server(folder, port)
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a server from our own environments
            command, stdout=log, stderr=log, env=os.environ | more
        )
    try:
        until_s = time.monotonic() + 2 * PATIENCE_S
        while not _answers(url):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until_s, f"{url} does not answer"
            time.sleep(0.2)
        yield model, url
    finally:
        process.kill()
        process.wait()


def _answers(url):
    try:
        return httpx.get(f"{url}/v1/models", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module", params=SERVERS)
def serving(request, tmp_path_factory):
    server, home, how = SERVERS[request.param]
    if not (ASKED and (HOMES / home / ".installed").exists()):
        pytest.skip(f"it needs packages of its own: {how}")
    with started(server, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def reader():
    made = engine()
    made.start()
    yield made
    made.close()


def said(text, **more):
    return {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 8,
        "temperature": 0,
    } | more


def asks(model):
    """What is asked: method, path, body."""
    named = {"model": model}
    yield "GET", "/v1/models", None
    yield "GET", "/v1/nothing", None
    yield "POST", CHAT, named | said("hi")
    yield "POST", CHAT, named | said("hi", stream=True)
    yield "POST", CHAT, named | said("hi", stream=True, stream_options={"include_usage": True})
    yield "POST", COMPLETIONS, named | {"prompt": "hi", "max_tokens": 8, "temperature": 0}
    yield "POST", RESPONSES, named | {"input": "hi", "max_output_tokens": 8}
    yield "POST", CHAT, {"model": "nobody/nothing"} | said("hi")
    yield "POST", CHAT, named | {"messages": 7}
    yield "POST", CHAT, "no object"


async def answer(url, method, path, body):
    """Status, fields and body, without what every moment changes."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        got = await client.request(method, url + path, json=body)
    fields = {
        name: value
        for name, value in got.headers.items()
        if name not in OF_THE_MOMENT and not name.startswith("x-laconic-")
    }
    return got.status_code, fields, _body(got)


def _body(got):
    text = without_ids(got.text)
    if not got.headers["content-type"].startswith("text/event-stream"):
        return timeless(json.loads(text)) if "json" in got.headers["content-type"] else text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    events = [timeless(json.loads(line)) for line in lines if line != "[DONE]"]
    return _words(events), events[-1], lines[-1] == "[DONE]"


def _words(events):
    """The text of a stream: which piece of it comes in which event is a matter of moments."""
    deltas = [event["choices"][0]["delta"] for event in events if event.get("choices")]
    pieces = [event["delta"] for event in events if isinstance(event.get("delta"), str)]
    return "".join([*(delta.get("content") or "" for delta in deltas), *pieces])


@pytest.mark.parametrize("policy", ["off", "default"])
async def test_answers_are_the_same(serving, reader, policy):
    model, url = serving
    await reader.wait_ready()
    async with laconic(url, reader, policy) as home:
        for ask in asks(model):
            assert await answer(home.url, *ask) == await answer(url, *ask), ask


@pytest.mark.parametrize(
    ("path", "ask"),
    [(CHAT, said(LONG)), (COMPLETIONS, {"prompt": LONG, "max_tokens": 8})],
    ids=["chat", "completions"],
)
async def test_fewer_tokens_reach_it_by_its_own_count(serving, reader, path, ask):
    model, url = serving
    await reader.wait_ready()
    entries = {}
    for policy in ("off", "default"):
        async with laconic(url, reader, policy) as home:
            status, _, body = await answer(home.url, "POST", path, {"model": model} | ask)
            entries[policy] = entry = await home.ledger.entry()
        assert (status, body["usage"]["prompt_tokens"]) == (200, entry.prompt_tokens)
    assert 0 < entry.tokens_saved < entry.tokens_before
    assert entries["default"].prompt_tokens < 0.7 * entries["off"].prompt_tokens
