"""The application, built from values, and the process that runs it.

Whatever has a lifetime is opened and closed by a cleanup context; nothing is global.  ``serve`` is
where the outside world comes in: files, signals, the port.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TextIO

import structlog
from aiohttp import web

from proxy.errors import PolicyError
from proxy.gateway import (
    Compression,
    Engine,
    Gateway,
    Method,
    Metrics,
    own_error,
    without_additions,
)
from proxy.gateway.metrics import CONTENT_TYPE
from proxy.ledger import Sink
from proxy.policy import PolicyStore
from proxy.settings import LogFormat, Settings
from proxy.upstream import HEADER_COUNT, Limits, Upstream

GATEWAY: Final = web.AppKey("gateway", Gateway)
UPSTREAM: Final = web.AppKey("upstream", Upstream)

_DRAIN_S = 30.0  # a stream that is longer than this is cut off by a stop
_POLL_S = 1.0  # between looks at the policy files
_BACKLOG = 1024
_LONGEST_MESSAGE = 200


# -- the application -------------------------------------------------------------------------------


def build_app(
    settings: Settings,
    policies: PolicyStore,
    *,
    method: Method,
    engine: Engine,
    sinks: Sequence[Sink] = (),
) -> web.Application:
    """Build the application; the caller keeps, and closes, what it passes in."""
    metrics = Metrics()

    async def doors(app: web.Application) -> AsyncIterator[None]:
        limits = Limits(
            settings.connect_timeout_s, settings.read_timeout_s, settings.max_header_bytes
        )
        compression = Compression(method, engine, limit_bytes=settings.max_body_bytes)
        async with Upstream(limits) as upstream:
            app[UPSTREAM] = upstream
            app[GATEWAY] = Gateway(
                upstream=upstream,
                base=settings.upstream,
                policies=policies,
                compression=compression,
                sinks=(*sinks, metrics),
                limit_bytes=settings.max_body_bytes,
            )
            yield
        compression.close()

    async def livez(_request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def readyz(_request: web.Request) -> web.Response:
        missing = [] if engine.ready else ["model: still loading"]
        body: dict[str, Any] = {"ready": not missing, "missing": missing}
        if policies.error is not None:
            body["policies"] = f"the last good ones are in force; refused: {policies.error}"
        return web.json_response(body, status=503 if missing else 200)

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application(middlewares=[_in_envelope])
    app.on_response_prepare.append(without_additions)
    app.cleanup_ctx.append(doors)
    app.router.add_route("*", "/livez", livez)
    app.router.add_route("*", "/readyz", readyz)
    app.router.add_route("*", "/metrics", exposition)
    app.router.add_route("*", "/laconic{tail:(/.*)?}", _nothing_here)
    app.router.add_route("*", "/{tail:.*}", _handle)
    return app


async def _handle(request: web.Request) -> web.StreamResponse:
    return await request.app[GATEWAY].handle(request)


async def _nothing_here(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


@web.middleware
async def _in_envelope(
    request: web.Request, handler: Callable[[web.Request], Any]
) -> web.StreamResponse:
    """Put what aiohttp itself would answer (404, 405, 417) into OpenAI's envelope."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        return own_error(error.status, error.reason, error.reason.lower().replace(" ", "_"))
    return response


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
        shutdown_timeout=_DRAIN_S,
    )


async def listen(runner: web.AppRunner, host: str, port: int) -> tuple[str, int]:
    """Start listening; return the address.  Port 0 takes a free one.

    Raises PolicyError where that is not possible.
    """
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise PolicyError(_cannot_listen(host, port, error)) from error
    addresses = [(str(address[0]), int(address[1])) for address in runner.addresses]
    runner.app[UPSTREAM].refuse(addresses)
    return addresses[0]


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port: found {port}, which is in use on {host}, wanted a free one"
    return f"--host: found {host!r} ({error.strerror}), wanted an address of this machine"


# -- the process -----------------------------------------------------------------------------------


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Write one line per event to ``stream`` (stderr), Laconic's own and the libraries'."""
    level = getattr(logging, settings.log_level.upper())
    render: Any = structlog.processors.JSONRenderer()
    if settings.log_format is LogFormat.CONSOLE:
        render = structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
    )
    logging.basicConfig(handlers=[LibraryLog()], level=max(level, logging.WARNING), force=True)
    logging.captureWarnings(capture=True)


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
