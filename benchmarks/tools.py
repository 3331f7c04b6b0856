"""What is left of tool results under policy ``agent``: the row that is asked for, errors, outliers.

    LACONIC_DATA=... python benchmarks/tools.py [--lookups 300] [--only "10,000"]

Each result is compressed as a request's newest turn, to the policy's rate.  Beside it, at the same
number of tokens: the head of the result (truncation), and rows drawn at random.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common import MODEL, records
from paired import table
from proxy.tokens import encoding_for
from proxy.types import Component
from published import Findings, add_outputs, median, progress, publish
from tool_results import JSON_SHAPES, LINE_SHAPES, ToolResult, key_values, messages
from workshop import Workshop, body, workshop

ROWS = (100, 1_000, 10_000)
LINE_ROWS = 1_000
POLICY = "agent"


@dataclass
class Tally:
    """What became of results of one kind; rows are counted over all look-ups."""

    rates: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    head: list[bool] = field(default_factory=list)
    drawn: list[bool] = field(default_factory=list)
    errors: list[bool] = field(default_factory=list)
    outliers: list[bool] = field(default_factory=list)
    reads: list[bool] = field(default_factory=list)
    cold_ms: list[float] = field(default_factory=list)
    warm_ms: list[float] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)


async def measure(house: Workshop, result: ToolResult, tally: Tally) -> None:
    """Compress a result under each of its look-ups."""
    encoding = encoding_for(MODEL)
    costs = [encoding.count(row) for row in result.rows]
    for number, lookup in enumerate(result.lookups):
        raw = body(messages(result, lookup))
        timed = await house.prepare(raw)
        (tally.warm_ms if number else tally.cold_ms).append(timed.ms)
        sent = json.loads(timed.prepared.edited or raw)["messages"][-1]["content"]
        count = timed.prepared.outcome.components[Component.CONTEXT]
        tally.rates.append(count.after / max(1, count.before))
        tally.found.append(result.rows[lookup.row] in sent)
        if not tally.found[-1]:
            tally.missed[f"{result.shape}, {lookup.way}"] += 1
        room = tally.rates[-1] * sum(costs)
        tally.head.append(lookup.row in _fitting(range(len(costs)), costs, room))
        order = random.Random(number).sample(range(len(costs)), len(costs))
        tally.drawn.append(lookup.row in _fitting(order, costs, room))
        tally.errors += [result.rows[row] in sent for row in result.errors]
        tally.outliers += [result.rows[row] in sent for row in result.outliers]
        tally.reads.append(_reads(result, sent))


def _fitting(order: Sequence[int], costs: Sequence[int], room: float) -> set[int]:
    """Return the rows that are taken in this order until one does not fit."""
    taken: set[int] = set()
    for row in order:
        room -= costs[row]
        if room < 0:
            break
        taken.add(row)
    return taken


def _reads(result: ToolResult, sent: str) -> bool:
    """Tell whether what is sent is JSON, if the result was."""
    values = sent.splitlines() if result.shape == "events" else [sent]
    if result.text[0] not in "[{":
        return True
    try:
        for value in values:
            json.loads(value)
    except ValueError:
        return False
    return True


def shares(lookups: int, parts: int) -> Iterator[int]:
    """Divide look-ups among the shapes."""
    for part in range(parts):
        yield lookups * (part + 1) // parts - lookups * part // parts


def results(lookups: int) -> Iterator[tuple[str, ToolResult]]:
    """Make up the results of every shape and size, each under the name of its line."""
    for rows in ROWS:
        for shape, asks in zip(JSON_SHAPES, shares(lookups, len(JSON_SHAPES)), strict=True):
            yield f"JSON, {rows:,} rows", shape(random.Random(rows), rows, asks)
    for record in records("kv-retrieval-75_keys")[:lookups]:
        yield "kv-retrieval, 75 keys", key_values(record)
    for shape in LINE_SHAPES:
        name = f"{shape.__name__}, {LINE_ROWS:,} rows"
        yield name, shape(random.Random(7), LINE_ROWS, lookups // 5)


async def measure_all(lookups: int, only: str, threads: int) -> dict[str, Tally]:
    """Measure every shape and size whose name holds ``only``."""
    found: dict[str, Tally] = {}
    async with workshop(POLICY, threads) as house:
        for name, result in results(lookups):
            if only in name:
                progress(f"{name}: {result.shape}")
                await measure(house, result, found.setdefault(name, Tally()))
    return found


def percent(values: Sequence[bool]) -> str:
    """Say what share of them holds.

    >>> percent([True, True, False, True]), percent([])
    ('75.0', '-')
    """
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"


COLUMNS = (
    "look-ups",
    "rate",
    "asked-for row",
    "head",
    "random",
    "errors",
    "outliers",
    "parses",
    "first, ms",
    "again, ms",
)


def report(found: dict[str, Tally]) -> Findings:
    """Return the table."""
    rows = [
        (
            name,
            [
                str(len(tally.found)),
                f"{sum(tally.rates) / len(tally.rates):.3f}",
                *map(
                    percent,
                    (
                        tally.found,
                        tally.head,
                        tally.drawn,
                        tally.errors,
                        tally.outliers,
                        tally.reads,
                    ),
                ),
                f"{median(tally.cold_ms):,.0f}",
                f"{median(tally.warm_ms):,.0f}" if tally.warm_ms else "-",
            ],
        )
        for name, tally in found.items()
    ]
    figures = {
        name: {
            "found": sum(tally.found),
            "lookups": len(tally.found),
            "rate": sum(tally.rates) / len(tally.rates),
            "most_rate": max(tally.rates),
            "head": sum(tally.head),
            "random": sum(tally.drawn),
            "errors": [sum(tally.errors), len(tally.errors)],
            "outliers": [sum(tally.outliers), len(tally.outliers)],
            "parses": sum(tally.reads),
            "first_ms": tally.cold_ms,
            "again_ms": median(tally.warm_ms) if tally.warm_ms else None,
            "missed": tally.missed,
        }
        for name, tally in found.items()
    }
    return Findings("tools", table(COLUMNS, rows), figures)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lookups", type=int, default=300, help="of each size")
    parser.add_argument("--only", default="", help="the lines of the table whose name holds this")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = add_outputs(parser).parse_args()
    found = asyncio.run(measure_all(given.lookups, given.only, given.threads))
    for name, tally in found.items():
        if tally.missed:
            progress(f"missed in {name}: {dict(tally.missed)}")
    publish(report(found), given)


if __name__ == "__main__":
    main()
