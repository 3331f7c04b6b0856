"""Server-sent events, read from a tee of the bytes: nothing here is ever written back.

Lines end in LF, CRLF or CR; chunks end anywhere, inside a character or between CR and LF; a blank
line ends an event, and at the end of the stream a missing one is forgiven.  Bytes stay bytes until
somebody parses a payload.
"""

from __future__ import annotations

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
            self._grow(line)
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
        line = bytes(self._line).rstrip(b"\r\n")
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
