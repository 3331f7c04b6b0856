"""Notes on one exchange while it lasts; at its end they become the ledger entry."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from proxy.compress.recovery import Alignment
from proxy.gateway.compression import Prepared
from proxy.gateway.recovery import Recovery
from proxy.ledger import Ended, LedgerEntry, hash_api_key, outcome_fields
from proxy.policy import api_key_of
from proxy.types import Count, Reason
from proxy.upstream import Answer, Headers
from proxy.wire import UsageObserver, value_of


def _now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def target_of(request: web.Request) -> str:
    """Return path and query as sent, also where the request line named the whole URL."""
    raw = request.raw_path
    if raw.startswith("/"):
        return raw
    _, scheme, rest = raw.partition("://")
    return "/" + rest.partition("/")[2] if scheme else raw


@dataclass(slots=True)
class Exchange:
    """What is known so far.  Lives as long as its handler, never longer."""

    method: str
    path: str
    api_key_hash: str | None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: str = field(default_factory=_now_utc)
    started_s: float = field(default_factory=time.perf_counter)
    prepared: Prepared | None = None
    observer: UsageObserver | None = None
    recovery: Recovery | None = None
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_ttfb_ms: float | None = None
    ended: Ended = Ended.COMPLETE
    resent: bool = False

    @classmethod
    def of(cls, request: web.Request) -> Exchange:
        """Begin the notes on a request that has just arrived."""
        return cls(
            method=request.method,
            path=target_of(request).partition("?")[0],
            api_key_hash=hash_api_key(api_key_of(request.headers)),
        )

    @property
    def source(self) -> Alignment | None:
        """What the answer's wording can be recovered from, where that is asked for."""
        return self.prepared.source if self.prepared else None

    def watched(self, answer: Answer) -> Answer:
        """Return the answer, its usage read from the upstream's own bytes as they pass."""
        self.observer = UsageObserver(
            value_of(answer.headers, "content-type"), value_of(answer.headers, "content-encoding")
        )
        return replace(answer, chunks=_seen(answer.chunks, self.observer))

    def count(self, chunk: bytes) -> None:
        """See a chunk of the answer go to the caller."""
        self.bytes_out += len(chunk)

    def refuse(self, status: int) -> None:
        """Note that the upstream refused the edited body: nothing was saved (law 8)."""
        if self.prepared is None:
            return
        self.resent = True
        outcome = self.prepared.outcome
        self.prepared = replace(
            self.prepared,
            source=None,
            outcome=replace(
                outcome,
                reason=Reason.REFUSED_EDITED,
                detail=f"upstream answered {status}",
                tokens_after=outcome.tokens_before,
                components={c: Count(n.before, n.before) for c, n in outcome.components.items()},
                first_saved=0,
                repeat_saved=0,
                recalled_tokens=0,
                cache_breaks=0,
            ),
        )

    def headers(self) -> Headers:
        """Return what we tell the caller about this exchange; figures only where we have them."""
        told: dict[str, object] = {"request-id": self.request_id}
        if self.prepared is not None:
            outcome = self.prepared.outcome
            known = outcome_fields(outcome)
            told |= {
                "policy": outcome.policy,
                "reason": outcome.reason,
                "tokens-before": known["tokens_before"],
                "tokens-after": known["tokens_after"],
                "tokens-saved": known["tokens_saved"],
                "rate": known["rate"],
                "compress-ms": round(outcome.compress_ms, 1),
                "recovered": "true" if self.recovery and self.recovery.applied else None,
            }
        return tuple(
            (f"x-laconic-{name}", str(value)) for name, value in told.items() if value is not None
        )

    def entry(self) -> LedgerEntry:
        """Close the notes."""
        if self.observer is not None:
            self.observer.close()
        return LedgerEntry(
            request_id=self.request_id,
            started_at=self.started_at,
            method=self.method,
            path=self.path,
            status=self.status,
            upstream_ttfb_ms=self.upstream_ttfb_ms,
            duration_ms=elapsed_ms(self.started_s),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            ended=self.ended,
            resent=self.resent,
            recovered=self.recovery is not None and self.recovery.changed,
            api_key_hash=self.api_key_hash,
            **_of_compression(self.prepared),
            **_of_usage(self.observer),
        )


async def _seen(chunks: AsyncIterator[bytes], observer: UsageObserver) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        observer.feed(chunk)
        yield chunk


def _of_compression(prepared: Prepared | None) -> dict[str, Any]:
    if prepared is None:
        return {}
    return {
        **outcome_fields(prepared.outcome),
        "route": prepared.route,
        "model": prepared.request.model if prepared.request else None,
        "stream": prepared.request.stream if prepared.request else False,
        "queue_ms": prepared.queue_ms,
        "model_ms": prepared.model_ms,
    }


def _of_usage(observer: UsageObserver | None) -> dict[str, Any]:
    usage = observer.usage if observer else None
    if usage is None:
        return {}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }


def elapsed_ms(since_s: float) -> float:
    """Milliseconds since a reading of ``time.perf_counter``."""
    return (time.perf_counter() - since_s) * 1000
