"""The HTTP client: pools of connections, and the addresses that they never lead to.

A transparent proxy neither speaks on the caller's behalf nor reads proxies from the environment:
what leaves is what the caller sent, what comes back is what the upstream sent.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, TypeAlias

import aiohttp

from proxy.upstream.answers import AnswerConnector
from proxy.upstream.messages import Outgoing
from proxy.upstream.sending import ITSELF, Door, Sending

Address: TypeAlias = tuple[str, int]
"""An IP address and a port."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the upstream may take: time to connect and between two reads, bytes of a header line.

    aiohttp's own limit is 8,190 bytes.
    """

    connect_s: float = 10.0
    read_s: float = 600.0
    header_bytes: int = 64 * 1024


class Upstream:
    """A pool of connections to the upstream; opened and closed inside a running loop."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        """Open the pool; nothing is connected yet.

        ``tls`` replaces the system's trust; ``proxy`` is the HTTP proxy that leads there.
        """
        limits = limits or Limits()
        self._own: tuple[Address, ...] = ()
        self._door = Door(
            AnswerConnector(limit=0, socket_factory=self._socket, ssl=True if tls is None else tls),
            aiohttp.ClientTimeout(total=None, connect=limits.connect_s, sock_read=limits.read_s),
            proxy,
            limits.header_bytes,
        )

    async def __aenter__(self) -> Self:
        """Give the pool itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._door.connector.close()

    def refuse(self, own: Iterable[Address]) -> None:
        """Never connect to these addresses: they are our own, and the request would loop."""
        self._own = tuple(own)

    def send(self, message: Outgoing) -> Sending:
        """Send one request and give its answer, once status and headers are there.

        Leaving the block before the body has been read to its end closes the connection.
        Raises UpstreamTimeout, UpstreamUnavailable and LoopDetected.
        """
        return Sending(self._door, message)

    def _socket(self, target: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket of a new connection, where it does not lead back to ourselves."""
        family, kind, protocol, _, address = target
        if any(leads_to(own, (str(address[0]), int(address[1]))) for own in self._own):
            raise OSError(f"{address[0]}:{address[1]} is {ITSELF}")
        return socket.socket(family, kind, protocol)


def leads_to(own: Address, target: Address) -> bool:
    """Whether connecting to ``target`` reaches a server that listens on ``own``.

    A wildcard address listens on every local one, and local are those that can be bound to.
    """
    if own[1] != target[1]:
        return False
    if own[0] not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return own[0] == target[0]
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((target[0], 0))
        except OSError:
            return False
    return True
