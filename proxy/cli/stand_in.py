"""An upstream for the demo: OpenAI's wire, answered by :mod:`proxy.cli.reader`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.cli import reader
from proxy.tokens import encoding_for

MODEL = "gpt-4o-mini"
_LIMIT_BYTES = 64 * 2**20


@dataclass(slots=True)
class StandIn:
    """A server that answers from the prompt, and keeps the prompts for the demo to show."""

    prompts: list[str] = field(default_factory=list, repr=False)

    def application(self) -> web.Application:
        """Return the routes of the wire."""
        app = web.Application(client_max_size=_LIMIT_BYTES)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _models(self, _request: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "laconic-demo"}
        return web.json_response({"object": "list", "data": [model]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = json.loads(await request.read())
            texts = [text for message in asked["messages"] for text in _texts(message)]
        except (ValueError, KeyError, TypeError) as error:
            detail = {"message": f"not a chat request: {type(error).__name__}", "code": None}
            envelope = detail | {"type": "invalid_request_error", "param": None}
            return web.json_response({"error": envelope}, status=400)
        prompt = "\n\n".join(texts)
        self.prompts.append(prompt)
        model = str(asked.get("model", MODEL))
        reply = _Reply(f"chatcmpl-demo-{len(self.prompts)}", model, str(reader.read(prompt)))
        usage = _usage(model, texts, reply.answer)
        if not asked.get("stream"):
            return web.json_response(reply.whole(usage))
        told = bool((asked.get("stream_options") or {}).get("include_usage"))
        return await _stream(request, reply.chunks(usage if told else None))


@dataclass(frozen=True, slots=True)
class _Reply:
    """One answer, as a whole or in chunks."""

    id: str
    model: str
    answer: str
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, usage: dict[str, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.answer, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return self._head("chat.completion") | {"choices": [choice], "usage": usage}

    def chunks(self, usage: dict[str, int] | None) -> Iterator[dict[str, Any]]:
        yield self._chunk({"role": "assistant", "content": ""})
        for word in re.findall(r"\S+\s*", self.answer):
            yield self._chunk({"content": word})
        yield self._chunk({}, "stop")
        if usage is not None:
            yield self._head("chat.completion.chunk") | {"choices": [], "usage": usage}

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return self._head("chat.completion.chunk") | {"choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _texts(message: dict[str, Any]) -> list[str]:
    """Return a message's texts: its content, or its content's text parts."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if part.get("type") == "text"]


def _usage(model: str, texts: list[str], answer: str) -> dict[str, int]:
    encoding = encoding_for(model)
    prompt, completion = sum(map(encoding.count, texts)), encoding.count(answer)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


async def _stream(request: web.Request, chunks: Iterator[dict[str, Any]]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in chunks:
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


@asynccontextmanager
async def listening(server: StandIn) -> AsyncIterator[str]:
    """Serve on a free loopback port; yields the base URL, which ends in ``/v1``."""
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
