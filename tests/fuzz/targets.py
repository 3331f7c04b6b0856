"""What is fuzzed, with its oracles: each target takes bytes, and raises where something is wrong.

A first byte or two choose how the rest is used, so that one input says all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress

from proxy.errors import CallerError
from proxy.types import LeafEdit, Mark, Piece, Request, Span
from proxy.wire import (
    Beginning,
    BodyTooLarge,
    Decoder,
    LaconicHeaders,
    SseObserver,
    Unparsed,
    UsageObserver,
)
from proxy.wire.encoding import decode_body
from proxy.wire.endpoints import ENDPOINTS, Endpoint
from proxy.wire.headers import forwarded_request, forwarded_response
from proxy.wire.scan import Cursor
from proxy.wire.splice import leaves_of, render, splice

Target = Callable[[bytes], None]

LIMIT_BYTES = 100_000
ENCODINGS = ("gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "identity", "x-unknown")
TYPES = ("application/json", "text/event-stream", "text/plain", "")


def scanner(data: bytes) -> None:
    """The scanner accepts what ``json`` does, and nothing else; readers raise Unparsed alone."""
    assert walks(data) is is_json(data)
    for endpoint in ENDPOINTS:
        with suppress(Unparsed):
            reads(endpoint, data)


def walks(data: bytes) -> bool:
    """Whether the scanner comes to the end of a body."""
    try:
        cursor = Cursor(data)
        cursor.skip()
        cursor.end()
    except Unparsed:
        return False
    return True


def is_json(data: bytes) -> bool:
    """Whether ``json`` accepts a body as RFC 8259 has it; numbers may have any size."""
    try:
        json.loads(data.decode(), parse_int=str, parse_float=str, parse_constant=refused)
    except ValueError:
        return False
    except RecursionError:
        return walks(data)
    return True


def refused(constant: str) -> None:
    """Refuse NaN and the like, which are Python's."""
    raise ValueError(constant)


def reads(endpoint: Endpoint, data: bytes) -> Request:
    """Read a body; a leaf says what ``json`` reads at its place, and a glimpse the same as that."""
    request = endpoint.parse(data)
    for leaf in leaves_of(request).values():
        assert json.loads(data[leaf.raw.start : leaf.raw.end].decode()) == leaf.text
    glimpsed = endpoint.glimpse(data)
    if glimpsed is not None:
        texts = sorted(leaf.text for message in request.messages for leaf in message.leaves)
        assert (glimpsed.model, glimpsed.stream) == (request.model, request.stream)
        assert sorted(glimpsed.texts) == texts
    return request


def splices(data: bytes) -> None:
    """No edit, and one that keeps all, change nothing; others change what they say and no more."""
    if len(data) < 3:
        return
    endpoint, step, body = ENDPOINTS[data[0] % len(ENDPOINTS)], data[1] % 7 + 1, data[2:]
    try:
        request = endpoint.parse(body)
    except Unparsed:
        return
    leaves = leaves_of(request)
    assert splice(request, ()) == body
    whole = [LeafEdit(address, (Span(0, len(leaf.text)),)) for address, leaf in leaves.items()]
    assert splice(request, whole) == body
    edits = [LeafEdit(address, pieces(leaf.text, step)) for address, leaf in leaves.items()]
    spliced = splice(request, edits)
    again = leaves_of(endpoint.parse(spliced))
    assert {a: leaf.text for a, leaf in again.items()} == {
        edit.address: render(edit, leaves) for edit in edits
    }
    assert outside(body, leaves.values()) == outside(spliced, again.values())


def beginnings(data: bytes) -> None:
    """A body is read as it would be, had none that begins so been read before."""
    if len(data) < 4:
        return
    endpoint, at, body = ENDPOINTS[data[0] % 2], int.from_bytes(data[1:3]), data[3:]
    memory = Remembered()
    read(endpoint, body, memory)
    for other in (body, body[:at] + body[at + 1 :], body[:at] + body[:1] + body[at:]):
        assert read(endpoint, other, memory) == read(endpoint, other, None)


class Remembered(dict[bytes, Beginning]):
    """What was read, all of it."""

    def put(self, key: bytes, result: Beginning) -> None:
        """Remember a body."""
        self[key] = result


def read(endpoint: Endpoint, body: bytes, memory: Remembered | None) -> Request | tuple[str, str]:
    """Return what a body comes to, be it an error."""
    try:
        return endpoint.parse(body, memory)
    except Unparsed as error:
        return str(error), error.reason


def pieces(text: str, step: int) -> tuple[Piece, ...]:
    """Return every other stretch of ``step`` characters, a mark between the first two."""
    starts = range(0, len(text), 2 * step)
    spans = [Span(start, min(start + step, len(text))) for start in starts]
    return (*spans[:1], Mark.ELISION, *spans[1:])


def outside(body: bytes, leaves) -> bytes:
    """Return a body without its leaves."""
    parts, end = [], 0
    for place in sorted(leaf.raw for leaf in leaves):
        parts.append(body[end : place.start])
        end = place.end
    return b"\0".join([*parts, body[end:]])


def events(data: bytes) -> None:
    """A stream holds the same events however it is cut."""
    if not data:
        return
    step, stream = data[0] % 9 + 1, data[1:]
    assert observed([stream]) == observed(cut(stream, step)) == observed(cut(stream, 1))


def observed(chunks: list[bytes]) -> list[bytes]:
    """Return what an observer finds."""
    observer = SseObserver(max_event_bytes=64)
    return [*(event for chunk in chunks for event in observer.feed(chunk)), *observer.close()]


def cut(data: bytes, step: int) -> list[bytes]:
    """Cut bytes into pieces of one length."""
    return [data[at : at + step] for at in range(0, len(data), step)]


def usage(data: bytes) -> None:
    """Nothing that an upstream answers makes the observer raise, and cuts do not matter."""
    if len(data) < 3:
        return
    kind, encoding = TYPES[data[0] % len(TYPES)], ENCODINGS[data[1] % len(ENCODINGS)]
    found = []
    for step in (len(data), data[2] % 9 + 1):
        observer = UsageObserver(kind, encoding)
        for chunk in cut(data[3:], step):
            observer.feed(chunk)
        observer.close()
        found.append(observer.usage)
    assert found[0] == found[1]


def encodings(data: bytes) -> None:
    """A body is decoded the same whole and in pieces, or not at all; never beyond the limit."""
    if len(data) < 2:
        return
    header, step, body = ENCODINGS[data[0] % len(ENCODINGS)], data[1] % 9 + 1, data[2:]
    whole = told(lambda: decode_body(body, header, limit_bytes=LIMIT_BYTES))
    if body and header not in ("identity", "x-unknown"):
        assert told(lambda: b"".join(decoded(cut(body, step), header))) == whole
    assert whole is None or len(whole) <= max(LIMIT_BYTES, len(body))


def decoded(chunks: list[bytes], header: str) -> Iterator[bytes]:
    """Decode a body that comes in pieces."""
    decoder = Decoder(header, limit_bytes=LIMIT_BYTES)
    for chunk in chunks:
        yield from decoder.feed(chunk)
    decoder.finish()


def told(decode: Callable[[], bytes]) -> bytes | None:
    """Return what is decoded; None where it is refused."""
    try:
        return decode()
    except (Unparsed, BodyTooLarge):
        return None


def headers(data: bytes) -> None:
    """Header lines of any shape are passed on or refused, hop-by-hop ones dropped."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    with suppress(CallerError):
        LaconicHeaders.read(pairs)
    connection = [value for name, value in pairs if name.lower() == "connection"]
    named = {option.strip().lower() for value in connection for option in value.split(",")}
    for sent in (forwarded_request(pairs, body_changed=True), forwarded_response(pairs)):
        names = {name.lower() for name, _ in sent}
        assert not names & (named | {"connection", "transfer-encoding", "upgrade", "te"})
        assert is_within(sent, pairs)


def is_within(part: list[tuple[str, str]], whole: list[tuple[str, str]]) -> bool:
    """Whether all of ``part`` stands in ``whole`` in its order."""
    rest = iter(whole)
    return all(pair in rest for pair in part)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (scanner, beginnings, splices, events, usage, encodings, headers)
}
