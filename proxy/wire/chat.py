"""The body of ``POST /v1/chat/completions``: what we understand of it, and where its texts are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from proxy.types import Address, Message, Request, ToolCall
from proxy.wire.beginnings import Beginnings
from proxy.wire.errors import Unparsed
from proxy.wire.reading import BREAKPOINTS, Content, Glimpse, Reader, glimpse, texts_of_content
from proxy.wire.scan import WS, Json

_TEXT = frozenset({"text"})

_PLAIN_HEAD = re.compile(
    WS.join([rb"\{", rb'"role"', rb":", rb'"([a-z]+)"', rb",", rb'"content"', rb":", rb'(?=")'])
)
_PLAIN_TAIL = re.compile(WS + rb"\}")


def parse_chat(raw: bytes, memory: Beginnings | None = None) -> Request:
    """Read a chat completions body; what ``memory`` knows of it is not read again.

    Raises :class:`Unparsed`: invalid JSON or UTF-8, a known key of the wrong type, or
    (``DUPLICATE_KEY``) a key on the path of an edit that occurs twice.
    """
    return _ChatReader(raw, memory).request()


def glimpse_chat(raw: bytes) -> Glimpse | None:
    """Read of a small body what decides how it is treated; None where it takes a proper reading."""
    return glimpse(raw, _texts)


def _texts(body: dict[str, Any]) -> Iterator[str]:
    if not isinstance(body["messages"], list):
        raise TypeError
    for message in body["messages"]:
        yield from texts_of_content(message.get("content"), _TEXT)


class _ChatReader(Reader):
    """Reads a chat completions body."""

    __slots__ = ()

    part_types = _TEXT

    def request(self) -> Request:
        model: str | None = None
        stream = wants_json = False
        messages: tuple[Message, ...] | None = None
        for key in self.body("messages"):
            if key == "model":
                model = self.model()
            elif key == "stream":
                stream = self.boolean("stream")
            elif key == "response_format":
                wants_json = self.asks_for_json()
            elif key == "messages":
                messages = self._messages()
        if messages is None:
            raise Unparsed(f"messages: found {Json.NOTHING}, wanted {Json.LIST}")
        self.remember(messages)
        return Request(self.raw, model, stream, messages, wants_json, spellings=self.spellings)

    def _messages(self) -> tuple[Message, ...]:
        self.cursor.expect(Json.LIST, "messages")
        return self.conversation(lambda index, _: self._plain(index) or self._message(index))

    def _message(self, index: int) -> Message:
        where = f"messages[{index}]"
        self.cursor.expect(Json.OBJECT, where)
        role = name = tool_call_id = None
        content = Content()
        tool_calls: tuple[ToolCall, ...] = ()
        marked = False
        for key in self.members(f"{where}.", ("role", "content", "tool_call_id")):
            if key == "role":
                role = self.string(f"{where}.role")
            elif key == "content":
                content = self._content(index, f"{where}.content")
            elif key == "name":
                name = self.nullable_string(f"{where}.name")
            elif key == "tool_call_id":
                tool_call_id = self.nullable_string(f"{where}.tool_call_id")
            elif key == "tool_calls":
                tool_calls += self._tool_calls(f"{where}.tool_calls")
            elif key == "function_call":
                tool_calls += self._function_call()
            elif key in BREAKPOINTS:
                marked = marked or self.given()
        if role is None:
            raise Unparsed(f"{where}.role: found {Json.NOTHING}, wanted {Json.STRING}")
        return Message(
            index=index,
            role=role,
            leaves=content.leaves,
            name=name,
            tool_call_id=_by_name(name) if role == "function" and name else tool_call_id,
            tool_calls=tool_calls,
            breakpoint=marked or content.breakpoint,
        )

    def _plain(self, index: int) -> Message | None:
        """Read a message that is a role and a text, as most are; None where it is another."""
        start = self.cursor.position
        head = self.cursor.take(_PLAIN_HEAD)
        if head is None:
            return None
        leaf = self.leaf(Address(index, 0))
        if self.cursor.take(_PLAIN_TAIL) is None:
            self.cursor.back(start)
            return None
        return Message(index, head[1].decode(), (leaf,))

    def _content(self, message: int, where: str) -> Content:
        kind = self.cursor.peek()
        if kind is Json.STRING:
            return Content((self.leaf(Address(message, 0)),))
        if kind is Json.NULL:
            return Content()
        if kind is not Json.LIST:
            raise Unparsed(f"{where}: found {kind}, wanted {Json.STRING}, {Json.LIST} or null")
        return self.parts(message, where)

    def _tool_calls(self, where: str) -> tuple[ToolCall, ...]:
        """Read the function calls; calls of other kinds have no arguments that we know of."""
        if not self.given():
            return ()
        self.cursor.expect(Json.LIST, where)
        calls = [self._tool_call(f"{where}[{index}]") for index in self.cursor.elements()]
        return tuple(call for call in calls if call is not None)

    def _tool_call(self, where: str) -> ToolCall | None:
        self.cursor.expect(Json.OBJECT, where)
        found: dict[str, str] = {}
        for key in self.cursor.members():
            if key == "function":
                found |= self._function()
            elif key == "id" and self.cursor.peek() is Json.STRING:
                found["id"] = self.cursor.text()
        return ToolCall(**found) if len(found) == 3 else None

    def _function_call(self) -> tuple[ToolCall, ...]:
        """Read a call of the older kind: the result that answers it names the function."""
        found = self._function()
        return (ToolCall(_by_name(found["name"]), **found),) if len(found) == 2 else ()

    def _function(self) -> dict[str, str]:
        """Read a function's name and arguments, as far as they are strings."""
        found: dict[str, str] = {}
        for key in self.cursor.members() if self.cursor.peek() is Json.OBJECT else ():
            if key in {"name", "arguments"} and self.cursor.peek() is Json.STRING:
                found[key] = self.cursor.text()
        return found


def _by_name(function: str) -> str:
    """Return what stands for the id that a call of the older kind has not."""
    return f"function {function}"
