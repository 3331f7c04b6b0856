"""What the upstream says a request cost, read on the side from the answer as it passes.

The answer itself is relayed undecoded; the observer unpacks and parses a tee of its own, within
bounds, and whatever it meets (truncation, garbage, a bomb) ends in "not known", never in an error.
A figure that is absent is ``None``: nothing is added up or guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import orjson

from proxy.wire.encoding import Decoder
from proxy.wire.errors import BodyTooLarge, Unparsed
from proxy.wire.sse import SseObserver

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_STREAM_BYTES = 1024 * 1024 * 1024

_DONE = b"[DONE]"
_LARGEST = 2**63 - 1  # what a ledger's column holds


@dataclass(frozen=True, slots=True)
class Usage:
    """Token figures as the upstream reported them.

    ``cached_tokens`` (read from its cache) and ``cache_write_tokens`` are parts of
    ``prompt_tokens``.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None

    @classmethod
    def read(cls, answer: object) -> Self | None:
        """Find the usage in a parsed answer or event, by either of OpenAI's names for things.

        A Responses event carries it inside ``response``.
        """
        outer = _mapping(answer)
        usage = _mapping(outer.get("usage")) or _mapping(
            _mapping(outer.get("response")).get("usage")
        )
        if not usage:
            return None
        details = _mapping(usage.get("prompt_tokens_details")) or _mapping(
            usage.get("input_tokens_details")
        )
        return cls(
            prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
            completion_tokens=_count(usage, "completion_tokens", "output_tokens"),
            total_tokens=_count(usage, "total_tokens"),
            cached_tokens=_count(details, "cached_tokens"),
            cache_write_tokens=_count(details, "cache_write_tokens"),
        )


class UsageObserver:
    """Watches one answer's body: feed it each chunk as it is relayed, and close it.

    Takes the answer's Content-Type and Content-Encoding headers as sent.  No method raises.
    """

    def __init__(self, content_type: str | None, content_encoding: str | None) -> None:
        self._watch = _watch_for(content_type)
        self._decoder: Decoder | None = None
        if self._watch is not None:
            self._decoder = _decoder(content_encoding, self._watch.limit_bytes)

    @property
    def usage(self) -> Usage | None:
        """What the upstream reported: the last word, for a stream; ``None`` where it did not."""
        return self._watch.usage if self._watch else None

    @property
    def done(self) -> bool:
        """Whether a stream said that it was over (``[DONE]``)."""
        return self._watch.done if self._watch else False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body, as they came over the wire."""
        if self._watch is None or self._decoder is None:
            return
        try:
            for piece in self._decoder.feed(chunk):
                self._watch.feed(piece)
        except (Unparsed, BodyTooLarge):
            self._decoder = None
            self._watch.give_up()

    def close(self) -> None:
        """Take note that the body is over, however it ended."""
        if self._watch is not None and self._decoder is not None:
            self._watch.close()
            self._decoder = None


class _Watch(Protocol):
    """Something that finds usage in a decoded body."""

    limit_bytes: int
    usage: Usage | None
    done: bool

    def feed(self, piece: bytes) -> None: ...
    def close(self) -> None: ...
    def give_up(self) -> None: ...


class _StreamWatch:
    """An event stream: usage comes with one of the last events, or with each."""

    limit_bytes = MAX_STREAM_BYTES

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.done = False
        self._events = SseObserver(MAX_BODY_BYTES)

    def feed(self, piece: bytes) -> None:
        for payload in self._events.feed(piece):
            self._take(payload)

    def close(self) -> None:
        for payload in self._events.close():
            self._take(payload)

    def give_up(self) -> None:
        """Keep what was reported so far."""

    def _take(self, payload: bytes) -> None:
        if payload.strip() == _DONE:
            self.done = True
        elif b'"usage"' in payload:  # most events have none: do not parse them
            self.usage = Usage.read(_parsed(payload)) or self.usage


class _BodyWatch:
    """A JSON document: usage is known once all of it is there."""

    limit_bytes = MAX_BODY_BYTES

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.done = False
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        self._body += piece

    def close(self) -> None:
        self.usage = Usage.read(_parsed(bytes(self._body)))
        self._body.clear()

    def give_up(self) -> None:
        self._body.clear()


def _watch_for(content_type: str | None) -> _Watch | None:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return _StreamWatch()
    if media_type == "application/json" or media_type.endswith("+json"):
        return _BodyWatch()
    return None


def _decoder(content_encoding: str | None, limit_bytes: int) -> Decoder | None:
    try:
        return Decoder(content_encoding, limit_bytes=limit_bytes)
    except Unparsed:
        return None


def _parsed(payload: bytes) -> object:
    for loads in (orjson.loads, json.loads):  # the second reads what is almost JSON, slowly
        with suppress(ValueError, RecursionError):
            value: object = loads(payload)
            return value
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(figures: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of ``names`` that holds a count (a boolean is none)."""
    for name in names:
        value = figures.get(name)
        if type(value) is int and 0 <= value <= _LARGEST:
            return value
    return None
