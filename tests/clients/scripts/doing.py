"""What a client's script shares with the others: where to go, what to ask, one line per thing done.

Runs in the client's own environment, so the standard library is all there is.  The job comes as
JSON on stdin; each line of stdout is ``{"does": name, "got": value}``.
"""

import asyncio
import contextlib
import inspect
import io
import json
import sys
import traceback
from importlib.metadata import version

JOB = {} if sys.stdin is None or sys.stdin.isatty() else json.load(sys.stdin)
MODEL = "gpt-4o-mini"
SHORT = "When was the Kiel Canal opened?"
LONG = JOB.get("long", "")
REFUSALS = (400, 401, 404, 422, 429, 500)

SCENARIOS = {}


class At:
    """Where a scenario finds its server, and the key that says which one it is."""

    def __init__(self, name):
        self.root = JOB["url"]
        self.url = f"{self.root}/v1"
        self.key = f"sk-{name.replace(' ', '-')}"


def does(name):
    """Name what a function does with the client; it is called with an :class:`At`."""

    def remember(function):
        SCENARIOS[name] = function
        return function

    return remember


def plain(value):
    """Models as dictionaries, whatever holds them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def raised(error):
    """What a caller can tell of an error and of those that caused it."""
    told = {"type": type(error).__name__, "message": str(error)}
    for name in ("status_code", "code", "request_id", "body"):
        told[name] = plain(getattr(error, name, None))
    headers = getattr(getattr(error, "response", None), "headers", {})
    told["retry-after"] = headers.get("retry-after")
    return told | {"cause": type(error.__cause__).__name__}


def attempt(call):
    """What the call gave or raised."""
    try:
        return plain(call())
    except Exception as error:  # noqa: BLE001 - whatever the client raises is what is compared
        return raised(error)


async def awaited(call):
    """What the coroutine gave or raised."""
    try:
        return plain(await call)
    except Exception as error:  # noqa: BLE001 - as above
        return raised(error)


def to_the_end(start):
    """The parts of a stream, and how it ended."""
    parts = []
    try:
        parts += map(plain, start())
    except Exception as error:  # noqa: BLE001 - as above
        return [parts, raised(error)]
    return [parts, "ended as if it were whole"]


def headers(answer):
    """The headers of an answer, in order."""
    return [[name.lower(), value] for name, value in answer.headers.multi_items()]


def run(package):
    """Do everything, or what the job names, and tell."""
    _tell("version", version(package))
    _tell("snippet", _printed(JOB["snippet"]))
    with asyncio.Runner() as runner:
        for name, function in SCENARIOS.items():
            try:
                got = function(At(name))
                got = runner.run(got) if inspect.iscoroutine(got) else got
            except Exception as error:  # noqa: BLE001 - a script that breaks is told as such
                traceback.print_exc()
                got = {"broke": raised(error)}
            _tell(name, plain(got))


def _printed(snippet):
    """What a piece of code from the docs prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = compile(snippet, "docs/clients.md", "exec")
        exec(code, {"__name__": "__main__"})  # noqa: S102 - our own docs
    return said.getvalue()


def _tell(name, got):
    sys.stdout.write(json.dumps({"does": name, "got": got}) + "\n")
    sys.stdout.flush()
