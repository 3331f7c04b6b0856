"""The door to the upstreams: one request out, one answer back, chunk by chunk."""

from proxy.upstream.client import Address, Limits, Upstream, leads_to
from proxy.upstream.messages import (
    HOP_HEADER,
    Answer,
    Headers,
    Outgoing,
    Streamed,
    fields,
    spelt_head,
)
from proxy.upstream.pipe import Pipe
from proxy.upstream.pools import Destination, Upstreams
from proxy.upstream.sending import HEADER_COUNT, Sending, is_near

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
    "spelt_head",
]
