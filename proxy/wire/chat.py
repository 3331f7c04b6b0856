"""The body of ``POST /v1/chat/completions``: what we understand of it, and where its texts are.

Keys come in any order, unknown ones are stepped over, and of two equal keys the last one counts,
as ``json`` has it; except on the path that leads to a text we might edit: there, which of the two
the upstream reads is its own affair, and the request goes through untouched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.types import Address, Leaf, Message, Reason, Request, Span, ToolCall
from proxy.wire.errors import Unparsed
from proxy.wire.scan import Cursor, Json, decode_string

_GLIMPSED_BYTES = 64 * 1024  # json.loads lets nobody else run: 64 KiB take it 0.3 ms


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and the like: Python's, not JSON's


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_BREAKPOINTS = frozenset({"cache_control", "prompt_cache_breakpoint"})


def parse_chat(raw: bytes) -> Request:
    """Read a chat completions body.

    Raises :class:`Unparsed`: invalid JSON or UTF-8, a known key of the wrong type, or
    (``DUPLICATE_KEY``) a key on the path of an edit that occurs twice.
    """
    return _ChatReader(raw).request()


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What decides how a request is treated; ``texts`` are those of its leaves, unplaced."""

    model: str | None
    stream: bool
    texts: tuple[str, ...] = field(default=(), repr=False)


def glimpse_chat(raw: bytes) -> Glimpse | None:
    """Read no more than that, quickly, of a small body; None where it takes a proper reading.

    Five microseconds, where :func:`parse_chat` takes fifty: much, if nothing is to be compressed.
    """
    if len(raw) > _GLIMPSED_BYTES:
        return None
    try:
        body = _DECODER.decode(raw.decode())
        messages, model, stream = body["messages"], body.get("model"), body.get("stream")
        texts = tuple(text for message in messages for text in _texts(message.get("content")))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(model, str | None) or not isinstance(stream, bool | None):
        return None
    if not isinstance(messages, list) or (model is not None and _has_surrogate(model)):
        return None
    return Glimpse(model, bool(stream), texts)


def _texts(content: Any) -> Iterator[str]:
    """Yield a message's texts; raises TypeError for what is no content."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        parts = (part["text"] for part in content if part["type"] == "text")
        yield from (part for part in parts if isinstance(part, str))
    elif content is not None:
        raise TypeError


@dataclass(frozen=True, slots=True)
class _Content:
    """What a message's ``content``, or one part of it, comes to."""

    leaves: tuple[Leaf, ...] = ()
    breakpoint: bool = False


class _ChatReader:
    """One pass over one body; each method consumes the value ahead of the cursor."""

    __slots__ = ("_cursor", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._cursor = Cursor(raw)

    def request(self) -> Request:
        model: str | None = None
        stream = wants_json = False
        messages: tuple[Message, ...] | None = None
        self._cursor.expect(Json.OBJECT, "body")
        for key in self._cursor.members():
            if key == "model":
                model = self._model()
            elif key == "stream":
                stream = self._boolean("stream")
            elif key == "response_format":
                wants_json = self._wants_json()
            elif key == "messages":
                if messages is not None:
                    raise _twice("messages")
                messages = self._messages()
        self._cursor.end()
        if messages is None:
            raise Unparsed(f"messages: found {Json.NOTHING}, wanted {Json.LIST}")
        return Request(self._raw, model, stream, messages, wants_json)

    def _messages(self) -> tuple[Message, ...]:
        self._cursor.expect(Json.LIST, "messages")
        return tuple([self._message(index) for index in self._cursor.elements()])

    def _message(self, index: int) -> Message:
        where = f"messages[{index}]"
        self._cursor.expect(Json.OBJECT, where)
        role = name = tool_call_id = None
        content = _Content()
        tool_calls: tuple[ToolCall, ...] = ()
        marked = False
        seen = set[str]()
        for key in self._cursor.members():
            if key in seen and key in {"role", "content", "tool_call_id"}:
                raise _twice(f"{where}.{key}")
            seen.add(key)
            if key == "role":
                self._cursor.expect(Json.STRING, f"{where}.role")
                role = self._string()
            elif key == "content":
                content = self._content(index, f"{where}.content")
            elif key == "name":
                name = self._nullable_string(f"{where}.name")
            elif key == "tool_call_id":
                tool_call_id = self._nullable_string(f"{where}.tool_call_id")
            elif key == "tool_calls":
                tool_calls = self._tool_calls(f"{where}.tool_calls")
            elif key in _BREAKPOINTS:
                marked = marked or self._cursor.peek() is not Json.NULL
        if role is None:
            raise Unparsed(f"{where}.role: found {Json.NOTHING}, wanted {Json.STRING}")
        return Message(
            index=index,
            role=role,
            leaves=content.leaves,
            name=name,
            tool_call_id=tool_call_id,
            tool_calls=tool_calls,
            breakpoint=marked or content.breakpoint,
        )

    def _content(self, message: int, where: str) -> _Content:
        kind = self._cursor.peek()
        if kind is Json.STRING:
            return _Content((self._leaf(Address(message, 0), self._cursor.string()),))
        if kind is Json.NULL:
            self._cursor.skip()
            return _Content()
        if kind is not Json.LIST:
            raise Unparsed(f"{where}: found {kind}, wanted {Json.STRING}, {Json.LIST} or null")
        parts = [
            self._part(Address(message, part), f"{where}[{part}]")
            for part in self._cursor.elements()
        ]
        leaves = tuple(leaf for part in parts for leaf in part.leaves)
        return _Content(leaves, any(part.breakpoint for part in parts))

    def _part(self, address: Address, where: str) -> _Content:
        self._cursor.expect(Json.OBJECT, where)
        spans: dict[str, Span | None] = {}
        marked = False
        for key in self._cursor.members():
            if key in {"type", "text"}:
                if key in spans:
                    raise _twice(f"{where}.{key}")
                spans[key] = self._cursor.string() if self._cursor.peek() is Json.STRING else None
            elif key in _BREAKPOINTS:
                marked = marked or self._cursor.peek() is not Json.NULL
        kind, text = spans.get("type"), spans.get("text")
        if kind is None or text is None or self._decode(kind) != "text":
            return _Content((), marked)
        return _Content((self._leaf(address, text),), marked)

    def _tool_calls(self, where: str) -> tuple[ToolCall, ...]:
        """Read the function calls; calls of other kinds have no arguments that we know of."""
        if self._cursor.peek() is Json.NULL:
            return ()
        self._cursor.expect(Json.LIST, where)
        calls = [self._tool_call(f"{where}[{index}]") for index in self._cursor.elements()]
        return tuple(call for call in calls if call is not None)

    def _tool_call(self, where: str) -> ToolCall | None:
        self._cursor.expect(Json.OBJECT, where)
        found: dict[str, str] = {}
        for key in self._cursor.members():
            if key == "function" and self._cursor.peek() is Json.OBJECT:
                for inner in self._cursor.members():
                    if inner in {"name", "arguments"} and self._cursor.peek() is Json.STRING:
                        found[inner] = self._string()
            elif key == "id" and self._cursor.peek() is Json.STRING:
                found["id"] = self._string()
        return ToolCall(**found) if len(found) == 3 else None

    def _wants_json(self) -> bool:
        """Read a response format; what has no type asks for nothing."""
        wanted = False
        for key in self._cursor.members() if self._cursor.peek() is Json.OBJECT else ():
            if key == "type" and self._cursor.peek() is Json.STRING:
                wanted = self._string() != "text"
        return wanted

    def _leaf(self, address: Address, raw: Span) -> Leaf:
        return Leaf(address, self._decode(raw), raw)

    def _decode(self, span: Span) -> str:
        return decode_string(self._raw[span.start : span.end])

    def _string(self) -> str:
        return self._decode(self._cursor.string())

    def _nullable_string(self, where: str) -> str | None:
        if self._cursor.peek() is Json.NULL:
            self._cursor.skip()
            return None
        self._cursor.expect(Json.STRING, where)
        return self._string()

    def _boolean(self, where: str) -> bool:
        """Read a boolean; null stands for false."""
        true = self._raw.startswith(b"true", self._cursor.position)
        if self._cursor.peek() is not Json.NULL:
            self._cursor.expect(Json.BOOLEAN, where)
        self._cursor.skip()
        return true

    def _model(self) -> str | None:
        """Read the model's name, which goes on to headers and tables that know no surrogates."""
        name = self._nullable_string("model")
        if name is not None and _has_surrogate(name):
            raise Unparsed("model: found a lone surrogate, wanted a name")
        return name


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _twice(where: str) -> Unparsed:
    return Unparsed(f"{where}: found twice, wanted once", Reason.DUPLICATE_KEY)
