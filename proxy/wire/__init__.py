"""Between bytes and values, pure: no socket, no clock, no log.

A body comes in: ``decode_body`` undoes its Content-Encoding, the ``Endpoint`` that it is for finds
the texts in it and where each one is.  Compression answers with edits: ``render`` says what a leaf
becomes, ``splice`` puts it into the caller's own bytes and changes no other.  What cannot be read
is ``Unparsed`` and goes through as sent.  Headers pass by ``forwarded_request`` and
``forwarded_response``, and while the answer goes by, a ``UsageObserver`` reads what it cost.  Where
recovery is asked for, ``reword_body`` or a ``RewordedStream`` rewords its texts and nothing else.
"""

from proxy.wire.beginnings import Beginning, Beginnings
from proxy.wire.chat import parse_chat
from proxy.wire.encoding import Decoder, decode_body
from proxy.wire.endpoints import CHAT, ENDPOINTS, Endpoint, endpoint_for, endpoint_of
from proxy.wire.errors import BodyTooLarge, Unparsed
from proxy.wire.headers import (
    LaconicHeaders,
    changed_response,
    end_to_end,
    forwarded_request,
    forwarded_response,
    value_of,
    with_credential,
)
from proxy.wire.reading import Glimpse
from proxy.wire.rewording import (
    RewordedChoices,
    RewordedResponse,
    RewordedStream,
    Rewording,
    reword_body,
)
from proxy.wire.splice import leaves_of, render, splice
from proxy.wire.sse import SseObserver
from proxy.wire.usage import Usage, UsageObserver
from proxy.wire.websocket import asks_for_websocket

__all__ = [
    "CHAT",
    "ENDPOINTS",
    "Beginning",
    "Beginnings",
    "BodyTooLarge",
    "Decoder",
    "Endpoint",
    "Glimpse",
    "LaconicHeaders",
    "RewordedChoices",
    "RewordedResponse",
    "RewordedStream",
    "Rewording",
    "SseObserver",
    "Unparsed",
    "Usage",
    "UsageObserver",
    "asks_for_websocket",
    "changed_response",
    "decode_body",
    "end_to_end",
    "endpoint_for",
    "endpoint_of",
    "forwarded_request",
    "forwarded_response",
    "leaves_of",
    "parse_chat",
    "render",
    "reword_body",
    "splice",
    "value_of",
    "with_credential",
]
