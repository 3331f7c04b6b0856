"""Laconic's own endpoints: whether it lives and is ready, for anybody; figures, for who may see.

They stand on the port that requests come to or, where one is set, the figures on a port of their
own (``LACONIC_ADMIN_PORT``), which may be bound elsewhere; health is told on both.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from proxy.dashboard import Dashboard
from proxy.dashboard.api import Handler
from proxy.gateway import Engine, Metrics, own_error
from proxy.gateway.metrics import CONTENT_TYPE
from proxy.policy import PolicyStore, key_hash


@dataclass(frozen=True, slots=True)
class Admin:
    """What the endpoints tell of.

    ``flush`` brings the figures up to date; ``token`` is the hash of what opens them, if anything.
    """

    engine: Engine
    policies: PolicyStore
    metrics: Metrics
    flush: Callable[[], object]
    token: str | None = field(default=None, repr=False)
    dashboard: Dashboard | None = None

    def add_health(self, app: web.Application) -> None:
        """Answer ``/livez`` and ``/readyz``."""
        app.router.add_route("*", "/livez", self._livez)
        app.router.add_route("*", "/readyz", self._readyz)

    def add_figures(self, app: web.Application) -> None:
        """Answer what the token opens."""
        app.router.add_route("*", "/metrics", self._guarded(self._metrics))
        if self.dashboard is not None:
            self.dashboard.add_to(app, self._guarded)

    def _guarded(self, handler: Handler) -> Handler:
        """Let only those in who show the token, where there is one."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            return await handler(request) if self._may_see(request) else _who_are_you()

        return guarded

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        missing = [] if self.engine.ready() else ["model: still loading"]
        body: dict[str, Any] = {"ready": not missing, "missing": missing}
        error = self.policies.error
        if error is not None:
            body["policies"] = f"the last good ones are in force; refused: {error}"
        return web.json_response(body, status=503 if missing else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        await asyncio.to_thread(self.flush)
        body = await asyncio.to_thread(self.metrics.exposition)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    def _may_see(self, request: web.Request) -> bool:
        if self.token is None:
            return True
        shown = token_of(request.headers.get(hdrs.AUTHORIZATION, ""))
        return hmac.compare_digest(key_hash(shown), self.token)


def token_of(authorization: str) -> str:
    """Return the token in a header: a Bearer's, or the password that a browser asked for.

    >>> token_of("Bearer t"), token_of("Basic " + base64.b64encode(b"anyone:t").decode())
    ('t', 't')
    >>> token_of("Basic ?"), token_of("")
    ('', '')
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    try:
        decoded = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2] if scheme.lower() == "basic" else ""


def build_admin(admin: Admin) -> web.Application:
    """Build what answers on a port of its own."""
    app = web.Application()
    admin.add_health(app)
    admin.add_figures(app)
    app.router.add_route("*", r"/{tail:[\s\S]*}", not_found)
    return app


async def not_found(_request: web.Request) -> web.Response:
    """Say so, in OpenAI's words."""
    return own_error(HTTPStatus.NOT_FOUND, "Not Found", "not_found")


def _who_are_you() -> web.Response:
    return own_error(
        HTTPStatus.UNAUTHORIZED,
        "authorization: found no admin token, or another, wanted that of LACONIC_ADMIN_TOKEN",
        "invalid_admin_token",
        ((hdrs.WWW_AUTHENTICATE, 'Basic realm="laconic"'),),
    )
