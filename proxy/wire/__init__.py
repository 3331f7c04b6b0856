"""Between bytes and values, pure: no socket, no clock, no log.

A body comes in: ``decode_body`` undoes its Content-Encoding, ``parse_chat`` finds the texts in it
and where each one is.  Compression answers with edits: ``render`` says what a leaf becomes,
``splice`` puts it into the caller's own bytes and changes no other.  What cannot be read is
``Unparsed`` and goes through as sent.  Headers pass by ``forwarded_request`` and
``forwarded_response``, and while the answer goes by, a ``UsageObserver`` reads what it cost.
"""

from proxy.wire.chat import parse_chat
from proxy.wire.encoding import Decoder, decode_body
from proxy.wire.errors import BodyTooLarge, Unparsed
from proxy.wire.headers import (
    LaconicHeaders,
    end_to_end,
    forwarded_request,
    forwarded_response,
)
from proxy.wire.splice import leaves_of, render, splice
from proxy.wire.sse import SseObserver
from proxy.wire.usage import Usage, UsageObserver

__all__ = [
    "BodyTooLarge",
    "Decoder",
    "LaconicHeaders",
    "SseObserver",
    "Unparsed",
    "Usage",
    "UsageObserver",
    "decode_body",
    "end_to_end",
    "forwarded_request",
    "forwarded_response",
    "leaves_of",
    "parse_chat",
    "render",
    "splice",
]
