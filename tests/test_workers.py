"""Several processes on one port: whose it is, who shares it, and what becomes of them."""

import asyncio
import errno
import json
import os
import re
import signal
import socket
import sqlite3
import sys
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import httpx
import pytest
import structlog
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from servers import PATIENCE_S, answer, call, chunk, completion, free_port, upstream

from proxy.cli.demonstration import load_passages, prompt_of
from proxy.errors import PolicyError
from proxy.gateway.metrics import _Together
from proxy.policy import key_hash
from proxy.settings import Settings
from proxy.workers import Supervisor, reserved, run, threads_each

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
LONG_S = 60  # for what takes seconds: a model that loads while others measure
CHAT = "/v1/chat/completions"
QUESTION, PASSAGES = load_passages()
BODY = {"messages": [{"role": "user", "content": prompt_of(PASSAGES, QUESTION)}]}


# -- the port --------------------------------------------------------------------------------------


def server(port, *, shared):
    """A socket that listens, set up as asyncio does it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((HOST, port))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


@pytest.mark.parametrize("listening", [0, 2])
def test_a_reserved_port_is_for_those_who_share_it_and_for_no_other_proxy(listening):
    with reserved(HOST, 0, 2) as port:
        workers = [server(port, shared=True) for _ in range(listening)]
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            server(port, shared=False)
        with pytest.raises(PolicyError, match=f"--port: found {port}, which is in use on"):
            reserved(HOST, port, 2).__enter__()
        for worker in workers:
            worker.close()


def test_nobody_is_served_by_a_reserved_port():
    with reserved(HOST, 0, 2) as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_another_process_listens_on_is_refused(shared):
    with server(0, shared=shared) as other:
        port = other.getsockname()[1]
        with pytest.raises(PolicyError, match=f"--port: found {port}, which is in use on {HOST}"):
            reserved(HOST, port, 2).__enter__()


def test_connections_of_the_process_before_are_not_in_the_way():
    before = server(0, shared=False)
    port = before.getsockname()[1]
    caller = socket.create_connection((HOST, port))
    accepted, _ = before.accept()
    accepted.close()  # first: so the port is left in TIME_WAIT
    caller.close()
    before.close()
    with reserved(HOST, port, 2) as found, server(found, shared=True):
        assert found == port


def test_a_name_of_several_addresses_has_one_port_on_all_of_them():
    with reserved("localhost", 0, 2) as port:
        found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
        for family, kind, _, _, address in found:
            with socket.socket(family, kind) as other, pytest.raises(OSError, match="in use"):
                other.bind(address)


def test_a_host_that_is_not_ours_is_named():
    with pytest.raises(PolicyError, match=r"--host: found '192\.0\.2\.1'"):
        reserved("192.0.2.1", 8790, 2).__enter__()


def test_a_system_where_ports_cannot_be_shared_is_told(monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(PolicyError) as caught:
        run(Settings(workers=3, ledger_path=None))
    assert str(caught.value) == (
        "--workers: found 3 on a system that has no SO_REUSEPORT, wanted 1"
    )


def test_cores_are_shared_out_and_nobody_goes_without():
    cores = os.cpu_count()
    assert [threads_each(n) for n in (1, cores, 10 * cores)] == [cores, 1, 1]


# -- the processes ---------------------------------------------------------------------------------


class Supervised:
    """A supervisor of two workers, started as on the command line, and what they log."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.lines, self.text = [], ""
        self._came = asyncio.Condition()
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        """Until the last process that writes there has gone."""
        async for line in self.process.stderr:
            async with self._came:
                if line.startswith(b"{"):
                    self.lines.append(json.loads(line))
                else:
                    self.text += line.decode()
                self._came.notify_all()

    def all(self, event):
        return [line for line in self.lines if line["event"] == event]

    async def logged(self, event, times):
        """Wait until it was; return the lines."""
        async with asyncio.timeout(LONG_S), self._came:
            await self._came.wait_for(lambda: len(self.all(event)) >= times)
        return self.all(event)

    async def gone(self):
        """Wait until supervisor and workers have gone; return the supervisor's exit code."""
        async with asyncio.timeout(LONG_S):
            await self.reading
            return await self.process.wait()

    async def figures(self):
        """What one scrape, of whichever worker, says of all."""
        text = (await call(self.port, "GET", "/metrics")).body.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    async def agreed(self, name, value):
        """Wait until every worker says so; what one counted is told a moment later."""
        async with asyncio.timeout(LONG_S):
            while {(await self.figures()).get(name) for _ in range(8)} != {value}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def clean(self):
        with suppress(ProcessLookupError):
            self.process.kill()
        try:
            await asyncio.wait_for(asyncio.shield(self.reading), PATIENCE_S)
        except TimeoutError:
            for line in self.all("worker-started"):
                with suppress(ProcessLookupError):
                    os.kill(line["pid"], signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def supervised(folder, base, **settings):
    port = free_port()
    values = {
        "upstream": base,
        "port": port,
        "workers": 2,
        "ledger_path": folder / "ledger.sqlite3",
        "memo_path": folder / "memo.sqlite3",
    } | settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LACONIC_")}
    environment |= {f"LACONIC_{name.upper()}": str(value) for name, value in values.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve"),
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    started = Supervised(process, port)
    try:
        yield started
    finally:
        await started.clean()


class Gate:
    """An upstream's script: it streams, and holds back the end of what is asked for in /held."""

    def __init__(self):
        self.held, self.open = 0, asyncio.Event()

    async def __call__(self, seen, wire):
        if not seen.target.startswith("/held"):
            await wire.send(
                answer(200, completion(), headers=[("Content-Type", "application/json")])
            )
            return
        await wire.send(answer(200, b"", headers=[("Transfer-Encoding", "chunked")], length=False))
        await wire.send(chunk(b"first"))
        self.held += 1
        ends = [asyncio.ensure_future(event.wait()) for event in (self.open, wire.closed)]
        await asyncio.wait(ends, timeout=LONG_S, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await wire.send(chunk(b"last") + b"0\r\n\r\n")


async def test_no_request_fails_while_policies_are_reloaded_nor_at_the_stop(tmp_path):
    """Two workers under load: five reloads, then a stop while both have streams in flight."""
    (tmp_path / "policies").mkdir()
    file = tmp_path / "policies" / "mine.yaml"
    mine = "deadline_s: 600\ncomponents: {{context: {{rate: 0.{}}}}}\n".format  # none is late
    file.write_text(mine(9))
    gate, enough, statuses = Gate(), asyncio.Event(), []

    async def caller(url, *, keeps):
        limits = httpx.Limits(max_keepalive_connections=keeps)
        async with httpx.AsyncClient(
            base_url=url, limits=limits, trust_env=False, timeout=LONG_S
        ) as client:
            while not enough.is_set():
                got = await client.post(CHAT, json=BODY, headers={"x-laconic-policy": "mine"})
                statuses.append((got.status_code, got.headers["x-laconic-tokens-saved"] != "0"))

    async def holder(url):
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=LONG_S) as client:
            return (await client.get("/held")).text

    async with (
        upstream(gate) as far,
        supervised(tmp_path, far.url, policies=file.parent) as started,
    ):
        url = f"http://{HOST}:{started.port}"
        await started.logged("ready", 2)
        callers = [asyncio.create_task(caller(url, keeps=n % 2)) for n in range(6)]
        for number in range(1, 6):
            (tmp_path / "next").write_text(mine(number))
            (tmp_path / "next").replace(file)
            started.process.send_signal(signal.SIGHUP)
            loaded = await started.logged("policies-loaded", 2 * number)
            await started.logged("exchange", len(statuses) + 10)
        enough.set()
        await asyncio.gather(*callers)
        assert set(statuses) == {(200, True)}
        assert {line["worker"] for line in loaded} == {1, 2}
        assert {line["worker"] for line in started.all("exchange")} == {1, 2}
        assert started.all("policies-refused") == []

        await started.agreed('laconic_answers_total{status="200"}', len(statuses))
        in_file = (await started.figures())['laconic_memo_entries{where="disk"}']
        assert in_file > 0
        await started.agreed('laconic_memo_entries{where="memory"}', 2 * in_file)  # each has all

        holders = [asyncio.create_task(holder(url)) for _ in range(12)]
        async with asyncio.timeout(LONG_S):
            while gate.held < len(holders):  # noqa: ASYNC110 - the upstream counts, no more
                await asyncio.sleep(0.01)
        started.process.terminate()
        await started.logged("stopping", 3)  # the supervisor's, and both workers'
        gate.open.set()
        assert await asyncio.gather(*holders) == ["firstlast"] * len(holders)
        assert await started.gone() == 0

    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as database:
        rows = database.execute("SELECT ended, count(*) FROM exchanges GROUP BY ended").fetchall()
    assert rows == [("complete", len(statuses) + len(holders))]


async def test_a_worker_that_dies_is_replaced_and_a_second_signal_waits_for_none(tmp_path):
    gate = Gate()
    async with upstream(gate) as far, supervised(tmp_path, far.url) as started:
        first = await started.logged("worker-started", 2)
        await started.logged("listening", 2)
        await call(started.port, "GET", "/v1/models")
        await started.agreed('laconic_answers_total{status="200"}', 1)
        os.kill(first[0]["pid"], signal.SIGKILL)
        third = (await started.logged("worker-started", 3))[2]
        assert third["worker"] == first[0]["worker"]
        await started.logged("listening", 3)
        await started.agreed('laconic_answers_total{status="200"}', 1)  # whoever had counted it

        held = asyncio.create_task(call(started.port, "GET", "/held"))
        async with asyncio.timeout(LONG_S):
            while not gate.held:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
        started.process.terminate()
        await started.logged("stopping", 3)
        started.process.terminate()
        assert await started.gone() == 0
        assert not (await held).complete
    (ended,) = started.all("worker-ended")
    assert {"worker": third["worker"], "exit": -9, "again_in_s": 0.5}.items() <= ended.items()


async def test_figures_on_a_port_of_their_own_are_those_of_all_workers(tmp_path):
    admin = free_port()
    hashed = key_hash("lk-admin")
    async with (
        upstream() as far,
        supervised(tmp_path, far.url, admin_port=admin, admin_token=hashed) as started,
    ):
        await started.logged("listening", 2)
        for _ in range(4):
            await call(started.port, "GET", "/v1/models")
        shown = [("Authorization", "Bearer lk-admin")]
        async with asyncio.timeout(LONG_S):
            seen = set()
            while seen != {"4.0"}:
                texts = [(await call(admin, "GET", "/metrics", None, shown)).body for _ in range(8)]
                found = (re.findall(rb'answers_total{status="200"} (.*)', text) for text in texts)
                seen = {value.decode() for values in found for value in values or [b"none"]}
        assert (await call(admin, "GET", "/metrics")).status == 401
        assert (await call(started.port, "GET", "/metrics", None, shown)).status == 404
        started.process.terminate()
        assert await started.gone() == 0


def test_a_port_for_figures_that_is_taken_is_named_by_its_own_setting(tmp_path):
    with server(0, shared=False) as other:
        port = other.getsockname()[1]
        values = Settings(
            workers=2, port=free_port(), admin_port=port, ledger_path=None, upstream="http://h"
        )
        with pytest.raises(PolicyError, match=f"LACONIC_ADMIN_PORT: found {port}, which is in use"):
            run(values)


async def test_workers_end_with_the_supervisor_however_it_ends(tmp_path):
    async with upstream() as far, supervised(tmp_path, far.url) as started:
        await started.logged("listening", 2)
        started.process.kill()
        assert await started.gone() == -signal.SIGKILL
    assert {line["worker"] for line in started.all("stopping")} == {1, 2}


async def test_what_one_process_would_refuse_ends_all_with_the_same_words(tmp_path):
    async with (
        supervised(tmp_path, "http://127.0.0.1:9", policies="nowhere") as started,
        supervised(tmp_path, "http://127.0.0.1:9", policies="nowhere", workers=1) as alone,
    ):
        assert (await started.gone(), await alone.gone()) == (2, 2)
    assert "nowhere" in started.text
    assert started.text == alone.text


async def test_a_worker_that_finds_its_configuration_wrong_ends_the_supervisor(tmp_path):
    settings = Settings(workers=2, port=free_port(), policies=tmp_path / "nowhere")
    with structlog.testing.capture_logs() as lines, pytest.raises(PolicyError, match="nowhere"):
        await Supervisor(settings, tmp_path).run()
    assert [line["event"] for line in lines] == ["supervising", *["worker-started"] * 2]


async def test_what_is_left_out_first_counts_once_whichever_worker_is_asked(tmp_path):
    """Second tries, and turns that reach now one process and now the other."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mine.yaml").write_text(
        "deadline_s: 600\ncomponents: {context: {rate: 0.5}}\n"
    )
    url_of = f"http://{HOST}:{{}}{CHAT}".format
    messages = list(BODY["messages"])

    async def asked(started):
        """Ask on a connection of its own, which the system gives to either worker."""
        async with httpx.AsyncClient(trust_env=False, timeout=LONG_S) as client:
            headers = {"x-laconic-policy": "mine"}
            body = {"model": "gpt-4o", "messages": messages}
            got = await client.post(url_of(started.port), json=body, headers=headers)
        assert got.status_code == 200

    async with (
        upstream(Gate()) as far,
        supervised(tmp_path, far.url, policies=tmp_path / "policies") as started,
    ):
        await started.logged("ready", 2)
        for number in range(3):
            for _ in range(8):
                await asked(started)
            lines = await started.logged("exchange", 8 * (number + 1))
            messages.append({"role": "assistant", "content": "So it is."})
            again = f"{prompt_of(PASSAGES[number : number + 9], QUESTION)} ({number})"
            messages.append({"role": "user", "content": again})
        started.process.terminate()
        assert await started.gone() == 0

    turns = [lines[8 * n : 8 * n + 8] for n in range(3)]
    for tries in turns:
        assert {line["worker"] for line in tries} == {1, 2}
        saved = {line["tokens_saved"] for line in tries}
        assert len(saved) == 1  # the same form, whichever worker it is from
        first = [line["first_saved"] for line in tries if line["first_saved"]]
        assert len(first) == 1
        assert {line["first_saved"] + line["repeat_saved"] for line in tries} == saved
        assert {line["busted_tokens"] for line in tries} == {0}
        unchanged = sorted(line["unchanged_tokens"] for line in tries)
        assert unchanged[1:] == [tries[0]["tokens_after"]] * 7
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as database:
        total = database.execute("SELECT sum(first_saved) FROM exchanges").fetchone()
    assert total == (sum(line["first_saved"] for tries in turns for line in tries),)
    assert total[0] == turns[2][0]["tokens_saved"]  # each token of the last form's, once


def test_a_scrape_passes_over_files_that_are_empty_yet_or_gone_already(tmp_path):
    written = MmapedDict(str(tmp_path / "counter_0.db"))
    key = mmap_key("laconic_answers", "laconic_answers_total", ["status"], ["200"], "Answers.")
    written.write_value(key, 3.0, 0.0)
    written.close()
    (tmp_path / "gauge_livesum_1.db").touch()
    (tmp_path / "counter_2.db").symlink_to(tmp_path / "removed")
    (metric,) = _Together(dict, tmp_path).collect()
    assert [(one.name, one.labels, one.value) for one in metric.samples] == [
        ("laconic_answers_total", {"status": "200"}, 3.0)
    ]
