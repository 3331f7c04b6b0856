"""The demo: the reader that plays the large model, the upstream it lives in, and the whole."""

import json
import os
import sqlite3
from contextlib import closing

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, DefaultAsyncHttpxClient
from rich.console import Console
from typer.testing import CliRunner

from proxy.cli import demonstration
from proxy.cli.commands import app
from proxy.cli.demonstration import Call, Comparison, load_passages, prompt_of
from proxy.cli.reader import last_question, read
from proxy.cli.stand_in import MODEL, StandIn, listening
from proxy.tokens import encoding_for

QUESTION, PASSAGES = load_passages()


@pytest.mark.parametrize(
    ("question", "passage", "part"),
    [
        (QUESTION, 4, "Wilhelm II"),
        ("When did the Ancon pass through the Panama Canal?", 2, "1914"),
        ("How long is the Corinth Canal?", 3, "6.4 km"),
        ("Who was the engineer of the Bridgewater Canal?", 12, "James Brindley"),
        ("Which emperor had the parts of the Grand Canal of China joined?", 6, "Yang"),
        ("Why did Britain and Siam leave the land at Kra uncut?", 20, "Singapore"),
        ("Who is credited with the mitre gate?", 18, "Leonardo"),
        ("When did the caliph close the canal of the pharaohs?", 19, "767"),
    ],
)
def test_reader_answers_from_the_prompt(question, passage, part):
    found = read(prompt_of(PASSAGES, question))
    assert (found.passage, part in found.sentence) == (passage, True)


def test_reader_knows_nothing_but_the_prompt():
    without = [p for p in PASSAGES if p.title != "Kiel Canal"]
    assert "Wilhelm" not in str(read(prompt_of(without, QUESTION)))


def test_reader_says_when_there_is_nothing_to_answer():
    assert str(read("Good morning.")) == "There is no question in what I was sent."
    assert str(read("Good morning. Who?")) == "I find no answer in what I was sent."


def test_reader_reads_plain_text_too():
    assert str(read("The mill burned in 1802. It was cold. When did the mill burn?")) == (
        "The mill burned in 1802."
    )


def test_the_last_question_counts():
    assert last_question("Who? No one.\n\nQuestion: Where to?") == "Where to?"


def client(base_url):
    http = DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(base_url=base_url, api_key="demo", http_client=http, max_retries=0)


async def test_stand_in_speaks_the_wire():
    prompt = prompt_of(PASSAGES, QUESTION)
    parts = [{"type": "text", "text": prompt}]
    server = StandIn()
    async with listening(server) as url, client(url) as openai:
        whole = await openai.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": parts}]
        )
        chunks = await openai.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        streamed = [chunk async for chunk in chunks]
        models = [model.id async for model in openai.models.list()]
    assert whole.choices[0].message.content == str(read(prompt))
    assert whole.usage.prompt_tokens == encoding_for(MODEL).count(prompt)
    words = [chunk.choices[0].delta.content or "" for chunk in streamed[:-1]]
    assert "".join(words) == str(read(prompt))
    assert streamed[-1].usage == whole.usage
    assert models == [MODEL]
    assert server.prompts == [prompt, prompt]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 3}'])
async def test_stand_in_refuses_what_is_no_chat_request(body):
    async with listening(StandIn()) as url, httpx.AsyncClient(trust_env=False) as caller:
        answer = await caller.post(f"{url}/chat/completions", content=body)
    assert answer.status_code == BadRequestError.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def call(passage, tokens, saved=0):
    return Call(f"So. [passage {passage}]", tokens, {"x-laconic-tokens-saved": str(saved)})


def test_demo_holds_only_where_less_was_sent_and_the_answer_is_the_same():
    direct, through = call(4, 100), call(4, 40, 60)
    good = Comparison(direct, through, through.answer, "")
    assert good.holds
    assert not Comparison(direct, call(5, 40, 60), through.answer, "").holds
    assert not Comparison(direct, call(4, 100, 0), through.answer, "").holds
    assert not Comparison(direct, through, "another", "").holds


def test_demo_marks_what_was_kept_and_what_was_dropped():
    kept = "It runs for 98 km from Brunsbüttel on the Elbe to Kiel on the Baltic."
    received = f"Passage 4: Kiel Canal\n{kept}"
    compared = Comparison(call(4, 100), call(4, 40, 60), "So. [passage 4]", received)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    demonstration.show(console, compared, PASSAGES, QUESTION)
    console.file.close()
    text = console.export_text()
    assert "+ Passage 4: Kiel Canal\n- The Kiel Canal crosses" in text
    assert f"+ {kept}" in text
    assert "- Passage 5: Erie Canal" in text


def test_demo_runs_from_client_to_ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LACONIC_UPSTREAM", "http://127.0.0.1:9/not-for-the-demo")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0, done.stdout
    assert done.stdout.count("[passage 4]") == 2
    assert "laconic serve --upstream https://api.openai.com/v1" in done.stdout
    ledger = tmp_path / "laconic" / "demo" / "ledger.sqlite3"
    with closing(sqlite3.connect(ledger)) as database:
        rows = database.execute(
            "SELECT policy, stream, tokens_before > tokens_after, ended, status FROM exchanges"
        ).fetchall()
    assert rows == [("rag", 0, 1, "complete", 200), ("rag", 1, 1, "complete", 200)]
    lines = ledger.with_name("log.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events.count("exchange") == 2
    for path in ledger.parent.iterdir():
        stored = path.read_bytes()
        assert b"Brunsb" not in stored
        assert b"canary" not in stored
