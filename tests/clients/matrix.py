"""Each client runs the same script against the upstream and against proxies before it.

A *cell* is one thing that one client does.  It is equal where the client got the same, and the
upstream saw the same: under ``off`` whatever was sent, under ``default`` whatever was too short to
be compressed.  Where it was compressed, the upstream saw the same request with shorter texts.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import far as far_side
from house import house
from servers import PATIENCE_S

from proxy.app import build_engine
from proxy.cli.demonstration import load_passages, prompt_of
from proxy.gateway import Cascade
from proxy.memo import TurnMemo, VectorMemo
from proxy.policy import layered, load_policies
from proxy.settings import Settings

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "clients.md"
HOMES = Path(os.environ.get("LACONIC_CLIENTS") or HERE.parent.parent / ".clients").resolve()
OPENING, CLOSING = "<!-- clients -->\n", "<!-- /clients -->"
LIMIT_S = 5 * PATIENCE_S  # for one run of one script, on a machine with other things to do

QUESTION, PASSAGES = load_passages()
LONG = prompt_of(PASSAGES, QUESTION)
LONG_AGO = 1.5e9  # seconds since 1970: whatever is above is a clock's
HOP_BY_HOP = {
    "host",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "sec-websocket-key",  # a random number
}


@dataclass(frozen=True)
class Client:
    """Somebody's client: its name in the docs, its script, its environment if not our own."""

    name: str
    script: str
    home: str | None = None

    @property
    def command(self):
        if self.home is None:
            return [sys.executable]
        return ["node"] if self.home == "node" else [str(HOMES / self.home / "bin" / "python")]

    @property
    def folder(self):
        """Where its script may run: JavaScript only below its packages."""
        return HOMES / "node" if self.home == "node" else None

    @cached_property
    def snippet(self):
        """The first code under the client's heading in the docs."""
        section = PAGE.read_text("utf-8").partition(f"\n## {self.name}\n")[2].partition("\n## ")[0]
        code = re.search(r"```(?:python|js)\n(.*?)```", section, re.DOTALL)
        assert code, f"{PAGE}: found no code under ## {self.name}"
        return code[1]


CLIENTS = (
    Client("openai (Python)", "openai_client.py"),
    Client("openai (Node)", "openai_client.mjs", "node"),
    Client("LangChain", "langchain_client.py", "langchain"),
    Client("LlamaIndex", "llamaindex_client.py", "llamaindex"),
    Client("Pydantic AI", "pydantic_ai_client.py", "pydantic-ai"),
    Client("OpenAI Agents", "agents_client.py", "agents"),
    Client("Instructor", "instructor_client.py", "instructor"),
    Client("LiteLLM", "litellm_client.py", "litellm"),
    Client("Vercel AI SDK", "vercel_client.mjs", "node"),
)


@dataclass(frozen=True)
class Run:
    """What a client got, and what the upstream saw, by what was done."""

    got: dict[str, object]
    seen: dict[str, list[far_side.Seen]]
    url: str


@dataclass(frozen=True)
class Column:
    """What was found of one client: by what it did, the differences."""

    version: str
    cells: dict[str, tuple[str, ...]]

    @property
    def differing(self):
        return {name: found for name, found in self.cells.items() if found}


# -- running --------------------------------------------------------------------------------------


def engine():
    """The engine of ``laconic serve``, with the shipped encoder; start it, and close it."""
    settings = Settings(upstream="http://127.0.0.1:1", ledger_path=None, memo_path=None)
    return build_engine(settings, VectorMemo(settings.memo_bytes))


async def column(client, model):
    """Compare what a client does directly and through either proxy, in a column of the table."""
    direct = await _direct(client)
    plain = await _through(client, model, "off")
    compressing = await _through(client, model, "default")
    version = direct.got.pop("version")
    return Column(
        version, {name: compared(name, direct, plain, compressing) for name in direct.got}
    )


async def _direct(client):
    async with far_side.listening() as far:
        return Run(await _run(client, far.url), far.seen, far.url)


async def _through(client, model, policy):
    async with far_side.listening() as far, laconic(far, model, policy) as home:
        return Run(await _run(client, home.url), far.seen, home.url)


def laconic(far, model, policy):
    """A proxy as it is shipped, that takes whatever time it needs."""
    shipped = load_policies(layered({}))
    patient = {
        name: one.model_copy(update={"deadline_s": float(PATIENCE_S)})
        for name, one in shipped.policies.items()
    }
    method = Cascade(TurnMemo(), lambda: model.revision, tagged=TurnMemo(), cuts=TurnMemo())
    policies = replace(shipped, policies=patient)
    return house(far, fallback=policy, method=method, engine=model, policy_set=policies)


async def _run(client, url):
    """Run a client's script in its environment; return what it got, by what it did."""
    snippet = client.snippet.replace("http://127.0.0.1:8790", url)
    job = json.dumps({"url": url, "long": LONG, "snippet": snippet}).encode()
    with TemporaryDirectory(dir=client.folder) as folder:
        shutil.copytree(
            HERE / "scripts", folder, dirs_exist_ok=True
        )  # node looks for packages there
        process = await asyncio.create_subprocess_exec(
            *client.command,
            client.script,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": folder, "OPENAI_API_KEY": "sk-snippet"},
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                out, err = await process.communicate(job)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, err.decode()
    told = [json.loads(line) for line in out.splitlines()]
    return {one["does"]: one["got"] for one in told}


# -- comparing ------------------------------------------------------------------------------------


def compared(name, direct, plain, compressing):
    """The differences of one cell; what is named long has to be compressed."""
    shrinks = ", long" in name
    found = []
    if isinstance(direct.got[name], dict) and "broke" in direct.got[name]:
        found.append(f"the client alone: {direct.got[name]['broke']}")
    for policy, run in (("off", plain), ("default", compressing)):
        if _got(run, name) != _got(direct, name):
            found.append(f"{policy}: the client got {_first(_got(run, name), _got(direct, name))}")
        mine, its = _saw(run, name), _saw(direct, name)
        if policy == "default" and shrinks:
            if not _shortened(its, mine):
                found.append(f"{policy}: the upstream did not see the same with shorter texts")
        elif mine != its:
            found.append(f"{policy}: the upstream saw {_first(mine, its)}")
    return tuple(found)


def _got(run, name):
    """What the client got, without what every proxy and every moment changes."""
    text = json.dumps(run.got.get(name, "nothing")).replace(run.url, "URL")
    return timeless(json.loads(without_ids(text)))


def timeless(value):
    """Without clocks and the headers that every hop has of its own; the upstream's clock says 1."""
    match value:
        case list():
            return [timeless(one) for one in value if not _is_field_apart(one)]
        case dict():
            return {key: timeless(one) for key, one in value.items()}
        case int() | float() if value > LONG_AGO:
            return "MOMENT"
    return value


def _is_field_apart(value):
    match value:
        case [str(name), str()]:
            return name in {"date", *HOP_BY_HOP} or name.startswith("x-laconic-")
    return False


def _saw(run, name):
    """The requests of one thing done: method, target, fields in order, body."""
    return [_request(seen) for seen in run.seen.get(name.replace(" ", "-"), ())]


def _request(seen):
    kept = [
        (name, value)
        for name, value in seen.headers
        if name.lower() not in HOP_BY_HOP and not name.lower().startswith("x-laconic-")
    ]
    text = json.dumps([seen.method, seen.target, kept, seen.body.decode("latin-1")])
    boundary = re.search(r'multipart/form-data; boundary=([^"]+)"', text)
    text = text.replace(boundary[1], "BOUNDARY") if boundary else text
    return json.loads(without_ids(text))


def without_ids(text):
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)


def _shortened(before, after):
    """Whether these are the same requests, some texts of the last one being shorter."""
    bodies = [[json.loads(body) for *_, body in side] for side in (before, after)]
    heads = [[_head(request) for request in side] for side in (before, after)]
    sizes = [len(side[-1][3]) if side else 0 for side in (before, after)]
    return heads[0] == heads[1] and _same_but_text(*bodies) and sizes[1] < sizes[0]


def _head(request):
    method, target, fields, _ = request
    return method, target, [field for field in fields if field[0].lower() != "content-length"]


def _same_but_text(before, after):
    match before, after:
        case str(), str():
            rest = iter(before.split())
            return before == after or all(word in rest for word in after.split())
        case dict(), dict():
            return before.keys() == after.keys() and all(
                _same_but_text(before[key], after[key]) for key in before
            )
        case list(), list():
            return len(before) == len(after) and all(map(_same_but_text, before, after))
    return before == after


def _first(found, wanted, at=""):
    """Say where two values differ first."""
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
    elif isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        pairs = ((key, (found[key], wanted[key])) for key in found)
    else:
        return f"{json.dumps(found)[:300]}, not {json.dumps(wanted)[:300]}{at and f' at {at}'}"
    key, (mine, its) = next((key, pair) for key, pair in pairs if pair[0] != pair[1])
    return _first(mine, its, f"{at}/{key}")


# -- telling --------------------------------------------------------------------------------------


def table(columns):
    """The table of the docs: a column for each client by name, a row for each thing done."""
    done = list(dict.fromkeys(name for column in columns.values() for name in column.cells))
    rows = [
        ["", *columns],
        ["---"] * (len(columns) + 1),
        ["version", *(column.version for column in columns.values())],
        *([name, *(_mark(column.cells.get(name)) for column in columns.values())] for name in done),
    ]
    notes = [
        f"- {client}, {name}: {'; '.join(found)}"
        for client, column in columns.items()
        for name, found in column.differing.items()
    ]
    count = sum(len(column.cells) for column in columns.values())
    verdict = f"{count} cells, {len(notes)} of them different."
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", verdict, *notes])


def _mark(found):
    return "" if found is None else "differs" if found else "equal"


def write(columns):
    """Put the table into the docs."""
    before, _, rest = PAGE.read_text("utf-8").partition(OPENING)
    after = rest.partition(CLOSING)[2]
    PAGE.write_text(f"{before}{OPENING}{table(columns)}\n{CLOSING}{after}", "utf-8")
