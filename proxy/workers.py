"""Several processes on one port: a supervisor, and the workers it keeps alive.

Theory of operation.  The supervisor serves nothing.  It holds the port with a socket that does not
listen, so that the number is taken and stays the same, and starts N processes, each of which is
``proxy.app.serve`` with a listening socket of its own on that port (SO_REUSEPORT: the kernel
spreads new connections over those that listen).  They are started, not forked: no thread, lock or
model is inherited.  What they share lies in files: the weights (mapped), the memo and the ledger;
and, in a directory that goes when the supervisor does, the counters behind ``/metrics`` and which
turns pass verbatim for good.  The supervisor opens memo and ledger once before there is anybody to
race with, so that what is new or out of date is made once.

Each worker has a lifeline, the pipe that is its stdin.  The settings come in on it; whatever comes
after them means that the policies shall be read again; and when it ends the worker drains and ends.
So a stop, and the death of the supervisor by whatever cause, are one and the same thing to a
worker, and nobody is left behind.  Workers are sessions of their own: what a terminal sends to a
whole group (Ctrl-C) reaches the supervisor alone.

    SIGTERM, SIGINT    every worker drains; again: none is waited for
    SIGHUP             every worker reads the policies again
    SIGTERM to one     it drains, and is replaced

A worker that dies is replaced, sooner or later according to how often that happened.  One that
says, the first time it starts, that the configuration is wrong ends everything with its message;
later it is replaced like any other, for those that still serve have what they need.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import structlog
from prometheus_client.multiprocess import mark_process_dead

from proxy import app
from proxy.errors import PolicyError
from proxy.settings import Settings

_AGAIN: Final = b"again\n"  # on a lifeline: read the policies again
_WRONG: Final = 2  # the exit code of a worker that says what is wrong with its configuration
_NOT_BORN: Final = 71  # that of a worker that the system could not start (EX_OSERR)
_SOUND_S: Final = 60.0  # a worker that lived so long did not die of its start
_LONGEST_PAUSE_S: Final = 30.0
_PATIENCE_S: Final = 3 * app.DRAIN_S  # beyond any drain: what still runs then hangs


def run(settings: Settings) -> None:
    """Serve until told to stop, in as many processes as the settings say.

    Raises PolicyError for settings, policies, a model or a port that cannot be used.
    """
    if settings.workers == 1:
        app.run(settings)
    else:
        app.configure_logging(settings)
        asyncio.run(supervise(settings))


async def supervise(settings: Settings) -> None:
    """Keep ``settings.workers`` processes serving, until SIGINT or SIGTERM.  Raises PolicyError."""
    app.refuse_itself(settings)
    app.warn_if_open(settings)
    with ExitStack() as held:
        port = held.enter_context(reserved(settings.host, settings.port, settings.workers))
        if settings.admin_port is not None:
            its = settings.admin_host, settings.admin_port
            held.enter_context(reserved(*its, settings.workers, admin=True))
        prepare(settings)
        shared = held.enter_context(TemporaryDirectory(prefix="laconic-"))
        told = {"port": port, "threads": settings.threads or threads_each(settings.workers)}
        await Supervisor(settings.model_copy(update=told), Path(shared)).run()


def prepare(settings: Settings) -> None:
    """Make once what all workers need: memo and ledger, new or brought up to date.

    Raises PolicyError for what no worker could use either.
    """
    policies = app.open_policies(settings)
    app.open_upstreams(settings, policies)
    app.tell_of_capture(policies.current, settings.ledger_path)
    for sink in app.open_sinks(settings):
        sink.close()
    disk = app.open_disk_memo(settings)
    if disk is not None:
        disk.close()


def threads_each(workers: int) -> int:
    """Return a worker's share of the cores."""
    return max(1, (os.cpu_count() or 1) // workers)


def pause_s(deaths: int) -> float:
    """Return how long to wait after so many deaths, each soon after the one before.

    >>> [pause_s(deaths) for deaths in (1, 2, 3, 7, 700)]
    [0.5, 1.0, 2.0, 30.0, 30.0]
    """
    return float(min(_LONGEST_PAUSE_S, 2.0 ** min(deaths - 2, 10)))


# -- the workers, seen from outside ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended: its exit code, or the negative number of the signal that killed it."""

    code: int
    why: str | None  # what it found wrong with its configuration, or why it never began
    lived_s: float


class Supervisor:
    """Keeps the workers alive, and passes on what it is told."""

    def __init__(self, settings: Settings, shared: Path) -> None:
        """Start nothing yet; ``settings`` are the workers' own, ``shared`` is their directory."""
        self._settings = settings
        self._shared = shared
        self._alive: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger("laconic")

    async def run(self) -> None:
        """Keep every worker alive until told to stop.  Raises PolicyError."""
        loop = asyncio.get_running_loop()
        stop, again = self._asked_to_stop, self._reload
        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: again}
        for name, handler in handlers.items():
            loop.add_signal_handler(name, handler)
        self._log.info("supervising", workers=self._settings.workers, port=self._settings.port)
        numbers = range(1, self._settings.workers + 1)
        keeping = [asyncio.create_task(self._keep(number)) for number in numbers]
        try:
            await asyncio.gather(*keeping)
        finally:
            self._stop()
            await asyncio.gather(*keeping, return_exceptions=True)
            for name in handlers:
                loop.remove_signal_handler(name)

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self._kill()
        else:
            self._log.info("stopping", drain_s=app.DRAIN_S)
            self._stop()

    def _stop(self) -> None:
        """Cut the lifelines."""
        self._stopping.set()
        for worker in self._alive.values():
            _cut(worker)
        asyncio.get_running_loop().call_later(_PATIENCE_S, self._kill)

    def _kill(self) -> None:
        for number, worker in self._alive.items():
            self._log.warning("worker-killed", worker=number)
            with suppress(ProcessLookupError):
                worker.kill()

    def _reload(self) -> None:
        for worker in self._alive.values():
            _tell(worker, _AGAIN)

    async def _keep(self, number: int) -> None:
        """Have a worker with this number, one after the other, until everything stops."""
        deaths = 0
        known_good = False
        while not self._stopping.is_set():
            ended = await self._life(number)
            if self._stopping.is_set():
                return
            if ended.code == _WRONG and not known_good:
                raise PolicyError(ended.why or "")
            known_good = True
            deaths = 1 if ended.lived_s > _SOUND_S else deaths + 1
            await self._mourn(number, ended, pause_s(deaths))

    async def _life(self, number: int) -> Ended:
        """Start a worker and wait for its end."""
        begun_s = time.monotonic()
        try:
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy.workers", str(number), str(self._shared)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:  # no memory, too many processes: it may pass
            return Ended(_NOT_BORN, error.strerror, 0.0)
        self._alive[number] = worker
        self._log.info("worker-started", worker=number, pid=worker.pid)
        assert worker.stdout is not None  # noqa: S101 - for the type
        _tell(worker, self._settings.model_dump_json().encode() + b"\n")
        if self._stopping.is_set():
            _cut(worker)
        said = await worker.stdout.read()
        code = await worker.wait()
        del self._alive[number]
        _cut(worker)
        mark_process_dead(number, str(self._shared))  # type: ignore[no-untyped-call]
        why = said.decode().strip() if code == _WRONG else None
        return Ended(code, why, time.monotonic() - begun_s)

    async def _mourn(self, number: int, ended: Ended, pause_s: float) -> None:
        """Log the end of a worker and wait until the next one's time has come."""
        level = "info" if ended.code == 0 else "error"
        about = {"worker": number, "exit": ended.code, "again_in_s": pause_s}
        getattr(self._log, level)("worker-ended", **about, error=ended.why)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)


def _tell(worker: Process, what: bytes) -> None:
    if worker.stdin is not None and not worker.stdin.is_closing():
        worker.stdin.write(what)


def _cut(worker: Process) -> None:
    if worker.stdin is not None:
        worker.stdin.close()


# -- the port --------------------------------------------------------------------------------------


@contextmanager
def reserved(host: str, port: int, workers: int, *, admin: bool = False) -> Iterator[int]:
    """Hold a port, on every address of ``host``, for workers alone; yields its number.

    Port 0 takes a free one; ``admin`` says whose settings these are.  Raises PolicyError where it
    cannot be had or shared.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise PolicyError(
            f"--workers: found {workers} on a system that has no SO_REUSEPORT, wanted 1"
        )
    with ExitStack() as held:
        try:
            for family, address in _addresses(host, port):
                holder = held.enter_context(_holder(family, (address[0], port, *address[2:])))
                port = holder.getsockname()[1]
        except OSError as error:
            raise PolicyError(app.cannot_listen(host, port, error, admin=admin)) from error
        yield port


def _addresses(host: str, port: int) -> Sequence[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _holder(family: int, address: Any) -> socket.socket:
    """Bind a socket that shares its port with those who ask for that, and refuses all others.

    Whether the port is free is tried first, in earnest: two sockets that would share it could not
    tell each other's proxies apart.  Only once that one listens is it opened to sharing, and the
    holder takes its place: at no time could another process have come between.  Without
    SO_REUSEADDR, set only for what the last process left behind (TIME_WAIT), a bound socket is in
    the way of every other that does not share.
    """
    with _socket(family) as probe, ExitStack() as on_error:
        probe.bind(address)
        probe.listen(1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder = on_error.enter_context(_socket(family))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((address[0], probe.getsockname()[1], *address[2:]))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        on_error.pop_all()
    return holder


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


# -- a worker, seen from inside --------------------------------------------------------------------


def work(number: int, shared: Path) -> int:
    """Serve as one of several; the settings are a line on stdin.  Returns the exit code."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return 0  # the supervisor has gone already
    settings = Settings.model_validate_json(line)
    try:
        app.run(settings, app.Worker(number, shared, sys.stdin.fileno()))
    except PolicyError as error:
        sys.stdout.write(str(error))
        return _WRONG
    return 0


if __name__ == "__main__":
    sys.exit(work(int(sys.argv[1]), Path(sys.argv[2])))
