"""The way from here to an upstream: the URL, and the credential that goes along."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.upstream import Destination, Headers, Outgoing, Sending, Streamed
from proxy.wire import forwarded_request, with_credential


@dataclass(frozen=True, slots=True)
class Way:
    """Where one request goes; ``hops`` go along where a loop is suspected."""

    destination: Destination
    url: str
    hops: str | None = None

    def headers(self, came: Headers, *, body_changed: bool) -> Headers:
        """Return the headers to send: the caller's, with the upstream's key where we hold it."""
        forwarded = forwarded_request(came, body_changed=body_changed)
        key = self.destination.key
        return tuple(forwarded if key is None else with_credential(forwarded, key))

    def message(
        self, method: str, headers: Headers, body: bytes | Streamed | None = None
    ) -> Outgoing:
        """Address a request."""
        return Outgoing(method, self.url, headers, body, self.hops)

    def send(self, message: Outgoing) -> Sending:
        """Send; see `Upstream.send`."""
        return self.destination.pool.send(message)
