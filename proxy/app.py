"""The application, built from values, and the process that runs it.

Whatever has a lifetime is opened and closed by a cleanup context; nothing is global.  ``serve`` is
where the outside world comes in: files, signals, the port.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web

from proxy.admin import Admin, build_admin, not_found
from proxy.compress.result import TurnResult
from proxy.dashboard import Dashboard
from proxy.engine import Engine as ModelEngine
from proxy.errors import PolicyError
from proxy.gateway import (
    Access,
    Breaker,
    Cascade,
    Compression,
    Engine,
    Gateway,
    MemoUsage,
    Method,
    Metrics,
    SharedMetrics,
    without_additions,
)
from proxy.gateway.breaker import PAUSE_S
from proxy.gateway.compression import Incoming, Prepared
from proxy.gateway.history import History
from proxy.ledger import Bounds, Clerk, LogSink, Sink, SqliteSink
from proxy.memo import DiskMemo, DiskShelf, Sent, SharedTurns, TurnMemo, Usage, VectorMemo
from proxy.policy import (
    PolicySet,
    PolicyStore,
    UpstreamSpec,
    layered,
    load_policies,
    read_policy_dir,
)
from proxy.scorers import Models, load_models
from proxy.settings import LogFormat, Settings
from proxy.tokens import preload
from proxy.types import Memory
from proxy.upstream import HEADER_COUNT, Address, Limits, Upstreams, leads_to
from proxy.wire import ENDPOINTS

GATEWAY: Final = web.AppKey("gateway", Gateway)
ADMIN: Final = web.AppKey("admin", web.Application)
UPSTREAMS: Final = web.AppKey("upstreams", Upstreams)
CLERK: Final = web.AppKey("clerk", Clerk)
COMPRESSION: Final = web.AppKey("compression", Compression)

DRAIN_S: Final = 30.0  # a stream that is longer than this is cut off by a stop
_POLL_S = 1.0  # between looks at the policy files
_BACKLOG = 1024
_MARKS: Final = "turns.sqlite3"  # which turns pass verbatim for good, whichever worker is asked
_SENT: Final = "sent.sqlite3"  # the digests of what was sent before, by whichever worker
_MARKS_BYTES: Final = 64 * 2**20
_BEGINNINGS_BYTES: Final = 64 * 2**20  # of what conversations were so far: 100 of 200 KB each
_LONGEST_MESSAGE = 200
_USUAL = tuple(f"/v1{endpoint.path}" for endpoint in ENDPOINTS)  # found sooner than by a pattern
_OWN_PATH = "/laconic"  # what is below it is ours and never the upstream's


@dataclass(frozen=True, slots=True)
class Worker:
    """What makes a process one of several that share a port (:mod:`proxy.workers`)."""

    number: int  # from 1; whoever takes a dead one's place has its number
    shared: Path  # a directory for what they have in common for as long as any of them lives
    lifeline: int  # a pipe: at its end this process shall end; bytes mean a reload


@dataclass(frozen=True, slots=True)
class Books:
    """What a process keeps of its exchanges beside the sinks; workers keep it together."""

    metrics: Metrics = field(default_factory=Metrics)
    history: History = field(default_factory=History)


# -- the application -------------------------------------------------------------------------------


def build_app(
    settings: Settings,
    policies: PolicyStore,
    *,
    method: Method,
    engine: Engine,
    sinks: Sequence[Sink] = (),
    books: Books | None = None,
    environ: Mapping[str, str] = os.environ,
) -> web.Application:
    """Build the application; the caller keeps, and closes, what it passes in.

    Raises PolicyError where an upstream's key or certificates cannot be read.
    """
    books = books or Books()
    metrics = books.metrics
    upstreams = open_upstreams(settings, policies, environ)

    async def doors(app: web.Application) -> AsyncIterator[None]:
        compression = Compression(
            method,
            engine,
            limit_bytes=settings.max_body_bytes,
            breaker=Breaker(partial(_breaker_changed, metrics)),
            beginnings=TurnMemo(_BEGINNINGS_BYTES),
        )
        app[COMPRESSION] = compression
        clerk = app[CLERK] = Clerk((*sinks, metrics))
        async with upstreams, metrics.published():
            app[GATEWAY] = Gateway(
                access=Access(settings.keys),
                upstreams=upstreams,
                policies=policies,
                compression=compression,
                clerk=clerk,
                limit_bytes=settings.max_body_bytes,
                history=books.history,
            )
            yield
            await asyncio.to_thread(clerk.close)
        compression.close()

    def flush() -> bool:
        return app[CLERK].flush()

    async def prepare(incoming: Incoming, policies: PolicySet) -> Prepared:
        return await app[COMPRESSION].prepare(incoming, policies)

    app = web.Application()  # no middleware: each costs a relayed request a twentieth
    app[UPSTREAMS] = upstreams
    app.on_response_prepare.append(without_additions)
    app.cleanup_ctx.append(doors)
    app.on_shutdown.append(_stop)
    dashboard = Dashboard(policies, prepare, settings.ledger_path, settings.upstream)
    admin = Admin(engine, policies, metrics, flush, settings.admin_token, dashboard)
    _answer_ourselves(app, admin, settings)
    for path in _USUAL:
        app.router.add_route("*", path, _handle)
    app.router.add_route("*", r"/{tail:[\s\S]*}", _handle)
    return app


def _answer_ourselves(app: web.Application, admin: Admin, settings: Settings) -> None:
    """Keep our own paths from the upstream; figures may have a port of their own (``ADMIN``)."""
    admin.add_health(app)
    if settings.admin_port is None:
        admin.add_figures(app)
    else:
        app.router.add_route("*", "/metrics", not_found)
        app[ADMIN] = build_admin(admin)
        app[ADMIN][UPSTREAMS] = app[UPSTREAMS]
    app.router.add_route("*", _OWN_PATH, not_found)
    app.router.add_route("*", rf"{_OWN_PATH}/{{tail:[\s\S]*}}", not_found)


def _breaker_changed(metrics: Metrics, route: str, is_open: bool) -> None:  # noqa: FBT001 - as told
    log = structlog.get_logger("laconic")
    metrics.breaker(route, is_open)
    if is_open:
        log.warning("breaker-opened", route=route, trial_in_s=PAUSE_S)
    else:
        log.info("breaker-closed", route=route)


async def _stop(app: web.Application) -> None:
    app[GATEWAY].stop()


async def _handle(request: web.Request) -> web.StreamResponse:
    return await request.app[GATEWAY].handle(request)


def build_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Make the server as it runs in production; tests run no other.

    Bodies stay encoded, a caller's hang-up cancels its handler, headers may be long.
    """
    return web.AppRunner(
        app,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        max_line_size=settings.max_header_bytes,
        max_field_size=settings.max_header_bytes,
        max_headers=HEADER_COUNT,
        shutdown_timeout=DRAIN_S,
    )


async def listen(
    runner: web.AppRunner, host: str, port: int, *, shared: bool = False, admin: bool = False
) -> tuple[str, int]:
    """Start listening; return the address.  Port 0 takes a free one.

    ``shared`` lets other processes listen there too, if they say the same; ``admin`` says whose
    settings these are.  Raises PolicyError where that is not possible.
    """
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=_BACKLOG, reuse_port=shared or None)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise PolicyError(cannot_listen(host, port, error, admin=admin)) from error
    addresses = [(str(address[0]), int(address[1])) for address in runner.addresses]
    runner.app[UPSTREAMS].refuse(addresses)
    return addresses[0]


def cannot_listen(host: str, port: int, error: OSError, *, admin: bool = False) -> str:
    """Say why, in terms of the settings."""
    its_port, its_host = (
        ("LACONIC_ADMIN_PORT", "LACONIC_ADMIN_HOST") if admin else ("--port", "--host")
    )
    if error.errno == errno.EADDRINUSE:
        return f"{its_port}: found {port}, which is in use on {host}, wanted a free one"
    return f"{its_host}: found {host!r} ({error.strerror}), wanted an address of this machine"


# -- the process -----------------------------------------------------------------------------------


def configure_logging(
    settings: Settings, stream: TextIO | None = None, worker: int | None = None
) -> None:
    """Write one line per event to ``stream`` (stderr), Laconic's own and the libraries'.

    Every line of a ``worker`` has its number.
    """
    level = getattr(logging, settings.log_level.upper())
    lines: Any = _Unfailing(stream or sys.stderr)
    render: Any = structlog.processors.JSONRenderer(_in_json)
    if settings.log_format is LogFormat.CONSOLE:
        render = structlog.dev.ConsoleRenderer(colors=False)
    numbered: list[structlog.typing.Processor] = []
    if worker is not None:
        numbered = [lambda _logger, _name, event: {**event, "worker": worker}]
    structlog.configure(
        processors=[
            *numbered,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(lines),
    )
    logging.basicConfig(handlers=[LibraryLog()], level=max(level, logging.WARNING), force=True)
    logging.captureWarnings(capture=True)


class _Unfailing:
    """Where lines go that nobody shall fail for: one that cannot be written is lost (law 8)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a full disk; nobody reads any more; closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _in_json(event: Mapping[str, Any], default: Callable[[Any], Any]) -> str:
    """Write a line's fields; text that is no text (a lone surrogate) is spelt as json spells it."""
    try:
        return orjson.dumps(event, default).decode()
    except TypeError:
        return json.dumps(event, default=default)


class LibraryLog(logging.Handler):
    """Passes on that a library logged, and the type of the error; never what was in it.

    Libraries put what they stumble over into their messages: a header line with its key, a repr
    with a prompt in it.  The template is safe, its arguments and the traceback's text are not.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's template, first line only, and its error's type."""
        error = record.exc_info[0] if record.exc_info else None
        structlog.get_logger("laconic").log(
            record.levelno,
            "library",
            logger=record.name,
            message=str(record.msg).partition("\n")[0][:_LONGEST_MESSAGE],
            type=error.__name__ if error else None,
        )


async def serve(settings: Settings, worker: Worker | None = None) -> bool:
    """Listen and serve until SIGINT or SIGTERM; what is in flight then gets time to end.

    A ``worker`` serves beside others, and its lifeline's end stops it too.  Raises PolicyError for
    settings, policies, a model or a port that cannot be used.  Tells whether all that it began has
    ended: a model may be in the midst of loading.
    """
    refuse_itself(settings)
    policies = open_policies(settings)
    if worker is None:
        warn_if_open(settings)
        tell_of_capture(policies.current, settings.ledger_path)
    sinks = open_sinks(settings)
    disk = open_disk_memo(settings)
    memo = VectorMemo(settings.memo_bytes, shelf=None if disk is None else DiskShelf(disk))
    engine = build_engine(settings, memo)
    marks = None if worker is None else _disk_memo(worker.shared / _MARKS, _MARKS_BYTES)
    method = Cascade(
        turns_behind(marks), lambda: engine.revision, tagged=TurnMemo(), cuts=TurnMemo()
    )
    metrics = build_metrics(partial(memo_usage, memo, disk), worker)
    sent = open_sent(worker)
    app = build_app(
        settings,
        policies,
        method=method,
        engine=engine,
        sinks=sinks,
        books=Books(metrics, History(shared=sent)),
    )
    runner = build_runner(app, settings)
    admin = build_runner(app[ADMIN], settings) if ADMIN in app else None
    log = structlog.get_logger("laconic")
    try:
        with _hearing(None if worker is None else worker.lifeline) as (stop, reload):
            url = await _listen_both(runner, admin, settings, shared=worker is not None)
            engine.start()
            log.info("listening", url=url, upstream=settings.upstream)
            await _until_stopped(engine, policies, settings.policies, stop, reload)
        log.info("stopping", drain_s=DRAIN_S)
    finally:
        await runner.cleanup()
        if admin is not None:
            await admin.cleanup()
        files = [each for each in (disk, marks, sent) if each is not None]
        ended = await asyncio.to_thread(engine.close)
        await asyncio.to_thread(_close_all, *sinks, *files)
    return ended


async def _listen_both(
    runner: web.AppRunner, admin: web.AppRunner | None, settings: Settings, *, shared: bool
) -> str:
    """Listen for callers and, on a port of its own, for who looks at figures; return our URL."""
    host, port = await listen(runner, settings.host, settings.port, shared=shared)
    if admin is not None and settings.admin_port is not None:
        await listen(admin, settings.admin_host, settings.admin_port, shared=shared, admin=True)
    return f"http://{_bracketed(host)}:{port}"


def run(settings: Settings, worker: Worker | None = None) -> None:
    """Configure logging and serve, on uvloop where it is installed."""
    configure_logging(settings, worker=None if worker is None else worker.number)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        ended = runner.run(serve(settings, worker))
    if not ended:
        _end_at_once()


def _end_at_once() -> NoReturn:
    """End the process and leave the interpreter as it is.

    Torch aborts the process where the interpreter is taken down around a thread that is in it.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def refuse_itself(settings: Settings, url: str | None = None, where: str = "--upstream") -> None:
    """Raise PolicyError where an upstream is plainly the address that we listen on.

    Without a ``url`` it is the settings' upstream.  A name that turns out to lead here is refused
    when it is connected to.
    """
    url = url or settings.upstream
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    target = _literal(parts.hostname or "")
    if target and any(leads_to(own, (target, port)) for own in _own_addresses(settings)):
        raise PolicyError(f"{where}: found {url}, this proxy itself, wanted another server")


def _own_addresses(settings: Settings) -> Iterator[Address]:
    """Yield where we shall listen, as far as that is known by its number."""
    for host, port in (
        (settings.host, settings.port),
        (settings.admin_host, settings.admin_port),
    ):
        literal = _literal(host)
        if literal is not None and port is not None:
            yield literal, port


def warn_if_open(settings: Settings) -> None:
    """Say where others than this machine may use the proxy, or see its figures, and need no key."""
    log = structlog.get_logger("laconic")
    if not settings.keys and not is_loopback(settings.host):
        log.warning("open-to-the-network", host=settings.host, wanted="keys: laconic keys new NAME")
    if (
        settings.admin_port is not None
        and settings.admin_token is None
        and not is_loopback(settings.admin_host)
    ):
        log.warning(
            "admin-open-to-the-network",
            host=settings.admin_host,
            wanted="a token: laconic keys admin",
        )


def tell_of_capture(policies: PolicySet, ledger: Path | None) -> None:
    """Say on which routes what callers say is written to the disk."""
    log = structlog.get_logger("laconic")
    if policies.captured and ledger is None:
        log.warning("capture-without-ledger", routes=policies.captured)
    elif policies.captured:
        log.warning("capture-on", routes=policies.captured)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    literal = _literal(host)
    return literal is not None and ip_address(literal).is_loopback


def _literal(host: str) -> str | None:
    host = "127.0.0.1" if host == "localhost" else host
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def open_policies(settings: Settings) -> PolicyStore:
    """Read the policies that the settings name.  Raises PolicyError."""
    loaded = load_policies(_policy_files(settings.policies), keys=settings.keys)
    return PolicyStore(loaded, fallback=settings.policy, keys=settings.keys)


def open_upstreams(
    settings: Settings, policies: PolicyStore, environ: Mapping[str, str] = os.environ
) -> Upstreams:
    """Read what the upstreams need, those of the policies too, now and whenever these change.

    Raises PolicyError.
    """
    limits = Limits(settings.connect_timeout_s, settings.read_timeout_s, settings.max_header_bytes)
    general = UpstreamSpec(url=settings.upstream, key=settings.upstream_key)
    upstreams = Upstreams(general, environ, limits)

    def usable(policies: PolicySet) -> None:
        for name, spec in policies.upstreams.items():
            refuse_itself(settings, spec.url, f"upstreams.{name}.url")
        upstreams.prepare(policies.upstreams)

    policies.require(usable)
    return upstreams


def open_sinks(settings: Settings) -> list[Sink]:
    """Open the log, the ledger's file unless turned off, and telemetry where it is asked for.

    Raises PolicyError.
    """
    sinks: list[Sink] = [LogSink()]
    if settings.otel:
        from proxy import telemetry  # noqa: PLC0415 - an extra

        sinks.append(telemetry.from_environment())
    if settings.ledger_path is not None:
        bounds = Bounds(settings.ledger_disk_bytes, settings.ledger_days)
        captures = Bounds(settings.capture_disk_bytes, settings.capture_days)
        sinks.append(SqliteSink(settings.ledger_path, bounds, captures))
    return sinks


def open_disk_memo(settings: Settings) -> DiskMemo | None:
    """Open the memo's file, unless turned off; one that cannot be used is told, and done without.

    It only saves time: no request shall fail for its sake (law 8).
    """
    if settings.memo_path is None:
        return None
    return _disk_memo(settings.memo_path, settings.memo_disk_bytes)


def _disk_memo(path: Path, limit_bytes: int) -> DiskMemo | None:
    log = structlog.get_logger("laconic")

    def warn(text: str) -> None:
        log.warning("memo", detail=text)

    try:
        return DiskMemo(path, limit_bytes, warn=warn)
    except PolicyError as error:
        log.warning("memo-unusable", error=str(error))
        return None


def open_sent(worker: Worker | None) -> Sent | None:
    """Open what workers know together of what was sent before; without it each knows its own."""
    if worker is None:
        return None
    log = structlog.get_logger("laconic")

    def warn(text: str) -> None:
        log.warning("history", detail=text)

    try:
        return Sent(worker.shared / _SENT, warn=warn)
    except PolicyError as error:
        log.warning("history-unusable", error=str(error))
        return None


def turns_behind(marks: DiskMemo | None) -> Memory[TurnResult]:
    """Make the memory of turns, which workers share as far as they have to."""
    memory: TurnMemo[TurnResult] = TurnMemo()
    return memory if marks is None else SharedTurns(memory, marks)


def memo_usage(memo: VectorMemo, disk: DiskMemo | None) -> Mapping[str, Usage]:
    """Return how the memo has served, by where it looked."""
    return {"memory": memo.usage} | ({} if disk is None else {"disk": disk.usage})


def build_metrics(memo: MemoUsage, worker: Worker | None) -> Metrics:
    """Make the figures, which workers keep together."""
    return Metrics(memo) if worker is None else SharedMetrics(memo, worker.shared, worker.number)


def build_engine(settings: Settings, memo: VectorMemo) -> ModelEngine:
    """Make the engine; it loads the model once it is started."""

    def load() -> Models:
        preload()  # the encodings, so that no request waits for them either
        return load_models(
            settings.model, settings.language_model, settings.classifier, settings.backend
        )

    return ModelEngine(
        load,
        memo,
        threads=settings.threads or os.cpu_count() or 1,
        queue_entries=settings.queue_entries,
    )


def _policy_files(directory: Path | None) -> dict[str, str]:
    return layered({} if directory is None else read_policy_dir(directory))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _close_all(*opened: ModelEngine | Sink | DiskMemo | Sent) -> None:
    for one in opened:
        one.close()


@contextmanager
def _hearing(lifeline: int | None) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Hear signals and the lifeline, from before anything is said: give the stop, the reload."""
    loop = asyncio.get_running_loop()
    stop, reload = asyncio.Event(), asyncio.Event()
    signals = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: reload}
    for number, event in signals.items():
        loop.add_signal_handler(number, event.set)
    if lifeline is not None:
        loop.add_reader(lifeline, _hear, lifeline, stop, reload)
    try:
        yield stop, reload
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        if lifeline is not None:
            loop.remove_reader(lifeline)


async def _until_stopped(
    engine: ModelEngine,
    policies: PolicyStore,
    directory: Path | None,
    stop: asyncio.Event,
    reload: asyncio.Event,
) -> None:
    """Wait for the stop; load the model and keep the policies fresh."""
    stopping = asyncio.create_task(stop.wait())
    loading = asyncio.create_task(_load(engine))
    watching = asyncio.create_task(watch_policies(policies, directory, reload))
    try:
        await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        await stopping
    finally:
        for task in (stopping, loading, watching):
            task.cancel()
        await asyncio.gather(stopping, loading, watching, return_exceptions=True)


def _hear(lifeline: int, stop: asyncio.Event, reload: asyncio.Event) -> None:
    (reload if os.read(lifeline, 4096) else stop).set()


async def _load(engine: ModelEngine) -> None:
    """Wait for the model.  Without one every request passes as it came (law 8): say so."""
    log = structlog.get_logger("laconic")
    try:
        await engine.wait_ready()
    except PolicyError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model's library raises
        log.error("model-failed", type=type(error).__name__)  # noqa: TRY400 - no traceback: law 11
    else:
        settle()
        log.info("ready", model=engine.revision, tokens_per_s=round(engine.tokens_per_s))


def settle() -> None:
    """Have garbage looked for less: what is loaded by now stays, and requests leave hardly any."""
    gc.collect()
    gc.set_threshold(10_000, 20, 50)  # a request's objects are no cycles, or hardly any
    gc.freeze()  # nothing in what is loaded is worth looking through again


async def watch_policies(
    policies: PolicyStore, directory: Path | None, asked: asyncio.Event, poll_s: float = _POLL_S
) -> None:
    """Read the policies again when their files change, and when ``asked`` is set; never ends."""
    seen = await asyncio.to_thread(_stamps, directory)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), poll_s)
        now = await asyncio.to_thread(_stamps, directory)
        if asked.is_set() or now != seen:
            asked.clear()
            seen = now
            await asyncio.to_thread(reload_policies, policies, directory)


def reload_policies(policies: PolicyStore, directory: Path | None) -> None:
    """Take over the files as they are now, or keep the last good policies, and log which."""
    try:
        policies.replace(_policy_files(directory))
    except PolicyError as error:
        policies.refuse(error)
    log = structlog.get_logger("laconic")
    if policies.error is None:
        current = policies.current
        log.info("policies-loaded", policies=sorted(current.policies), capture=current.captured)
    else:
        log.error("policies-refused", error=str(policies.error))


def _stamps(directory: Path | None) -> Mapping[str, tuple[int, int, int]] | None:
    """Return what tells one state of the files from another; None where they cannot be read."""
    if directory is None:
        return {}
    try:
        stats = {path.name: path.stat() for path in directory.glob("*.y*ml")}
    except OSError:
        return None
    return {name: (stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats.items()}
