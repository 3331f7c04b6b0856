"""Server-sent events, as bytes: an observer reads a tee of them, a splitter cuts the stream itself.

Lines end in LF, CRLF or CR; chunks end anywhere, inside a character or between CR and LF; a blank
line ends an event, and at the end of the stream a missing one is forgiven.  Bytes stay bytes until
somebody parses a payload.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.types import Span
from proxy.wire.splice import replaced_in

MAX_EVENT_BYTES = 1024 * 1024

_COMMENT = b":"
_BOM = b"\xef\xbb\xbf"


class SseObserver:
    """Finds the ``data`` of each event in a stream of chunks.

    An event larger than ``max_event_bytes`` is stepped over; no more than that is ever held.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._too_large = False
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the payloads of the events that ``chunk`` completes."""
        if not chunk:
            return []
        lines = chunk.splitlines(keepends=True)
        if self._after_cr and chunk.startswith(b"\n"):
            del lines[0]  # the second half of a CRLF
        self._after_cr = chunk.endswith(b"\r")
        payloads = []
        for line in lines:
            self._grow(line.rstrip(b"\r\n"))  # its end counts for nothing, however it is cut
            if line.endswith((b"\n", b"\r")):
                payloads += self._end_line()
        return payloads

    def close(self) -> list[bytes]:
        """Return the payload of an event that the end of the stream completes, if any."""
        return [*self._end_line(), *self._end_event()]

    def _grow(self, piece: bytes) -> None:
        """Add to the line, or give the event up: its lines then count as comments."""
        if len(self._line) + self._data_bytes + len(piece) <= self._limit:
            self._line += piece
            return
        self._too_large = True
        self._line = bytearray(_COMMENT)
        self._data.clear()
        self._data_bytes = 0

    def _end_line(self) -> list[bytes]:
        line = bytes(self._line)
        self._line.clear()
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        if name == b"data" and not self._too_large:
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(line)
        return []

    def _end_event(self) -> list[bytes]:
        payloads = [b"\n".join(self._data)] if self._data else []
        self._data.clear()
        self._data_bytes = 0
        self._too_large = False
        return payloads


class SseSplitter:
    """Cuts a stream into blocks of whole lines which, joined, are the stream again.

    A block is an event up to its blank line.  What lies between events (comments, blank lines, a
    byte order mark) is given at once: it keeps connections alive.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._line = bytearray()
        self._line_bytes = 0
        self._after_cr = False
        self._at_start = True

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished event there is."""
        return self._line_bytes + len(self._line)

    def feed(self, chunk: bytes) -> list[list[bytes]]:
        """Return the blocks that ``chunk`` completes."""
        if not chunk:
            return []
        blocks = []
        lines = chunk.splitlines(keepends=True)
        if self._after_cr and chunk.startswith(b"\n"):
            blocks += self._end_crlf(lines.pop(0))
        self._after_cr = chunk.endswith(b"\r")
        for line in lines:
            self._line += line
            if line.endswith((b"\n", b"\r")):
                blocks += self._end_line()
        return blocks

    def take(self) -> list[bytes]:
        """Return the lines of an unfinished event, and forget them."""
        lines = [*self._lines, *([bytes(self._line)] if self._line else [])]
        self._lines, self._line_bytes = [], 0
        self._line.clear()
        return lines

    def _end_crlf(self, lf: bytes) -> list[list[bytes]]:
        """Put the second half of a CRLF behind its line, which may have been given already."""
        if not self._lines:
            return [[lf]]
        self._lines[-1] += lf
        self._line_bytes += len(lf)
        return []

    def _end_line(self) -> list[list[bytes]]:
        line = bytes(self._line)
        self._line.clear()
        if self._at_start and line.startswith(_BOM):
            self._at_start = False
            self._line += line.removeprefix(_BOM)
            return [[_BOM], *self._end_line()]
        self._at_start = False
        blank = not line.rstrip(b"\r\n")
        if not self._lines and (blank or line.startswith(_COMMENT)):
            return [[line]]
        self._lines.append(line)
        self._line_bytes += len(line)
        return [self.take()] if blank else []


def payload_of(lines: list[bytes]) -> bytes | None:
    """Return an event's data, its lines joined by LF; None where it has none."""
    data = [value for _, value, _ in map(_data_line, lines) if value is not None]
    return b"\n".join(data) if data else None


def with_payload(lines: list[bytes], replaced: Mapping[Span, bytes]) -> bytes:
    """Return an event's bytes with other bytes at places of its payload, each within one line."""
    written, at = [], 0
    for line in lines:
        head, value, end = _data_line(line)
        if value is None:
            written.append(line)
            continue
        inside = {
            Span(place.start - at, place.end - at): new
            for place, new in replaced.items()
            if at <= place.start < at + len(value)
        }
        written += head, replaced_in(value, inside), end
        at += len(value) + 1
    return b"".join(written)


def with_other_payload(lines: list[bytes], payload: bytes) -> bytes:
    """Return an event like this one, its other fields included, with another payload."""
    end = _data_line(lines[0])[2] or b"\n"
    kept = [line for line in lines if _data_line(line)[1] is None and line.rstrip(b"\r\n")]
    data = [b"data: " + part + end for part in payload.split(b"\n")]
    return b"".join([*kept, *data, end])


def _data_line(line: bytes) -> tuple[bytes, bytes | None, bytes]:
    r"""Return what stands before a data line's value, the value, and the line's end.

    >>> _data_line(b"data: 1\r\n"), _data_line(b"id: 1\n")
    ((b'data: ', b'1', b'\r\n'), (b'', None, b'\n'))
    """
    text = line.rstrip(b"\r\n")
    end = line[len(text) :]
    name, _, value = text.partition(b":")
    if name != b"data":
        return b"", None, end
    value = value.removeprefix(b" ")
    return text[: len(text) - len(value)], value, end
