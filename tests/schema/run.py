"""Requests made up from an OpenAPI specification, directly and through the proxy.

    make test-schema SPEC=openapi.json

Every operation of the specification is asked for, those with text more often; into half of these
bodies words are put that the proxy under test drops.  A request that comes out wrong is kept in
``tests/schema/found``, where the suite sends it from then on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import zlib
from collections import Counter
from pathlib import Path

import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemas import FOUND, Asked, Comparison
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from proxy.wire import endpoint_of

BASE = "http://upstream.example/v1"
PASSED_ON = {"content-type", "authorization", "accept", "openai-beta"}
TEXTS = {"content", "input", "text", "prompt", "instructions", "output"}


def main() -> None:
    """Make up requests, send them, and say what came out wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--examples", type=int, default=5, help="a request for every operation")
    parser.add_argument("--texts", type=int, default=200, help="for each of those with text")
    given_arguments = parser.parse_args()
    found = made_up(given_arguments)
    kinds = Counter("with text" if _has_text(asked) else "other" for asked in found)
    wrong, edited = asyncio.run(compared(found))
    for asked, faults in wrong:
        FOUND.mkdir(exist_ok=True)
        path = FOUND / f"{zlib.crc32(asked.written()):08x}.http"
        path.write_bytes(asked.written())
        print(f"{path}: {asked.method} {asked.target}", *faults, sep="\n  ")
    print(f"{len(found)} requests ({dict(kinds)}), {edited} edited: {len(wrong)} wrong")
    sys.exit(bool(wrong))


def made_up(arguments: argparse.Namespace) -> list[Asked]:
    """Return requests for every operation that can be made up."""
    schema = schemathesis.openapi.from_path(str(arguments.spec))
    schema.location = "http://upstream.example/openapi.json"
    found: list[Asked] = []
    left_out = 0
    for result in schema.get_all_operations():
        if not isinstance(result, Ok):
            left_out += 1
            continue
        operation = result.ok()
        text = endpoint_of(operation.method.upper(), f"/v1{operation.path}") is not None
        many = arguments.texts if text else arguments.examples
        try:
            found += drawn(operation, many, GenerationMode.POSITIVE)
            found += drawn(operation, many, GenerationMode.NEGATIVE) if text else []
        except Exception as error:  # noqa: BLE001 - what cannot be made up is not ours
            left_out += 1
            print(f"left out: {operation.label}: {type(error).__name__}")
    print(f"{left_out} operations left out")
    return found


def drawn(operation, many: int, mode: GenerationMode) -> list[Asked]:
    """Draw requests for one operation, as the specification has them or as it has them not."""
    found: list[Asked] = []

    @seed(1)
    @settings(
        max_examples=many, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(operation.as_strategy(generation_mode=mode))
    def draw(case) -> None:
        asked = prepared(case)
        if asked is not None:
            found.append(asked)
            if _has_text(asked):
                found.append(with_words(asked))

    draw()
    return found


def prepared(case) -> Asked | None:
    """Return a case as it would be sent; None where it cannot be written as HTTP."""
    arguments = case.as_transport_kwargs(base_url=BASE)
    arguments = {key: arguments[key] for key in arguments if key != "timeout"}
    try:
        made = requests.Request(**arguments).prepare()
    except (ValueError, UnicodeError, requests.RequestException):
        return None
    headers = tuple(
        (name, value if isinstance(value, str) else value.decode("latin-1"))
        for name, value in made.headers.items()
        if name.lower() in PASSED_ON
    )
    if not all(value.isprintable() and value.isascii() for _, value in headers):
        return None
    body = made.body.encode() if isinstance(made.body, str) else made.body
    return Asked(made.method, made.path_url, headers, body)


def with_words(asked: Asked) -> Asked:
    """Put words that are dropped behind the texts of a body."""

    def worded(value, key=""):
        if isinstance(value, dict):
            return {name: worded(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [worded(inner, key) for inner in value]
        return f"{value} keep xdrop this" if isinstance(value, str) and key in TEXTS else value

    body = json.dumps(worded(json.loads(asked.body))).encode()
    return Asked(asked.method, asked.target, asked.headers, body)


def _has_text(asked: Asked) -> bool:
    if endpoint_of(asked.method, asked.target.partition("?")[0]) is None or not asked.body:
        return False
    try:
        return isinstance(json.loads(asked.body), dict)
    except ValueError:
        return False


async def compared(found: list[Asked]) -> tuple[list[tuple[Asked, list[str]]], int]:
    """Send them all; return those that came out wrong, and how many were edited."""
    wrong: list[tuple[Asked, list[str]]] = []
    async with Comparison() as comparison:
        for asked in found:
            faults = await comparison.faults(asked)
            if faults:
                wrong.append((asked, faults))
        return wrong, comparison.edited


if __name__ == "__main__":
    main()
