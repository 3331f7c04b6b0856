"""The application's own endpoints, its policies kept fresh, its logs, and the process itself."""

import asyncio
import io
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from house import DropsX, InstantEngine, house
from servers import (
    CHAT,
    JSON,
    PATIENCE_S,
    answer,
    call,
    chat,
    chunk,
    connected,
    free_port,
    read_message,
    request_bytes,
    until_ready,
    upstream,
)

from proxy.app import (
    build_app,
    build_runner,
    configure_logging,
    listen,
    memo_usage,
    open_disk_memo,
    open_policies,
    open_sinks,
    refuse_itself,
    reload_policies,
    watch_policies,
)
from proxy.errors import PolicyError
from proxy.gateway import Metrics
from proxy.ledger import LedgerEntry, LogSink, SqliteSink
from proxy.memo import DiskShelf, VectorMemo
from proxy.settings import Settings


def settings(**values):
    return Settings(**{"upstream": "http://127.0.0.1:9", "ledger_path": None} | values)


# -- endpoints -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/livez", {200}),
        ("/readyz", {200}),
        ("/metrics", {200}),
        ("/laconic", {308, 404}),  # the dashboard's address, where nothing is posted to
        ("/laconic/x?y=1", {404}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_our_own_paths_are_never_forwarded(target, status, method):
    async with upstream() as far, house(far) as home:
        got = await call(home.port, method, target)
        await asyncio.sleep(0)
    assert got.status in status
    assert (far.seen, home.ledger.entries) == ([], [])


async def test_what_is_not_there_is_said_in_openais_words():
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "GET", "/laconic/dashboard")
    assert got.json() == {
        "error": {
            "message": "Not Found",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    }
    assert got.get("x-laconic-origin") == "proxy"


class Cold(InstantEngine):
    def ready(self):
        return False


async def test_ready_means_a_warm_model_and_never_asks_the_upstream():
    async with upstream() as far:
        async with house(far) as home:
            warm = await call(home.port, "GET", "/readyz")
        async with house(far, engine=Cold()) as home:
            cold = await call(home.port, "GET", "/readyz")
            live = await call(home.port, "GET", "/livez")
    assert (warm.status, warm.json()) == (200, {"ready": True, "missing": []})
    assert (cold.status, cold.json()) == (
        503,
        {"ready": False, "missing": ["model: still loading"]},
    )
    assert live.status == 200
    assert far.seen == []


async def test_refused_policies_are_named_while_the_last_good_ones_serve():
    async with upstream() as far, house(far) as home:
        home.store.replace({"bad.yaml": "mode: sideways"})
        got = await call(home.port, "GET", "/readyz")
    assert (got.status, got.json()["ready"]) == (200, True)
    assert "bad.yaml:1: mode: found 'sideways'" in got.json()["policies"]


# -- listening -------------------------------------------------------------------------------------


async def test_a_port_in_use_is_named():
    async with upstream() as far, house(far) as home:
        values = settings(port=home.port)
        app = build_app(values, home.store, method=DropsX(), engine=InstantEngine())
        with pytest.raises(PolicyError, match=f"--port: found {home.port}, which is in use"):
            await listen(build_runner(app, values), values.host, values.port)


async def test_a_host_that_is_not_ours_is_named():
    async with upstream() as far, house(far) as home:
        app = build_app(settings(), home.store, method=DropsX(), engine=InstantEngine())
        with pytest.raises(PolicyError, match=r"--host: found '192\.0\.2\.1'"):
            await listen(build_runner(app, settings()), "192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:8790/v1"),
        ("127.0.0.1", "http://localhost:8790"),
        ("localhost", "http://127.0.0.1:8790"),
        ("0.0.0.0", "http://127.0.0.1:8790/v1"),  # noqa: S104 - the wildcard is the case
    ],
)
def test_an_upstream_that_is_the_proxy_itself_is_refused_at_the_start(host, base):
    with pytest.raises(PolicyError, match=r"--upstream: found .*, this proxy itself"):
        refuse_itself(settings(host=host, upstream=base))


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:8791", "http://192.0.2.1:8790", "https://api.openai.com/v1"]
)
def test_another_server_is_not_refused(base):
    assert refuse_itself(settings(upstream=base)) is None


async def test_a_request_line_and_headers_of_60_kib_are_taken():
    long = "v" * 60_000
    async with upstream() as far, house(far) as home:
        got = await call(home.port, "GET", "/v1/x?" + long, None, [("X-Long", long)])
    assert (got.status, far.last.target, far.last.get("x-long")) == (200, "/v1/x?" + long, long)


# -- policies --------------------------------------------------------------------------------------


def test_the_shipped_policies_are_there_without_a_directory():
    store = open_policies(settings())
    assert {"default", "rag", "chat", "few-shot", "audit", "off"} <= set(store.current.policies)
    assert store.current.fallback == "default"


def test_the_settings_choose_the_fallback(tmp_path):
    (tmp_path / "mine.yaml").write_text("mode: off\n")
    store = open_policies(settings(policies=tmp_path, policy="mine"))
    assert store.current.fallback == "mine"
    assert "rag" in store.current.policies


def test_a_bad_policy_file_stops_the_start(tmp_path):
    (tmp_path / "mine.yaml").write_text("mod: off\n")
    with pytest.raises(PolicyError, match=r"mine\.yaml:1: mod: "):
        open_policies(settings(policies=tmp_path))


def test_a_bad_reload_keeps_the_last_good_policies_and_says_so(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("min_tokens: 7\n")
    store = open_policies(settings(policies=tmp_path))
    file.write_text("min_tokens: many\n")
    with structlog.testing.capture_logs() as lines:
        reload_policies(store, tmp_path)
        file.write_text("min_tokens: 8\n")
        reload_policies(store, tmp_path)
    assert [line["event"] for line in lines] == ["policies-refused", "policies-loaded"]
    assert lines[0]["error"].startswith("mine.yaml:1: min_tokens: found 'many'")
    assert store.current.policies["mine"].min_tokens == 8


def test_a_directory_that_is_gone_keeps_the_last_good_policies(tmp_path):
    (tmp_path / "d").mkdir()
    store = open_policies(settings(policies=tmp_path / "d"))
    (tmp_path / "d").rmdir()
    with structlog.testing.capture_logs() as lines:
        reload_policies(store, tmp_path / "d")
    assert [line["event"] for line in lines] == ["policies-refused"]
    assert "default" in store.current.policies


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_changed_files_are_taken_over_without_asking(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("min_tokens: 7\n")
    store = open_policies(settings(policies=tmp_path))
    watching = asyncio.create_task(watch_policies(store, tmp_path, asyncio.Event(), 0.01))
    await asyncio.sleep(0.1)
    file.write_text("min_tokens: 12345\n")
    await until(lambda: store.current.policies["mine"].min_tokens == 12345)
    (tmp_path / "new.yaml").write_text("mode: off\n")
    await until(lambda: "new" in store.current.policies)
    watching.cancel()


async def test_asking_reloads_at_once(tmp_path):
    store, asked = open_policies(settings(policies=tmp_path)), asyncio.Event()
    watching = asyncio.create_task(watch_policies(store, tmp_path, asked, 3600))
    (tmp_path / "new.yaml").write_text("mode: off\n")
    asked.set()
    await until(lambda: "new" in store.current.policies)
    watching.cancel()


# -- records and logs ------------------------------------------------------------------------------


def test_the_ledgers_file_can_be_turned_off(tmp_path):
    assert [type(sink) for sink in open_sinks(settings())] == [LogSink]
    log, file = open_sinks(settings(ledger_path=tmp_path / "ledger.sqlite3"))
    file.close()
    assert (type(log), type(file)) == (LogSink, SqliteSink)


def test_a_memo_that_cannot_be_used_is_told_and_done_without(tmp_path):
    path = tmp_path / "diary"
    path.write_text("dear diary " * 100)
    with logging_to() as stream:
        assert open_disk_memo(settings(memo_path=path)) is None
        assert open_disk_memo(settings()) is None
    (line,) = lines_of(stream)
    assert (line["level"], line["event"]) == ("warning", "memo-unusable")
    assert line["error"] == f"{path}: memo: file is not a database, wanted a memo or a free place"


def test_metrics_tell_how_the_memo_served(tmp_path):
    disk = open_disk_memo(settings(memo_path=tmp_path / "memo.sqlite3"))
    memo = VectorMemo(shelf=DiskShelf(disk))
    assert (memo.get(b"k"), memo.fetch(b"k")) == (None, None)
    text = Metrics(lambda: memo_usage(memo, disk)).exposition().decode()
    disk.close()
    for line in (
        'laconic_memo_lookups_total{outcome="miss",where="memory"} 1.0',
        'laconic_memo_lookups_total{outcome="miss",where="disk"} 1.0',
        'laconic_memo_lookups_total{outcome="hit",where="disk"} 0.0',
        'laconic_memo_entries{where="disk"} 0.0',
        'laconic_memo_bytes{where="memory"} 0.0',
    ):
        assert line in text


@contextmanager
def logging_to(worker=None, **values):
    """Production logging into a string; what was configured before comes back afterwards."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging(settings(**values), stream, worker)
        yield stream
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


def lines_of(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_librarys_log_line_keeps_its_template_and_loses_what_is_in_it():
    with logging_to() as stream:
        try:
            raise ValueError("sk-canary")  # noqa: TRY301 - an error is what is logged
        except ValueError:
            logging.getLogger("aiohttp.server").exception("Error from %s", "sk-canary")
        logging.getLogger("asyncio").error("Task failed\nfuture: <Task exception='sk-canary'>")
        logging.getLogger("noisy").info("not asked for")
        logging.getLogger("py.warnings").warning("%s", "sk-canary")
    messages = [(line["logger"], line["message"], line["type"]) for line in lines_of(stream)]
    assert messages == [
        ("aiohttp.server", "Error from %s", "ValueError"),
        ("asyncio", "Task failed", None),
        ("py.warnings", "%s", None),
    ]


def test_log_lines_can_be_for_people():
    with logging_to(log_format="console") as stream:
        structlog.get_logger("laconic").info("listening", url="u")
    assert "listening" in stream.getvalue()
    assert "url=u" in stream.getvalue()


def test_every_line_of_a_worker_has_its_number():
    with logging_to(worker=3) as stream:
        structlog.get_logger("laconic").info("listening")
        logging.getLogger("aiohttp.server").error("Error")
    assert [(line["event"], line["worker"]) for line in lines_of(stream)] == [
        ("listening", 3),
        ("library", 3),
    ]


def test_quieter_levels_write_less():
    with logging_to(log_level="error") as stream:
        structlog.get_logger("laconic").info("listening")
        structlog.get_logger("laconic").error("fault")
    assert [line["event"] for line in lines_of(stream)] == ["fault"]


def test_exchanges_are_logged_together_as_any_line_is():
    entry = LedgerEntry(request_id="r", started_at="t", method="GET", path="/", detail="a\ud800")
    with logging_to(worker=3) as stream:
        sink = LogSink()
        for _ in range(2):
            sink.write(entry)
        assert stream.getvalue() == ""
        sink.close()
    expected = entry.record() | {"event": "exchange", "level": "info", "worker": 3}
    found = lines_of(stream)
    assert [line | expected for line in found] == found
    assert len(found) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("closed")])
def test_a_line_that_cannot_be_written_is_nobodys_fault(error):
    with logging_to() as stream:

        def fails(*_):
            raise error

        written, stream.write = stream.write, fails
        structlog.get_logger("laconic").warning("ledger-lost")
        logging.getLogger("aiohttp.server").error("Error")
        sink = LogSink()
        sink.write(LedgerEntry(request_id="r", started_at="t", method="GET", path="/"))
        sink.close()
        stream.write = written
        structlog.get_logger("laconic").warning("room again")
    assert [line["event"] for line in lines_of(stream)] == ["room again"]


def test_exchanges_are_not_logged_where_their_level_is_not_wanted():
    with logging_to(log_level="warning") as stream:
        sink = LogSink()
        sink.write(LedgerEntry(request_id="r", started_at="t", method="GET", path="/"))
        sink.close()
    assert stream.getvalue() == ""


def test_what_orjson_does_not_write_is_written_all_the_same():
    with logging_to() as stream:
        structlog.get_logger("laconic").info("odd", text="a\ud800", huge=2**70)
    (line,) = lines_of(stream)
    assert (line["text"], line["huge"]) == ("a\ud800", 2**70)


async def test_a_broken_request_line_with_a_key_in_it_is_not_logged():
    with logging_to() as stream:
        async with upstream() as far, house(far) as home, connected(home.port) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nAuthorization\x00: Bearer sk-canary\r\n\r\n")
            got = await read_message(wire, answers="GET")
    assert got.status == 400
    assert "canary" not in stream.getvalue()


# -- the process -----------------------------------------------------------------------------------


START = """
import sys
from proxy.app import run
from proxy.errors import PolicyError
from proxy.settings import load_settings
try:
    run(load_settings(dict(argument.split("=", 1) for argument in sys.argv[1:])))
except PolicyError as error:
    sys.exit(f"refused: {error}")
"""


@contextmanager
def process(start=START, **values):
    """A proxy of its own, started as the command line starts it."""
    given = {"ledger_path": "none", "memo_path": "none"} | values
    arguments = [f"{name}={value}" for name, value in given.items()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LACONIC_")}
    started = subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", start, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


async def test_a_model_in_the_midst_of_loading_holds_up_no_stop(tmp_path):
    """Nor is the interpreter taken down around it: torch would abort the process."""
    os.mkfifo(tmp_path / "config.json")  # whoever reads it waits for ever
    port = free_port()
    start = f"import atexit, os\natexit.register(os.write, 2, b'taken down')\n{START}"
    for model, told in ((tmp_path, False), ("embedded", True)):
        with process(
            start, upstream="http://127.0.0.1:9", port=port, language_model=model
        ) as started:
            async with asyncio.timeout(60):
                while "listening" not in await asyncio.to_thread(started.stderr.readline):
                    pass
            if told:
                await until_ready(port, 60)
            started.terminate()
            rest = await asyncio.to_thread(started.stderr.read)
            assert started.wait(60) == 0
        assert ("taken down" in rest) is told


async def test_a_process_from_start_to_stop(tmp_path):
    """Ready, a request edited by the real model, a hang-up, a reload, and a stop that drains."""
    step = asyncio.Event()

    async def script(seen, wire):
        if seen.target == "/v1/hang":
            await wire.closed.wait()
            return
        await wire.send(answer(200, b"", headers=[("Transfer-Encoding", "chunked")], length=False))
        await wire.send(chunk(b"first"))
        if seen.target == "/v1/drain":
            await asyncio.wait_for(step.wait(), PATIENCE_S)
        await wire.send(chunk(b"last") + b"0\r\n\r\n")

    port = free_port()
    async with upstream(script) as far:
        with process(upstream=far.url, port=port, policies=tmp_path) as started:
            await until_ready(port, 60)
            got = await call(port, "POST", CHAT, chat("canary-prompt"), [JSON])
            assert (got.body, got.get("x-laconic-policy")) == (b"firstlast", "default")

            async with connected(port) as wire:
                far.arrived.clear()
                await wire.send(request_bytes("GET", "/v1/hang"))
                await asyncio.wait_for(far.arrived.wait(), PATIENCE_S)
                far.hung_up.clear()
                wire.hang_up()
                await asyncio.wait_for(far.hung_up.wait(), 0.5)

            (tmp_path / "mine.yaml").write_text("mode: off\n")
            started.send_signal(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE_S):
                while got.get("x-laconic-policy") != "mine":
                    headers = [JSON, ("x-laconic-policy", "mine")]
                    got = await call(port, "POST", CHAT, chat("hi"), headers)

            async with connected(port) as wire:
                await wire.send(request_bytes("GET", "/v1/drain"))
                await wire.until(b"first")
                started.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.2)
                step.set()
                await wire.until(b"last\r\n0\r\n\r\n")
            _, log = await asyncio.to_thread(started.communicate)
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert started.returncode == 0
    assert events[:2] == ["listening", "ready"]
    assert {"exchange", "policies-loaded", "stopping"} <= set(events)
    assert "canary" not in log


async def test_a_process_that_cannot_start_says_why():
    async with upstream() as far:
        with process(upstream="http://127.0.0.1:9", port=far.port) as started:
            _, log = await asyncio.to_thread(started.communicate)
    assert started.returncode == 1
    assert f"refused: --port: found {far.port}, which is in use" in log
