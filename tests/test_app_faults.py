"""The process and its files: disks that are full, files that are locked or damaged, and kill -9.

A proxy as ``laconic serve`` runs it; whatever becomes of its ledger and its memo, callers are
answered, and what the ledger has is whole.
"""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from servers import (
    CHAT,
    JSON,
    PATIENCE_S,
    answer,
    call,
    chat,
    chunk,
    completion,
    connected,
    free_port,
    read_message,
    replies,
    request_bytes,
    until_ready,
    upstream,
)

from proxy.cli.demonstration import load_passages, prompt_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")

LONG_S = 60
QUESTION, PASSAGES = load_passages()
PROMPT = chat(prompt_of(PASSAGES, QUESTION))
ANSWERS = replies(200, completion(), headers=[JSON])


class Running:
    """A proxy in a process of its own."""

    def __init__(self, process, port, folder):
        self.process, self.port = process, port
        self.ledger, self.memo = folder / "ledger.sqlite3", folder / "memo.sqlite3"
        self._log = folder / "log"

    def log(self, event):
        lines = (json.loads(line) for line in self._log.read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    async def logged(self, event, times=1):
        async with asyncio.timeout(LONG_S):
            while len(self.log(event)) < times:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)

    async def ready(self):
        await until_ready(self.port, LONG_S)

    async def ask(self, body=PROMPT):
        got = await call(self.port, "POST", CHAT, body, [JSON])
        assert (got.status, got.body) == (200, completion())
        return got.get("x-laconic-request-id")

    def rows(self):
        with closing(sqlite3.connect(self.ledger)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return [
                row[0]
                for row in database.execute("SELECT request_id FROM exchanges ORDER BY rowid")
            ]

    async def written(self, request_id):
        async with asyncio.timeout(LONG_S):
            while request_id not in self.rows():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)

    async def stopped(self):
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, LONG_S)


@asynccontextmanager
async def running(folder, base):
    port = free_port()
    values = {
        "upstream": base,
        "port": port,
        "policy": "rag",
        "ledger_path": folder / "ledger.sqlite3",
        "memo_path": folder / "memo.sqlite3",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LACONIC_")}
    environment |= {f"LACONIC_{name.upper()}": str(value) for name, value in values.items()}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [sys.executable, "-m", "proxy", "serve"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )
    started = Running(process, port, folder)
    try:
        await started.ready()
        yield started
    finally:
        process.kill()
        process.wait()


async def test_a_full_disk_costs_rows_and_no_answers(tmp_path):
    """No file may grow any further; the log is none: it is gone with the disk, too."""
    async with upstream(ANSWERS) as far, running(tmp_path, far.url) as near:
        before = await near.ask()
        await near.written(before)
        unlimited = resource.prlimit(near.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(near.process.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
        lost = [await near.ask(chat(f"{number}. {QUESTION}")) for number in range(5)]
        lost.append(await near.ask(chat(prompt_of(PASSAGES[::-1], QUESTION))))
        await asyncio.sleep(1)  # the writers' turn, which fails
        resource.prlimit(near.process.pid, resource.RLIMIT_FSIZE, unlimited)
        after = await near.ask()
        await near.written(after)
        assert await near.stopped() == 0
        rows = near.rows()
    assert {before, after} <= set(rows)
    assert not set(lost) & set(rows)


async def test_a_locked_ledger_holds_up_nobody_and_is_written_once_it_is_free(tmp_path):
    async with upstream(ANSWERS) as far, running(tmp_path, far.url) as near:
        with closing(sqlite3.connect(near.ledger, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            ids = [await near.ask() for _ in range(20)]
            await near.logged("exchange", len(ids))
            database.execute("ROLLBACK")
        await near.written(ids[-1])
        assert await near.stopped() == 0
        assert set(ids) <= set(near.rows())


async def test_a_memo_that_is_spoilt_under_way_is_a_memo_less(tmp_path):
    async with upstream(ANSWERS) as far, running(tmp_path, far.url) as near:
        await near.ask()
        async with asyncio.timeout(LONG_S):
            while near.memo.stat().st_size < 10_000:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
        for path in tmp_path.glob("memo.sqlite3*"):
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.write(b"\xa5" * size)
        ids = [await near.ask(chat(prompt_of(PASSAGES[n:], QUESTION))) for n in range(3)]
        await near.written(ids[-1])
        assert await near.stopped() == 0
    async with upstream(ANSWERS) as far, running(tmp_path, far.url) as near:
        await near.written(await near.ask())


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
async def test_a_stop_under_load_leaves_no_half_answer_and_a_whole_ledger(tmp_path, stop):
    """Each caller has a whole answer or an error; what is in the ledger before is there after."""
    given, lost = [], []

    async def script(seen, wire):
        await wire.send(answer(200, b"", headers=[("Transfer-Encoding", "chunked")], length=False))
        for word in (b"one ", b"two ", b"three"):
            await wire.send(chunk(word))
            await asyncio.sleep(0.01)
        await wire.send(b"0\r\n\r\n")

    async def caller(port):
        while True:
            try:
                async with connected(port) as wire:
                    await wire.send(request_bytes("POST", CHAT, PROMPT, [JSON]))
                    got = await read_message(wire, answers="POST")
            except OSError:
                return
            except EOFError:
                lost.append(None)
                continue
            if got.complete:
                assert (got.status, got.body) == (200, b"one two three")
                given.append(got.get("x-laconic-request-id"))
            else:
                lost.append(got.body)

    async with upstream(script) as far, running(tmp_path, far.url) as near:
        callers = [asyncio.create_task(caller(near.port)) for _ in range(16)]
        async with asyncio.timeout(LONG_S):
            while len(given) < 100:  # noqa: ASYNC110 - the callers count, no more
                await asyncio.sleep(0.05)
        await near.written(given[50])
        acknowledged = near.rows()
        near.process.send_signal(stop)
        code = await asyncio.to_thread(near.process.wait, LONG_S)
        await asyncio.wait_for(asyncio.gather(*callers), PATIENCE_S)
        rows = near.rows()
    assert code == (0 if stop is signal.SIGTERM else -stop)
    assert rows[: len(acknowledged)] == acknowledged
    assert len(rows) == len(set(rows))
    assert all(b"one two three".startswith(half) for half in lost if half is not None)
    if stop is signal.SIGTERM:
        assert set(given) <= set(rows)
        return
    async with upstream(ANSWERS) as far, running(tmp_path, far.url) as near:
        await near.written(await near.ask())
