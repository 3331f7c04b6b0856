"""The upstream that every client talks to: OpenAI's wire, the same answers each time, all kept.

What a request gets is told by its model's name (``fails-429``, ``busy-at-first``, ``stalls``,
``breaks-off``) and by what it asks for (tools, a schema); who sent it by its API key,
``sk-`` and the name of what is being done.
"""

import asyncio
import base64
import json
import re
import struct
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from servers import PATIENCE_S

WORDS = ("The Kiel ", "Canal was ", "opened in ", "1895.")
SAID = "".join(WORDS)
TRIES = 2  # refusals before what is busy at first answers
ASKED = web.RequestKey("asked", dict)
VECTOR = [0.25, -0.5, 1e-7]
COUNTS = {
    "chat": ("prompt_tokens", "completion_tokens"),
    "items": ("input_tokens", "output_tokens"),
}


@dataclass(frozen=True)
class Seen:
    """A request as it came in: fields in order and in their spelling."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is said, or the tool that is called; never both."""

    text: str = ""
    tool: str = ""
    number: int = 0

    @property
    def pieces(self):
        """The text, or the arguments, as a stream has them."""
        return re.findall(r"\S+\s*", self.text)


@dataclass
class Far:
    """What came in, by who sent it."""

    port: int = 0
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    left: Counter = field(default_factory=Counter)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def application(self):
        app = web.Application(client_max_size=2**26, middlewares=[self._keep])
        for prefix in ("/v1", "/openai", "/openai/v1", "/openai/deployments/{model}"):
            app.router.add_post(f"{prefix}/chat/completions", self._chat)
            app.router.add_post(f"{prefix}/completions", self._completions)
            app.router.add_post(f"{prefix}/responses", self._responses)
            app.router.add_post(f"{prefix}/embeddings", self._embeddings)
        app.router.add_post("/v1/files", self._files)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/realtime", self._realtime)
        app.router.add_get("/v1/responses", self._responses_socket)
        return app

    @web.middleware
    async def _keep(self, request, handler):
        body = await request.read()
        headers = tuple((name.decode(), value.decode()) for name, value in request.raw_headers)
        seen = Seen(request.method, request.raw_path, headers, body)
        self.seen.setdefault(_sender(request), []).append(seen)
        is_json = body and request.content_type == "application/json"
        request[ASKED] = json.loads(body) if is_json else {}
        request[ASKED]["model"] = request[ASKED].get("model") or request.match_info.get("model", "")
        return await _trouble(request, len(self.seen[_sender(request)])) or await handler(request)

    def _answer(self, asked, results):
        """Call the first tool once, then say something that fits what is asked for."""
        tools = [tool.get("function", tool) for tool in asked.get("tools") or ()]
        if tools and not results and asked.get("tool_choice") != "none":
            return Answer(
                json.dumps(instance(tools[0].get("parameters", {}))), tools[0]["name"], results
            )
        schema = wanted_schema(asked)
        return Answer(SAID if schema is None else json.dumps(instance(schema)), number=results)

    async def _chat(self, request):
        asked = request[ASKED]
        results = sum(message["role"] == "tool" for message in asked["messages"])
        answer = self._answer(asked, results)
        if not asked.get("stream"):
            return told(chat_whole(asked, answer))
        return await stream(request, [*chat_chunks(asked, answer), "[DONE]"])

    async def _completions(self, request):
        asked = request[ASKED]
        prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
        many = len(prompts) if isinstance(prompts[0], str | list) else 1
        if not asked.get("stream"):
            texts = [(index, SAID, "stop") for index in range(many)]
            return told(text_part(asked, texts) | {"usage": usage("chat")})
        words = [text_part(asked, [(0, word, None)]) for word in WORDS]
        return await stream(request, [*words, text_part(asked, [(0, "", "stop")]), "[DONE]"])

    async def _responses(self, request):
        asked = request[ASKED]
        items = asked["input"] if isinstance(asked["input"], list) else []
        results = sum(item.get("type") == "function_call_output" for item in items)
        answer = self._answer(asked, results)
        if not asked.get("stream"):
            return told(response_whole(asked, answer))
        return await stream(request, list(response_events(asked, answer)))

    async def _embeddings(self, request):
        asked = request[ASKED]
        inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
        vector = packed if asked.get("encoding_format") == "base64" else VECTOR
        rows = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, _ in enumerate(inputs)
        ]
        counted = {"prompt_tokens": 3, "total_tokens": 3}
        return told({"object": "list", "data": rows, "model": asked["model"], "usage": counted})

    async def _files(self, request):
        size = len(self.seen[_sender(request)][-1].body)
        head = {"id": "file-1", "object": "file", "created_at": 1, "filename": "a.jsonl"}
        return told(head | {"bytes": size, "purpose": "batch", "status": "processed"})

    async def _models(self, _request):
        model = {"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "far"}
        return told({"object": "list", "data": [model]})

    async def _realtime(self, request):
        created = {"type": "session.created", "event_id": "e", "session": {"type": "realtime"}}
        place = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
        deltas = [
            {"type": "response.output_text.delta", "event_id": "e", "delta": word, **place}
            for word in WORDS
        ]
        done = {"type": "response.done", "event_id": "e", "response": {"id": "r", "output": []}}
        return await self._talk(request, [created], lambda _: [*deltas, done])

    async def _responses_socket(self, request):
        return await self._talk(request, [], lambda asked: response_events(asked, Answer(SAID)))

    async def _talk(self, request, first, events):
        """Answer each ``response.create`` over a WebSocket, and keep all that is said there."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for event in first:
            await socket.send_json(event)
        async for message in socket:
            said = Seen("said", request.raw_path, (), message.data.encode())
            self.seen[_sender(request)].append(said)
            asked = json.loads(message.data)
            for event in events(asked) if asked["type"] == "response.create" else ():
                await socket.send_json(event)
        closed = Seen(f"closed {socket.close_code}", request.raw_path, (), b"")
        self.seen[_sender(request)].append(closed)
        return socket


def _sender(request):
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return (request.headers.get("api-key") or shown).removeprefix("sk-")


async def _trouble(request, times):
    """Return the trouble that the model's name asks for, or None."""
    model = request[ASKED]["model"]
    if model == "stalls":
        await asyncio.sleep(PATIENCE_S)
    if model == "breaks-off":
        return await stream(request, chat_chunks(request[ASKED], Answer(SAID))[:3], whole=False)
    if model == "busy-at-first" and times <= TRIES:
        return refusal(429, {"retry-after-ms": "20", "retry-after": "0.02"})
    if model.startswith("fails-"):
        return refusal(int(model.removeprefix("fails-")), {"retry-after": "17"})
    return None


def refusal(status, headers):
    """An error in OpenAI's envelope, with white space and a number that only its bytes keep."""
    body = (
        b'{ "error": {"message": "no: %d", "type": "t", "param": null, "code": "c%d", "n": 1e2}}\n'
    )
    return web.Response(
        body=body % (status, status),
        status=status,
        content_type="application/json",
        headers=headers | {"x-request-id": f"req_{status}", "x-ratelimit-remaining-requests": "0"},
    )


def told(value):
    return web.json_response(value, headers={"x-request-id": "req_1", "openai-version": "2020"})


async def stream(request, events, *, whole=True):
    """Send events; a stream that is not whole ends with a reset."""
    response = web.StreamResponse(headers={"x-request-id": "req_1"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    for event in events:
        name = f"event: {event['type']}\n" if "type" in event and event != "[DONE]" else ""
        data = event if isinstance(event, str) else json.dumps(event)
        await response.write(f"{name}data: {data}\n\n".encode())
    if not whole:
        await asyncio.sleep(0.05)  # what was written leaves before the end
        request.transport.abort()
    return response


# -- what is asked for ----------------------------------------------------------------------------


def wanted_schema(asked):
    """The schema that the answer has to fit, or None for plain text."""
    form = asked.get("response_format") or (asked.get("text") or {}).get("format") or {}
    if form.get("type") == "json_object":
        return {"type": "object", "properties": {"city": {"type": "string"}}}
    if form.get("type") != "json_schema":
        return None
    return form.get("json_schema", form)["schema"]


PLAINEST = {"integer": 98, "number": 98, "boolean": True, "string": "Kiel"}


def instance(schema, root=None):
    """The plainest value that fits a JSON schema."""
    root = root or schema
    match schema:
        case {"$ref": ref}:
            return instance(root["$defs"][ref.rpartition("/")[2]], root)
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"anyOf": [first, *_]}:
            return instance(first, root)
        case {"type": "array"}:
            return [instance(schema["items"], root)]
        case {"type": "object"}:
            return {k: instance(v, root) for k, v in schema.get("properties", {}).items()}
    return PLAINEST[schema["type"]]


# -- chat and completions -------------------------------------------------------------------------


def usage(api):
    """Always the same: answers must not tell what was sent."""
    came, went = COUNTS[api]
    return {
        came: 21,
        went: 7,
        "total_tokens": 28,
        f"{came}_details": {"cached_tokens": 3},
        f"{went}_details": {"reasoning_tokens": 0},
    }


def _head(asked, kind):
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": asked["model"]}


def chat_whole(asked, answer):
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.text}
        call = {"id": f"call_{answer.number}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    finish = "tool_calls" if answer.tool else "stop"
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return _head(asked, "chat.completion") | {"choices": [choice], "usage": usage("chat")}


def chat_chunks(asked, answer):
    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _head(asked, "chat.completion.chunk") | {"choices": [choice]}

    chunks = [chunk({"role": "assistant", "content": None if answer.tool else ""})]
    if answer.tool:
        opening = {"name": answer.tool, "arguments": ""}
        call = {"index": 0, "id": f"call_{answer.number}", "type": "function", "function": opening}
        chunks.append(chunk({"tool_calls": [call]}))
    for piece in answer.pieces:
        more = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        chunks.append(chunk(more if answer.tool else {"content": piece}))
    chunks.append(chunk({}, "tool_calls" if answer.tool else "stop"))
    if (asked.get("stream_options") or {}).get("include_usage"):
        head = _head(asked, "chat.completion.chunk")
        chunks.append(head | {"choices": [], "usage": usage("chat")})
    return chunks


def text_part(asked, texts):
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        for index, text, finish in texts
    ]
    return _head(asked, "text_completion") | {"choices": choices}


# -- responses ------------------------------------------------------------------------------------


def response_item(answer):
    if answer.tool:
        head = {"type": "function_call", "id": "fc_1", "call_id": f"call_{answer.number}"}
        return head | {"name": answer.tool, "arguments": answer.text, "status": "completed"}
    part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    head = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return head | {"content": [part]}


def response_whole(asked, answer, **fields):
    echoed = {"tools": asked.get("tools") or [], "tool_choice": asked.get("tool_choice") or "auto"}
    return {
        "id": f"resp_{answer.number}",
        "object": "response",
        "created_at": 1,
        "model": asked["model"],
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "output": [response_item(answer)],
        "usage": usage("items"),
        **echoed,
        **fields,
    }


def response_events(asked, answer):
    """A response as its stream tells it, from ``created`` to ``completed``."""
    item, begun = response_item(answer), {"output": [], "usage": None, "status": "in_progress"}
    place = {"item_id": item["id"], "output_index": 0}
    kind = "function_call_arguments" if answer.tool else "output_text"
    inside = place if answer.tool else place | {"content_index": 0, "logprobs": []}
    events = [
        ("created", {"response": response_whole(asked, answer, **begun)}),
        ("in_progress", {"response": response_whole(asked, answer, **begun)}),
        ("output_item.added", {"output_index": 0, "item": _empty(item)}),
    ]
    if not answer.tool:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        events.append(("content_part.added", place | {"content_index": 0, "part": part}))
    events += [(f"{kind}.delta", inside | {"delta": piece}) for piece in answer.pieces]
    if answer.tool:
        events.append((f"{kind}.done", inside | {"name": answer.tool, "arguments": answer.text}))
    else:
        events.append((f"{kind}.done", inside | {"text": answer.text}))
        done = place | {"content_index": 0, "part": item["content"][0]}
        events.append(("content_part.done", done))
    events += [
        ("output_item.done", {"output_index": 0, "item": item}),
        ("completed", {"response": response_whole(asked, answer)}),
    ]
    for number, (name, fields) in enumerate(events):
        yield {"type": f"response.{name}", "sequence_number": number, **fields}


def _empty(item):
    nothing = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    return item | nothing | {"status": "in_progress"}


@asynccontextmanager
async def listening():
    """A far side on a free port of loopback."""
    far = Far()
    runner = web.AppRunner(
        far.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        far.port = runner.addresses[0][1]
        yield far
    finally:
        await runner.cleanup()
