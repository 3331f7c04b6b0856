"""Notes on one exchange while it lasts; at its end they become the ledger entry."""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web

from proxy.compress.recovery import Alignment
from proxy.compress.result import Compressed, SentTurn
from proxy.compress.show import show
from proxy.errors import CompressionError
from proxy.gateway.access import ANYBODY, Guest
from proxy.gateway.compression import Prepared
from proxy.gateway.conversation import name_of
from proxy.gateway.history import History, Seen
from proxy.gateway.recovery import Recovery
from proxy.ledger import Ended, LedgerEntry, hash_api_key, outcome_fields, rate_of, spelt
from proxy.ledger.capture import sealed
from proxy.ledger.segments import packed, told
from proxy.policy import api_key_of
from proxy.tokens import encoding_for
from proxy.types import Count, Outcome, Reason, Request
from proxy.upstream import Answer, Headers
from proxy.wire import Endpoint, UsageObserver, value_of


def _new_id() -> str:
    """Return 32 hex digits that tell requests apart, and are no secret.

    The time in ms, then 80 random bits: new ones sort behind those before, as in version 7 of UUIDs
    (RFC 9562, 5.7), so that the ledger's index grows at its end and not all over.
    """
    return f"{int(time.time() * 1000):012x}{random.getrandbits(80):020x}"


_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def traceparent_of(header: str | None) -> str | None:
    """Return the caller's span where a header names one (W3C Trace Context, 3.2).

    >>> traceparent_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") is None
    False
    >>> traceparent_of("00-1-2-01") is None
    True
    """
    return header if header and _TRACEPARENT.fullmatch(header) else None


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
    api_key: str | None = field(repr=False)
    request_id: str = field(default_factory=_new_id)
    traceparent: str | None = None
    started_unix_s: float = field(default_factory=time.time)
    started_s: float = field(default_factory=time.perf_counter)
    endpoint: Endpoint | None = None
    guest: Guest = ANYBODY
    upstream: str | None = None
    host: str | None = None
    hops: str | None = None
    prepared: Prepared | None = None
    observer: UsageObserver | None = None
    recovery: Recovery | None = None
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    sent_s: float = 0.0
    upstream_ttfb_ms: float | None = None
    duration_ms: float = 0.0
    ended: Ended = Ended.COMPLETE
    gone: Ended = Ended.CALLER_GONE  # what it comes to if the caller hangs up now
    resent: bool = False
    before: Seen | None = None  # what of it was sent before, once that is looked up

    @classmethod
    def of(cls, request: web.Request) -> Exchange:
        """Begin the notes on a request that has just arrived."""
        return cls(
            method=request.method,
            path=target_of(request).partition("?")[0],
            api_key=api_key_of(request.headers),
            traceparent=traceparent_of(request.headers.get("traceparent")),
        )

    @property
    def source(self) -> Alignment | None:
        """What the answer's wording can be recovered from, where that is asked for."""
        return self.prepared.source if self.prepared else None

    def watch(self, answer: Answer) -> None:
        """Look out for the usage in an answer's body; its chunks are to be seen as they pass."""
        self.observer = UsageObserver(
            value_of(answer.headers, "content-type"), value_of(answer.headers, "content-encoding")
        )

    def observe(self, chunk: bytes) -> None:
        """See a chunk come from the upstream."""
        if self.observer is not None:
            self.observer.feed(chunk)

    def take(self, chunk: bytes) -> None:
        """See a chunk come from the caller."""
        self.bytes_in += len(chunk)

    def count(self, chunk: bytes) -> None:
        """See a chunk go to the caller."""
        self.bytes_out += len(chunk)

    def pass_on(self, chunk: bytes) -> None:
        """See a chunk come from the upstream and go to the caller as it is."""
        self.observe(chunk)
        self.count(chunk)

    def send(self) -> None:
        """Note that a request goes to the upstream now."""
        self.sent_s = time.perf_counter()

    def hear(self) -> None:
        """Note that the upstream has answered."""
        self.upstream_ttfb_ms = elapsed_ms(self.sent_s)

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
                busted_tokens=0,
            ),
        )

    def headers(self) -> Headers:
        """Return what we tell the caller about this exchange; figures only where we have them."""
        told: list[tuple[str, object]] = [("x-laconic-request-id", self.request_id)]
        if self.prepared is not None:
            told += _told(self.prepared.outcome)
        if self.recovery is not None and self.recovery.applied:
            told.append(("x-laconic-recovered", "true"))
        return tuple((name, str(value)) for name, value in told if value is not None)

    def close(self) -> None:
        """Note that the exchange is over; nothing is added from here on."""
        self.duration_ms = elapsed_ms(self.started_s)

    def entry(self, history: History) -> LedgerEntry:
        """Make the ledger entry, once it is over; reads the answer's usage, so in a thread.

        ``history`` tells what was sent before, and is told of this exchange.
        """
        if self.observer is not None:
            self.observer.close()
        return LedgerEntry.made_of(
            {
                "request_id": self.request_id,
                "started_at": spelt(datetime.fromtimestamp(self.started_unix_s, UTC)),
                "method": self.method,
                "path": self.path,
                "status": self.status,
                "upstream_ttfb_ms": self.upstream_ttfb_ms,
                "duration_ms": self.duration_ms,
                "bytes_in": self.bytes_in,
                "bytes_out": self.bytes_out,
                "ended": self.ended,
                "resent": self.resent,
                "recovered": self.recovery is not None and self.recovery.changed,
                "api_key_hash": hash_api_key(self.api_key),
                "key_name": self.guest.key,
                "upstream": self.upstream,
                "traceparent": self.traceparent,
                "upstream_host": self.host,
                **_of_compression(self.prepared),
                **_of_usage(self.observer),
                **self._of_conversation(history),
            }
        )

    def _of_conversation(self, history: History) -> dict[str, Any]:
        """Return what takes the request and those before it: nothing waits for this."""
        prepared = self.prepared
        request = None if prepared is None else _read(prepared)
        if prepared is None or request is None:
            return {}
        found: dict[str, Any] = {
            "arm": prepared.arm,
            "conversation": name_of(request, self.api_key),
        }
        if prepared.outcome.reason is Reason.HELD_OUT:
            found |= _counted(request)
        sized = () if prepared.compressed is None else prepared.compressed.sized
        found["segments"] = packed(told(sized, sent=not self.resent))
        if prepared.capture:
            found["captured"] = self._captured(request, prepared.compressed)
        self.note(history)
        if self.before is not None:
            found |= self._of_history(self.before, prepared.outcome)
        return found

    def _captured(self, request: Request, compressed: Compressed | None) -> bytes:
        """Return the request's text, kept and dropped marked; only where capture is on."""
        if compressed is None:
            return sealed(show(request, (), ()))
        segments = (segment for sized in compressed.sized for segment in sized.segments)
        return sealed(show(request, segments, () if self.resent else compressed.edits))

    @property
    def taken(self) -> Sequence[SentTurn]:
        """The turns that an upstream took, where it answered, and not with an error."""
        prepared = self.prepared
        if prepared is None or prepared.request is None or prepared.compressed is None:
            return ()
        took = self.status is not None and self.status < HTTPStatus.BAD_REQUEST
        return prepared.compressed.turns if took else ()

    def note(self, history: History) -> None:
        """Look up what of the turns that an upstream took was sent before, and remember them.

        Once, in the clerk's thread, and as soon as the answer has begun where other processes ask:
        a conversation's next turn may reach, and end in, another one while this is under way.
        """
        prepared, turns = self.prepared, self.taken
        if prepared is None or not turns or self.before is not None:
            return
        scope = f"{self.upstream} {prepared.model} {self.api_key}"
        self.before = history.note(scope, turns, edited=self._edited)

    @property
    def _edited(self) -> bool:
        return self.prepared is not None and self.prepared.edited is not None and not self.resent

    def _of_history(self, seen: Seen, outcome: Outcome) -> dict[str, Any]:
        found: dict[str, Any] = {
            "unchanged_tokens": seen.unchanged,
            "busted_tokens": max(seen.busted, outcome.busted_tokens if self._edited else 0),
        }
        if seen.again:  # even the newest turn: what is left out of it was counted before
            found["first_saved"] = 0
            found["repeat_saved"] = outcome.first_saved + outcome.repeat_saved
        return found


async def seen(chunks: AsyncIterator[bytes], see: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    """Give chunks on, each shown to ``see`` before."""
    async for chunk in chunks:
        see(chunk)
        yield chunk


def _told(outcome: Outcome) -> list[tuple[str, object]]:
    """Return what headers say of an outcome; None where there is nothing to say."""
    told: list[tuple[str, object]] = [
        ("x-laconic-policy", outcome.policy),
        ("x-laconic-reason", outcome.reason),
    ]
    before, after = outcome.tokens_before, outcome.tokens_after
    if before is not None and after is not None:
        told += (
            ("x-laconic-tokens-before", before),
            ("x-laconic-tokens-after", after),
            ("x-laconic-tokens-saved", before - after),
            ("x-laconic-rate", rate_of(before, after)),
        )
    return [*told, ("x-laconic-compress-ms", round(outcome.compress_ms, 1))]


def _of_compression(prepared: Prepared | None) -> dict[str, Any]:
    if prepared is None:
        return {}
    return {
        **outcome_fields(prepared.outcome),
        "route": prepared.route,
        "model": prepared.model,
        "stream": prepared.stream,
        "queue_ms": prepared.queue_ms,
        "model_ms": prepared.model_ms,
    }


def _read(prepared: Prepared) -> Request | None:
    """Return the request; what passed unread is read now, where its text is to be captured."""
    if prepared.request is None and prepared.unread is not None:
        return prepared.unread()
    return prepared.request


def _counted(request: Request) -> dict[str, Any]:
    """Count the tokens of a request that went as it came, as a whole; nothing where that fails."""
    encoding = encoding_for(request.model)
    texts = (leaf.text for message in request.messages for leaf in message.leaves)
    try:
        tokens = sum(map(encoding.count, texts))
    except CompressionError:
        return {}
    return {
        "tokens_before": tokens,
        "tokens_after": tokens,
        "tokens_saved": 0,
        "rate": 1.0 if tokens else None,
        "encoding": encoding.name,
        "estimated": encoding.estimated,
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
