"""``laconic demo``: the main job, offline, with nothing faked but the large model.

The proxy runs as ``laconic serve`` does, in a process of its own; the client is the official one;
the upstream answers from the prompt that reaches it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from proxy.cli import reporting
from proxy.cli.reader import sentences
from proxy.cli.stand_in import MODEL, StandIn, listening
from proxy.errors import PolicyError
from proxy.settings import PREFIX, default_ledger_path

if TYPE_CHECKING:
    from openai import AsyncOpenAI

POLICY: Final = "rag"
_READY_S: Final = 60.0
_POLL_S: Final = 0.1
_STOP_S: Final = 20.0
_SHOWN: Final = 3  # passages in the excerpt

_NO_CLIENT = """\
The demo talks to the proxy with the official client, which is not installed here:

    pip install 'laconic[demo]'        # or: pip install openai
"""

_REAL_ONE = """\
OPENAI_API_KEY is set.  The same, in front of the real one:

    laconic serve --upstream https://api.openai.com/v1
    client = OpenAI(base_url="http://127.0.0.1:8790/v1")\
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """One of the demo's texts."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo leaves its traces."""

    ledger: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Call:
    """One answer, and what the caller learns beside it."""

    answer: str
    prompt_tokens: int
    headers: Mapping[str, str]

    @property
    def passage(self) -> str:
        """The passage that the answer names."""
        return self.answer.rpartition("[passage ")[2].rstrip("]")

    @property
    def saved(self) -> int:
        """Tokens that the proxy says it saved."""
        return int(self.headers.get("x-laconic-tokens-saved", 0))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same question, asked of the upstream directly and through the proxy."""

    direct: Call
    through: Call
    streamed: str
    received: str  # the prompt that reached the upstream through the proxy

    @property
    def holds(self) -> bool:
        """Whether fewer tokens were sent, and the answer is from the same passage."""
        return (
            self.through.saved > 0
            and self.through.prompt_tokens < self.direct.prompt_tokens
            and self.through.passage.isdigit()
            and self.direct.passage == self.through.passage
            and self.streamed == self.through.answer
        )


def run(question: str | None, rate: float) -> int:
    """Run the demo; return the exit code.

    Raises PolicyError where the proxy does not start.
    """
    console = Console()
    if importlib.util.find_spec("openai") is None:
        console.print(_NO_CLIENT, markup=False)
        return 1
    asked, passages = load_passages()
    started = reporting.moments("0m", None)
    places = _places()
    prompt = prompt_of(passages, question or asked)
    compared = asyncio.run(_compare(prompt, rate, places))
    show(console, compared, passages, question or asked)
    console.print()
    reporting.show(reporting.read(places.ledger, "policy", started, None), console)
    console.print(f"\nledger  {places.ledger}\nlog     {places.log}", markup=False, highlight=False)
    if os.environ.get("OPENAI_API_KEY"):
        console.print(f"\n{_REAL_ONE}", markup=False, highlight=False)
    if not compared.holds:
        console.print("\nThe answers differ, or nothing was saved.", style="bold red")
    return 0 if compared.holds else 1


def load_passages() -> tuple[str, list[Passage]]:
    """Return the demo's question and passages."""
    text = resources.files("proxy.cli").joinpath("demo_passages.json").read_text("utf-8")
    data: dict[str, Any] = json.loads(text)
    return data["question"], [Passage(**passage) for passage in data["passages"]]


def prompt_of(passages: list[Passage], question: str) -> str:
    """Write the prompt as a retrieval application would."""
    numbered = (f"Passage {n}: {p.title}\n{p.text}" for n, p in enumerate(passages, 1))
    return "\n\n".join([*numbered, f"Question: {question}"])


def _places() -> Places:
    directory = default_ledger_path(os.environ).absolute().parent / "demo"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        wanted = "a directory to write to: set XDG_STATE_HOME"
        raise PolicyError(f"{directory}: found {error.strerror}, wanted {wanted}") from error
    return Places(directory / "ledger.sqlite3", directory / "log.jsonl")


# -- the exchange ---------------------------------------------------------------------------------


async def _compare(prompt: str, rate: float, places: Places) -> Comparison:
    upstream = StandIn()
    async with listening(upstream) as direct_url, _proxy(direct_url, places) as proxy_url:
        direct = await _ask(direct_url, prompt, {})
        headers = {"x-laconic-rate": str(rate)}
        through = await _ask(proxy_url, prompt, headers)
        received = upstream.prompts[-1]
        streamed = await _ask_streaming(proxy_url, prompt, headers)
    return Comparison(direct, through, streamed, received)


@asynccontextmanager
async def _client(base_url: str, headers: Mapping[str, str]) -> AsyncIterator[AsyncOpenAI]:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415 - optional

    # No proxy of the environment may come between us and the loopback address.
    http = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(
        base_url=base_url, api_key="demo", default_headers=headers, http_client=http
    ) as client:
        yield client


async def _ask(base_url: str, prompt: str, headers: Mapping[str, str]) -> Call:
    async with _client(base_url, headers) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}]
        )
        answer = raw.parse()
    tokens = answer.usage.prompt_tokens if answer.usage else 0
    return Call(answer.choices[0].message.content or "", tokens, dict(raw.headers))


async def _ask_streaming(base_url: str, prompt: str, headers: Mapping[str, str]) -> str:
    async with _client(base_url, headers) as client:
        chunks = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt}], stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


# -- the proxy ------------------------------------------------------------------------------------


@asynccontextmanager
async def _proxy(upstream: str, places: Places) -> AsyncIterator[str]:
    """Run ``laconic serve`` on a free port; yields the base URL once it is ready."""
    port = _free_port()
    options = {
        "--upstream": upstream,
        "--port": str(port),
        "--policy": POLICY,
        "--ledger": str(places.ledger),
    }
    arguments = [word for option in options.items() for word in option]
    # What is set for the user's own proxy is not meant for this one.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    environ[f"{PREFIX}MEMO_PATH"] = "none"  # what a demo before read must not make this one faster
    with places.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", *arguments, stderr=log, env=environ
        )
    try:
        await _ready(process, port, places.log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await _stop(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


async def _ready(process: Process, port: int, log: Path) -> None:
    """Wait until the proxy says so.  Raises PolicyError where it does not come to that."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(int(_READY_S / _POLL_S)):
            if process.returncode is not None:
                break
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            await asyncio.sleep(_POLL_S)
    raise PolicyError(f"{log}: found that the proxy did not start, wanted it ready: see the log")


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


# -- what is shown --------------------------------------------------------------------------------


def show(console: Console, compared: Comparison, passages: list[Passage], question: str) -> None:
    """Print the comparison and an excerpt of what was kept and dropped."""
    console.print(f"\n[bold]{len(passages)} passages, one question:[/bold] {escape(question)}\n")
    console.print(_table(compared))
    names = ("tokens-before", "tokens-after", "tokens-saved", "rate", "policy", "compress-ms")
    for name in names:
        value = compared.through.headers.get(f"x-laconic-{name}", "-")
        console.print(f"x-laconic-{name}: {value}", style="dim", markup=False, highlight=False)
    same = "the same" if compared.streamed == compared.through.answer else "another answer"
    console.print(f"\nstreamed through the proxy: {same}, word by word\n")
    console.print("[bold]What the upstream was sent[/bold] ([green]+ kept[/], [red]- dropped[/])")
    for number in _excerpt(compared, len(passages)):
        console.print(_marked(number, passages[number - 1], compared.received))


def _table(compared: Comparison) -> Table:
    table = Table("", "prompt tokens, as the upstream counted", "answer", show_lines=True)
    for name, call in (("directly", compared.direct), ("through Laconic", compared.through)):
        table.add_row(name, f"{call.prompt_tokens:,}", escape(call.answer))
    return table


def _excerpt(compared: Comparison, passages: int) -> range:
    """Return the numbers of the passages to show: the answer's and its neighbours."""
    answer = int(compared.through.passage) if compared.through.passage.isdigit() else 1
    first = min(max(1, answer - 1), passages - _SHOWN + 1)
    return range(first, first + _SHOWN)


def _marked(number: int, passage: Passage, received: str) -> Text:
    head = f"Passage {number}: {passage.title}"
    text = Text(f"\n{_mark(head in received)} {head}\n", style="bold")
    for sentence in sentences(passage.text):
        kept = sentence in received
        style = "not bold green" if kept else "not bold dim strike red"
        text.append(f"{_mark(kept)} ", style="not bold")
        text.append(f"{sentence}\n", style=style)
    return text


def _mark(kept: bool) -> str:  # noqa: FBT001 - one of two marks
    return "+" if kept else "-"
