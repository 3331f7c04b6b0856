"""WebSocket frames, as far as a tunnel needs to know them (RFC 6455, section 5.2).

A tunnel passes bytes.  It counts its way through the frames only to know where one ends, so that a
frame of its own can be put there, and whether a closing handshake took place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from proxy.wire.headers import tokens_of

GOING_AWAY: Final = 1001
"""The status with which an endpoint says that it stops (RFC 6455, section 7.4.1)."""

_CLOSE = 0x8
_MASKED = 0x80
_FINAL = 0x80


def asks_for_websocket(method: str, headers: Sequence[tuple[str, str]]) -> bool:
    """Tell whether a request would open a WebSocket (RFC 6455, section 4.1)."""
    return (
        method == "GET"
        and "websocket" in tokens_of(headers, "upgrade")
        and "upgrade" in tokens_of(headers, "connection")
    )


class Frames:
    """Follows one direction of a connection; feed it all bytes, in chunks of any size."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        """Begin at the first frame."""
        self.closed = False  # a close frame has passed, whole
        self._head = bytearray()
        self._left = 0  # bytes of the frame's payload to come

    @property
    def between(self) -> bool:
        """Whether one frame has ended and the next has not begun."""
        return not self._head

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        at = 0
        while at < len(chunk):
            if self._left:
                taken = min(self._left, len(chunk) - at)
                self._left -= taken
                at += taken
            else:
                self._head.append(chunk[at])
                at += 1
                if len(self._head) < _head_bytes(self._head):
                    continue
                self._left = _payload_bytes(self._head)
            if not self._left:
                self.closed = self.closed or self._head[0] & 0xF == _CLOSE
                self._head.clear()


def close_frame(status: int, mask: bytes = b"") -> bytes:
    """Make a close frame; what a client sends is masked, with four random bytes.

    >>> close_frame(1001).hex()
    '880203e9'
    """
    payload = struct.pack("!H", status)
    masked = bytes(byte ^ key for byte, key in zip(payload, mask * 2, strict=False))
    length = len(payload) | (_MASKED if mask else 0)
    return bytes([_FINAL | _CLOSE, length]) + mask + (masked or payload)


def _head_bytes(head: bytearray) -> int:
    """Return how long a frame's head is, as far as its first bytes tell."""
    if len(head) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def _payload_bytes(head: bytearray) -> int:
    short = head[1] & 0x7F
    if short < 126:
        return short
    return int.from_bytes(head[2 : 4 if short == 126 else 10], "big")
