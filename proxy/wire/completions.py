"""The body of ``POST /v1/completions``: each prompt is a user's message.

A list of strings is as many prompts, each answered as if it had come alone (``Request.separate``).
So each is compressed as if it had come alone: by its own question, and without a word of another's.
Law 5 follows: what a prompt becomes depends on that prompt, its place in the list, and nothing
else.  Tokens, a list of them or a list of such lists, are no text; they go through as sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.types import Address, Message, Request
from proxy.wire.beginnings import Beginnings
from proxy.wire.errors import Unparsed
from proxy.wire.reading import Glimpse, Reader, glimpse
from proxy.wire.scan import Json


def parse_completion(raw: bytes, _memory: Beginnings | None = None) -> Request:
    """Read a completions body: no conversation, of which there is nothing to remember.

    Raises :class:`Unparsed`: invalid JSON or UTF-8, a known key of the wrong type, a prompt in
    tokens, one that the answer repeats (``echo``) or that has a ``suffix``: then what is asked for
    is the text between the two, and no part of either is there for an answer.  A prompt that
    occurs twice is a ``DUPLICATE_KEY``.
    """
    return _CompletionReader(raw).request()


def glimpse_completion(raw: bytes) -> Glimpse | None:
    """Read of a small body what decides how it is treated; None where it takes a proper reading."""
    return glimpse(raw, _texts)


def _texts(body: dict[str, Any]) -> Iterator[str]:
    prompt = body["prompt"]
    if not isinstance(prompt, str) or body.get("echo") or body.get("suffix") is not None:
        raise TypeError
    yield prompt


class _CompletionReader(Reader):
    """Reads a completions body."""

    __slots__ = ()

    def request(self) -> Request:
        model: str | None = None
        stream = False
        messages: tuple[Message, ...] | None = None
        for key in self.body("prompt"):
            if key == "model":
                model = self.model()
            elif key == "stream":
                stream = self.boolean("stream")
            elif key == "echo" and self.boolean("echo"):
                raise Unparsed("echo: found true, wanted an answer that does not repeat the prompt")
            elif key == "suffix" and self.given():
                raise Unparsed(f"suffix: found {self.cursor.peek()}, wanted none")
            elif key == "prompt":
                messages = self._prompts()
        if messages is None:
            raise Unparsed(f"prompt: found {Json.NOTHING}, wanted {Json.STRING}")
        separate = len(messages) > 1
        return Request(self.raw, model, stream, messages, separate=separate)

    def _prompts(self) -> tuple[Message, ...]:
        kind = self.cursor.peek()
        if kind is Json.STRING:
            return (self._prompt(0),)
        if kind is not Json.LIST:
            raise Unparsed(f"prompt: found {kind}, wanted {Json.STRING} or {Json.LIST}")
        prompts = []
        for number in self.cursor.elements():
            self.cursor.expect(Json.STRING, f"prompt[{number}]")
            prompts.append(self._prompt(number))
        return tuple(prompts)

    def _prompt(self, number: int) -> Message:
        return Message(number, "user", (self.leaf(Address(number, 0)),))
