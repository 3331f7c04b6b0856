"""The door to the upstreams: one request out, one answer back, chunk by chunk."""

from proxy.upstream.client import (
    HEADER_COUNT,
    HOP_HEADER,
    Address,
    Answer,
    Headers,
    Limits,
    Outgoing,
    Sending,
    Streamed,
    Upstream,
    fields,
    is_near,
    leads_to,
)
from proxy.upstream.pipe import Pipe
from proxy.upstream.pools import Destination, Upstreams

__all__ = [
    "HEADER_COUNT",
    "HOP_HEADER",
    "Address",
    "Answer",
    "Destination",
    "Headers",
    "Limits",
    "Outgoing",
    "Pipe",
    "Sending",
    "Streamed",
    "Upstream",
    "Upstreams",
    "fields",
    "is_near",
    "leads_to",
]
