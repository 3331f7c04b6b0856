"""Every line that the proxy logs is in ``docs/log-schema.json``, and real lines fit it."""

import ast
import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import entries
from house import DropsX, InstantEngine, house, policies
from jsonschema import Draft202012Validator
from servers import CHAT, JSON, call, chat, upstream
from test_app import logging_to, settings
from test_gateway_breaker import REFUSALS, refuses_edits
from test_gateway_recovery import BROKEN
from test_workers import PASSAGES, QUESTION, prompt_of, supervised

from proxy.app import (
    Worker,
    _breaker_changed,
    _load,
    open_disk_memo,
    open_policies,
    open_sent,
    reload_policies,
    tell_of_capture,
    warn_if_open,
)
from proxy.engine import Engine
from proxy.errors import ScorerFailed
from proxy.gateway import Compression, Metrics
from proxy.gateway.recovery import Recovery
from proxy.ledger import Bounds, Clerk, LogSink, SqliteSink
from proxy.ledger.entry import Ended, field_docs
from proxy.memo import VectorMemo
from proxy.policy import Route
from proxy.types import Arm, Mode, Reason
from proxy.upstream import Answer
from proxy.workers import Supervisor

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "log-schema.json").read_text())
EVENTS = [each["$ref"].removeprefix("#/$defs/") for each in SCHEMA["oneOf"]]
LOGGER = re.compile(
    r"\b(_?log|get_logger\('laconic'\))\.(debug|info|warning|error|log)$"
    r"|^getattr\(self\._log, level\)$"
)
ENTRY = entries.entry(1, datetime.now(UTC))


def checked(line):
    """What a line is wrong in, by its event's own schema."""
    if line["event"] not in EVENTS:
        return [f"unknown: {line['event']}"]
    own = {"$ref": f"#/$defs/{line['event']}", "$defs": SCHEMA["$defs"]}
    found = Draft202012Validator(own).iter_errors(line)
    return [f"{line['event']}: {error.message}" for error in found]


# -- the schema and the code ----------------------------------------------------------------------


def logged():
    """Each event that the code logs, with the names of the fields that it gives."""
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and LOGGER.search(ast.unparse(node.func))):
                continue
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
            named = [text for text in texts if isinstance(text, str)]
            if named:
                yield named[0], {keyword.arg for keyword in node.keywords}


def test_every_event_of_the_code_is_in_the_schema_with_its_fields():
    found = dict(logged())
    assert {*found, "exchange"} == set(EVENTS)
    for event, names in found.items():
        described = set(SCHEMA["$defs"][event]["properties"]) - {"event", "level"}
        assert names - {None} <= described, event
        assert None in names or names == described, event


def test_the_exchanges_fields_are_the_entrys():
    fields = dict(SCHEMA["$defs"]["exchange"]["properties"])
    assert (fields.pop("event"), fields.pop("level")) == ({"const": "exchange"}, {"enum": ["info"]})
    assert list(fields) == list(ENTRY.record())
    assert {name: field["description"] for name, field in fields.items()} == {
        name: text for name, text in field_docs().items() if name in fields
    }
    enums = {"reason": Reason, "mode": Mode, "arm": Arm, "ended": Ended}
    for name, kind in enums.items():
        assert set(fields[name]["enum"]) - {None} == set(map(str, kind))


def test_the_schema_is_one_and_every_event_is_in_the_docs():
    Draft202012Validator.check_schema(SCHEMA)
    text = (ROOT / "docs" / "observability.md").read_text()
    for event in EVENTS:
        own = SCHEMA["$defs"][event]
        levels = ", ".join(own["properties"]["level"]["enum"])
        assert f"| `{event}` | {levels} | {own['description']} |\n" in text


def test_a_field_that_nobody_knows_and_one_that_is_missing_do_not_fit():
    line = {"event": "ledger-fault", "level": "error", "timestamp": "2026-01-01T00:00:00Z"}
    assert checked(line | {"type": "ValueError"}) == []
    assert checked(line) == ["ledger-fault: 'type' is a required property"]
    assert len(checked(line | {"type": "ValueError", "text": "x"})) == 1
    assert len(checked(line | {"type": "ValueError", "level": "info"})) == 1


# -- real lines -----------------------------------------------------------------------------------


class Breaks(DropsX):
    """A method with a bug."""

    def compress(self, request, policy):
        raise ZeroDivisionError
        yield


class Fails(InstantEngine):
    """A model that fails."""

    def submit(self, request, *, within_s=None):
        raise ScorerFailed("it broke")


async def ask(home):
    await call(home.port, "POST", CHAT, chat("keep xdrop and this"), [JSON])


async def exchanges():
    """Exchanges as they go, and with every fault there is."""
    async with upstream() as far:
        async with house(far, sinks=[LogSink()]) as home:
            await ask(home)
            await home.ledger.entry()
        async with house(far, method=Breaks()) as home:
            await ask(home)
        async with house(far, engine=Fails()) as home:
            await ask(home)
        async with house(far) as home:
            home.store._current = None
            await ask(home)
    async with upstream(refuses_edits()) as far, house(far) as home:
        for _ in range(REFUSALS):
            await ask(home)
    _breaker_changed(Metrics(), "fallback", False)


async def recovery():
    async def coming():
        yield json.dumps({"choices": [{"message": {"content": "By Wilhelm Röntgen."}}]}).encode()

    compression = Compression(DropsX(), InstantEngine(), limit_bytes=1000)
    got = await Recovery(BROKEN, compression.work).of(Answer(200, "OK", (JSON,), coming()))
    assert [piece async for piece in got.chunks]
    compression.close()


def ledger(path):
    sink = SqliteSink(path, Bounds(days=1))
    sink.write(replace(ENTRY, started_at="2020-01-01T00:00:00+00:00"))
    sink.flush()
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE exchanges")
        database.commit()
    sink.write(ENTRY)
    sink.close()
    clerk = Clerk([])
    clerk.write(lambda: 1 / 0)
    clerk.close()


def files(folder):
    """What cannot be used, or not any more."""
    path = folder / "memo.sqlite3"
    open_disk_memo(settings(memo_path=path)).close()
    content = bytearray(path.read_bytes())
    content[200:4096] = b"\xff" * (4096 - 200)
    path.write_bytes(content)
    open_disk_memo(settings(memo_path=path)).close()
    open_disk_memo(settings(memo_path=folder))
    sent = open_sent(Worker(1, folder, 0))
    sent.close()
    sent.meet([b"digest"])
    open_sent(Worker(1, folder / "nowhere", 0))


def configuration(folder):
    warn_if_open(settings(host="0.0.0.0", admin_host="0.0.0.0", admin_port=1))  # noqa: S104
    watched = replace(policies(), routes=(Route(path="/a", policy="on", capture=True),))
    tell_of_capture(watched, folder / "ledger")
    tell_of_capture(watched, None)
    store = open_policies(settings(policies=folder))
    reload_policies(store, folder)
    (folder / "mine.yaml").write_text("mode: sideways\n")
    reload_policies(store, folder)


async def model():
    def load():
        raise RuntimeError("no such file")

    engine = Engine(load, VectorMemo(), threads=1)
    engine.start()
    await _load(engine)
    engine.close()


def killed(folder):
    supervisor = Supervisor(settings(), folder)
    with subprocess.Popen(["sleep", "60"]) as hangs:  # noqa: S607
        supervisor._alive[1] = hangs
        supervisor._kill()


async def supervised_lines(folder):
    """What two workers and their supervisor say, one of them being killed."""
    (folder / "policies").mkdir()
    async with upstream() as far, supervised(folder, far.url, policies=folder / "policies") as run:
        await run.logged("ready", 2)
        body = {"messages": [{"role": "user", "content": prompt_of(PASSAGES, QUESTION)}]}
        await call(run.port, "POST", CHAT, json.dumps(body).encode(), [JSON])
        await run.logged("exchange", 1)
        os.kill(run.all("worker-started")[0]["pid"], signal.SIGKILL)
        await run.logged("listening", 3)
        run.process.terminate()
        assert await run.gone() == 0
    assert run.text == ""
    return run.lines


async def test_lines_of_every_event_fit_the_schema(tmp_path):
    with logging_to() as stream:
        await exchanges()
        await recovery()
        ledger(tmp_path / "ledger.sqlite3")
        files(tmp_path)
        configuration(tmp_path)
        await model()
        killed(tmp_path)
        logging.getLogger("aiohttp.server").error("Error from %s", "somebody")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (tmp_path / "run").mkdir()
    lines += await supervised_lines(tmp_path / "run")
    assert [problem for line in lines for problem in checked(line)] == []
    assert {line["event"] for line in lines} == set(EVENTS)
