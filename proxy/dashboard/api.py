"""The dashboard's answers: its files, and figures as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias

from aiohttp import web

from proxy.errors import CallerError, PolicyError
from proxy.gateway import own_error
from proxy.gateway.trial import Prepare, trial
from proxy.ledger import Between, Filter, Group, Ledger, Prices, spelt
from proxy.ledger.capture import captured
from proxy.ledger.views import Views, folded
from proxy.policy import PolicyStore

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROOT: Final = "/laconic"
STATIC: Final = Path(__file__).parent / "static"
_MOST: Final = 200  # exchanges in one answer
_LONGEST_TRIAL: Final = 4 * 1024 * 1024
_DAY: Final = timedelta(days=1)

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Nothing from elsewhere is loaded, and nothing frames the page."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What it shows.

    ``ledger`` is None where no file is kept: then only the playground has anything to show.
    ``upstream`` is the address that requests go to where no route names another.
    """

    policies: PolicyStore
    prepare: Prepare = field(repr=False)
    ledger: Path | None = None
    upstream: str | None = None

    def add_to(self, app: web.Application, guard: Callable[[Handler], Handler]) -> None:
        """Answer below ``/laconic/``, each request through ``guard``."""
        get = partial(_get, app, guard)
        get("", _to_the_page)
        get("/", partial(_file, "index.html"))
        for path in sorted(STATIC.iterdir()):
            get(f"/{path.name}", partial(_file, path.name))
        get("/api/overview", _answered(self._overview))
        get("/api/series", _answered(self._series))
        get("/api/exchanges", _answered(self._exchanges))
        get("/api/exchanges/{id}", _answered(self._exchange))
        get("/api/policies", _answered(self._policies))
        app.router.add_post(f"{ROOT}/api/try", guard(_answered(self._try)))

    async def _overview(self, request: web.Request) -> Any:
        """Sum up since a time, over all and by group."""
        since = _time(request, "since", _now() - _DAY)
        by = _choice(request, "by", Group, Group.POLICY)
        ledger = Ledger(self._ledger())

        def read() -> Any:
            prices = Prices(self.policies.current.prices)
            rows, total = ledger.table(by, Between(spelt(since)), prices)
            return {"by": by, "rows": [row.record() for row in rows], "total": total.record()}

        return await asyncio.to_thread(read)

    async def _series(self, request: web.Request) -> Any:
        """Sum up per step between two times."""
        since, until = _time(request, "since", _now() - _DAY), _time(request, "until", _now())
        read = partial(Views(self._ledger()).series, since, until, _filter(request))
        step, points = await asyncio.to_thread(read)
        return {"step": step.name.lower(), "points": [asdict(point) for point in points]}

    async def _exchanges(self, request: web.Request) -> Any:
        """List the latest exchanges, or those before or after one."""
        limit = min(_number(request, "limit", 50), _MOST)
        read = partial(
            Views(self._ledger()).latest,
            limit,
            _filter(request),
            before=_number(request, "before", 0),
            after=_number(request, "after", 0),
        )
        return {"exchanges": await asyncio.to_thread(read)}

    async def _exchange(self, request: web.Request) -> Any:
        """Tell one exchange, whole."""
        ledger, name = Ledger(self._ledger()), request.match_info["id"]
        prices = Prices(self.policies.current.prices)
        found = await asyncio.to_thread(ledger.reckoning, name, prices)
        if found is None:
            raise CallerError("exchange: found none of that id", status=404, code="not_found")
        text = await asyncio.to_thread(captured, ledger.path, name)
        return folded(found.columns) | {"reckoning": found.record(), "captured": text}

    async def _policies(self, _request: web.Request) -> Any:
        """List the policies in force."""
        current = self.policies.current
        policies = [
            {"name": name, "description": policy.description, "method": policy.method.name}
            for name, policy in sorted(current.policies.items())
        ]
        return {"policies": policies, "fallback": current.fallback}

    async def _try(self, request: web.Request) -> Any:
        """Try a request under a policy."""
        asked = await _json(request)
        body, name, rate = asked.get("body"), asked.get("policy"), asked.get("rate")
        if not isinstance(body, str) or not isinstance(name, str):
            raise CallerError("body, policy: found something else, wanted two texts")
        if isinstance(rate, bool) or not isinstance(rate, int | float | None):
            raise CallerError("rate: found something else, wanted a number or null")
        raw = body.encode("utf-8", "replace")
        current = self.policies.current
        found = await trial(self.prepare, current, name, raw, rate=rate, upstream=self.upstream)
        return found.record()

    def _ledger(self) -> Path:
        if self.ledger is None or not self.ledger.is_file():
            raise CallerError(
                "ledger: found no file, wanted one (LACONIC_LEDGER_PATH)",
                status=HTTPStatus.NOT_FOUND,
                code="no_ledger",
            )
        return self.ledger


def _get(
    app: web.Application, guard: Callable[[Handler], Handler], path: str, handler: Handler
) -> None:
    app.router.add_get(f"{ROOT}{path}", guard(handler))


async def _to_the_page(_request: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"{ROOT}/"})


async def _file(name: str, _request: web.Request) -> web.FileResponse:
    return web.FileResponse(STATIC / name, headers=_HEADERS)


def _answered(ask: Callable[[web.Request], Awaitable[Any]]) -> Handler:
    """Give what ``ask`` returns as JSON, and what it raises as an error in our envelope."""

    async def handler(request: web.Request) -> web.Response:
        try:
            found = await ask(request)
        except CallerError as error:
            return own_error(error.status, str(error), error.code)
        except PolicyError as error:
            return own_error(HTTPStatus.SERVICE_UNAVAILABLE, str(error), "ledger_unreadable")
        return web.json_response(found, headers=_HEADERS)

    return handler


async def _json(request: web.Request) -> Mapping[str, Any]:
    """Read a JSON object; a page elsewhere cannot send one without asking first (CORS)."""
    if request.content_type != "application/json":
        raise CallerError("content-type: found another, wanted application/json", status=415)
    raw = await request.content.read(_LONGEST_TRIAL + 1)
    while len(raw) <= _LONGEST_TRIAL and (more := await request.content.readany()):
        raw += more
    if len(raw) > _LONGEST_TRIAL:
        raise CallerError(f"body: found more than {_LONGEST_TRIAL} bytes", status=413)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CallerError("body: found no JSON, wanted an object") from error
    if not isinstance(found, dict):
        raise CallerError("body: found something else, wanted an object")
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def _time(request: web.Request, name: str, default: datetime) -> datetime:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise CallerError(f"{name}: found {text[:40]!r}, wanted a time as 2026-01-31T12:00:00Z")
    return found


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise CallerError(f"{name}: found {text[:40]!r}, wanted a whole number")
    return int(text)


def _choice(request: web.Request, name: str, choices: type[Group], default: Group) -> Group:
    text = request.query.get(name, default)
    if text not in set(choices):
        raise CallerError(f"{name}: found {text[:40]!r}, wanted one of {', '.join(choices)}")
    return choices(text)


def _filter(request: web.Request) -> Filter:
    asked = {name: value for name, value in request.query.items() if value}
    return Filter(
        policy=asked.get("policy"),
        route=asked.get("route"),
        model=asked.get("model"),
        key=asked.get("key"),
        reason=asked.get("reason"),
    )
