"""Which requests have text in them that we read, and who reads it: one table.

A request is known by its method and by how its path ends, so that all of these are the same:
``/v1/responses``, ``/responses``, ``/openai/v1/responses``, ``/openai/responses`` and whatever a
gateway puts before it.  What is below such a path (``/v1/responses/compact``,
``/v1/responses/{id}/cancel``, ``/v1/chat/completions/{id}``) is something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from proxy.types import Request, Span
from proxy.wire.beginnings import Beginnings
from proxy.wire.chat import glimpse_chat, parse_chat
from proxy.wire.choices import texts_of_chat, texts_of_completion, texts_of_response
from proxy.wire.completions import glimpse_completion, parse_completion
from proxy.wire.errors import Unparsed
from proxy.wire.reading import Glimpse
from proxy.wire.responses import glimpse_responses, parse_responses
from proxy.wire.rewording import (
    RewordedChoices,
    RewordedResponse,
    RewordedStream,
    Rewording,
)
from proxy.wire.scan import Cursor, Json


class Parse(Protocol):
    """Reads a body; raises :class:`Unparsed`."""

    def __call__(self, raw: bytes, memory: Beginnings | None = None, /) -> Request:
        """Return what was understood; what ``memory`` knows of it is not read again."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint with text: how a request to it is read, and where its answer has texts.

    ``streamed`` begins the rewording of a stream's texts.
    """

    name: str
    path: str
    parse: Parse
    glimpse: Callable[[bytes], Glimpse | None]
    answered: Callable[[bytes], Sequence[Span]]
    streamed: Callable[[Callable[[], Rewording]], RewordedStream]


CHAT: Final = Endpoint(
    "chat", "/chat/completions", parse_chat, glimpse_chat, texts_of_chat, RewordedChoices
)
RESPONSES: Final = Endpoint(
    "responses",
    "/responses",
    parse_responses,
    glimpse_responses,
    texts_of_response,
    RewordedResponse,
)
COMPLETIONS: Final = Endpoint(
    "completions",
    "/completions",
    parse_completion,
    glimpse_completion,
    texts_of_completion,
    partial(RewordedChoices, holder="text"),
)

ENDPOINTS: Final = (CHAT, RESPONSES, COMPLETIONS)
"""A path that ends as two of them do belongs to the first."""


def endpoint_of(method: str, path: str) -> Endpoint | None:
    """Return the endpoint that a request is for; None where it is none that we read.

    >>> endpoint_of("POST", "/openai/deployments/d/chat/completions").name
    'chat'
    """
    if method == "POST":
        for endpoint in ENDPOINTS:
            if path.endswith(endpoint.path):
                return endpoint
    return None


def endpoint_for(body: bytes) -> Endpoint:
    """Return the endpoint that a body looks made for; chat where it does not tell.

    >>> endpoint_for(b'{"model": "gpt-4o", "input": "Hello"}').name
    'responses'
    """
    keys = set[str]()
    with suppress(Unparsed):
        cursor = Cursor(body)
        keys.update(cursor.members() if cursor.peek() is Json.OBJECT else ())
    if "messages" not in keys:
        if keys & {"input", "instructions"}:
            return RESPONSES
        if "prompt" in keys:
            return COMPLETIONS
    return CHAT
