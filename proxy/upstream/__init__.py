"""The door to the upstream: one request out, one answer back, chunk by chunk."""

from proxy.upstream.client import (
    HEADER_COUNT,
    Address,
    Answer,
    Headers,
    Limits,
    Outgoing,
    Streamed,
    Upstream,
    fields,
    leads_to,
)
from proxy.upstream.pipe import Pipe

__all__ = [
    "HEADER_COUNT",
    "Address",
    "Answer",
    "Headers",
    "Limits",
    "Outgoing",
    "Pipe",
    "Streamed",
    "Upstream",
    "fields",
    "leads_to",
]
