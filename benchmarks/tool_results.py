"""Tool results made up, with what is asked of them: a row, errors, outliers.

Rows are drawn from a seed; nothing in them is a template that the code under test knows.  A row is
asked for by its id, by a name, by another of its values, or by the call's arguments alone, the
question saying no more than "look it up".
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from csv import writer
from dataclasses import dataclass, replace
from enum import StrEnum
from io import StringIO
from typing import Any


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    """
    Ada Bruno Chiara Dmitri Elif Farid Greta Hana Ivan Jo Kemal Lena Mira Noor Olaf Priya Quentin
    Rosa Sven Tariq Uma Vera Wanda Xenia Yusuf Zora Amos Bela Carla Dario
    """
)
LAST = _words(
    """
    Abel Brandt Castro Duarte Ekström Fischer Gallo Haddad Ibsen Jansen Kaya Lindqvist Moreau
    Nakamura Okafor Petrov Quiroga Rossi Sandoval Tanaka Ueda Vargas Weber Xu Yilmaz Zeman Adler
    Bianchi Cohen Dietrich
    """
)
CITIES = _words(
    """
    Aarhus Bergen Cádiz Dresden Évora Florence Ghent Haifa Izmir Jaipur Kyoto Lagos Malmö Nantes
    Oslo Porto Quito Riga Sofia Turin Utrecht Vilnius Warsaw Zagreb
    """
)
THINGS = _words(
    """
    lighthouse bridge chapel mill harbour library theatre tramway fountain market observatory
    windmill funicular brewery aqueduct greenhouse belfry lock granary station
    """
)
DEEDS = _words(
    "restored flooded sold repainted measured photographed closed reopened insured moved"
)
SERVICES = _words("gateway billing search mailer auth catalogue shipping ledger")
DOINGS = (
    "cache refreshed",
    "request served",
    "connection opened",
    "connection closed",
    "job started",
    "job finished",
    "token renewed",
    "index merged",
)
FAULTS = (
    "connection refused by upstream",
    "deadlock detected, transaction rolled back",
    "certificate expired",
    "out of memory while merging index",
    "checksum mismatch in block",
)


class Way(StrEnum):
    """How a row is asked for."""

    ID = "id"
    NAME = "name"
    VALUE = "value"
    CALL = "the call alone"


@dataclass(frozen=True)
class Lookup:
    """A question and the call that it led to; ``row`` is the one that answers it."""

    row: int
    way: Way
    question: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class ToolResult:
    """A tool's result: its rows as they are written in it, and which of them stand out."""

    shape: str
    tool: str
    text: str
    rows: tuple[str, ...]
    errors: frozenset[int]
    outliers: frozenset[int]
    lookups: tuple[Lookup, ...]


Row = dict[str, Any]
Ask = Callable[[random.Random, int, Row, Way], tuple[str, dict[str, Any]]]


def orders(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make rows of a database, as one array."""
    rows: list[Row] = [
        {
            "id": 100_000 + 7 * i,
            "order": f"ORD-{rng.randrange(16**6):06X}-{i}",
            "customer": f"{rng.choice(FIRST)} {rng.choice(LAST)}",
            "city": rng.choice(CITIES),
            "amount": round(rng.uniform(5, 400), 2),
            "status": rng.choice(["paid", "shipped", "delivered"]),
            "created_at": _when(rng),
        }
        for i in range(count)
    ]
    errors, outliers = _special(rng, count)
    for i in errors:
        rows[i]["status"] = "failed"
        rows[i]["error"] = rng.choice(FAULTS)
    for i in outliers:
        rows[i]["amount"] = round(rng.uniform(40_000, 90_000), 2)

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        match way:
            case Way.ID:
                return f"What is the status of order {row['order']}?", {"table": "orders"}
            case Way.NAME:
                where = f"{row['customer']} in {row['city']}"
                return f"What did {where} pay?", {"table": "orders"}
            case Way.VALUE:
                return f"Who paid {row['amount']}?", {"table": "orders", "limit": count}
            case Way.CALL:
                return "Did it go through?", {"table": "orders", "id": row["id"]}

    return _result("orders", "query", rows, (errors, outliers), _lookups(rng, rows, asks, ask))


def hits(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make results of a search under a head."""
    rows: list[Row] = []
    for i in range(count):
        who, where = f"{rng.choice(FIRST)} {rng.choice(LAST)}", rng.choice(CITIES)
        thing, deed, year = rng.choice(THINGS), rng.choice(DEEDS), rng.randrange(1700, 2020)
        key = uuid.UUID(int=rng.getrandbits(128), version=4)
        rows.append(
            {
                "id": str(key),
                "title": f"The {thing} of {where}",
                "url": f"https://example.org/{where.lower()}/{thing}-{i}",
                "snippet": f"In {year} {who} {deed} the {thing} of {where}.",
                "score": round(0.9 - 0.5 * i / count + rng.uniform(-0.02, 0.02), 4),
            }
        )
    errors, outliers = _special(rng, count)
    for i in errors:
        rows[i]["error"] = rng.choice(FAULTS)
    for i in outliers:
        rows[i]["score"] = round(rng.uniform(60, 90), 4)

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        year, rest = row["snippet"].removeprefix("In ").split(" ", 1)
        first, last, deed, *_ = rest.split(" ")
        what = f"{row['title'][0].lower()}{row['title'][1:]}"
        match way:
            case Way.ID:
                return f"What does the hit {row['id']} say?", {"query": "landmarks"}
            case Way.NAME:
                return f"When was {what} {deed} by {first} {last}?", {"query": "landmarks"}
            case Way.VALUE:
                return f"Who {deed} {what} in {year}?", {"query": "landmarks"}
            case Way.CALL:
                return "What does that page say?", {"url": row["url"]}

    made = _result("hits", "search", rows, (errors, outliers), _lookups(rng, rows, asks, ask))
    head = f'{{"query": "landmarks", "total": {count}, "results": ['
    return replace(made, text=f"{head}{', '.join(made.rows)}]}}")


def pages(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make an API's pages of fifty records each, nested and indented."""
    rows: list[Row] = [
        {
            "sku": f"{rng.choice('ABCDEFGH')}{rng.randrange(10**4):04d}-{i}",
            "product": f"{rng.choice(CITIES)} {rng.choice(THINGS)} {rng.choice('ABCDEF')}{i % 97}",
            "supplier": {
                "name": f"{rng.choice(LAST)} & {rng.choice(LAST)}",
                "city": rng.choice(CITIES),
            },
            "stock": rng.randrange(0, 500),
            "price": {"net": round(rng.uniform(1, 90), 2), "currency": "EUR"},
            "active": True,
        }
        for i in range(count)
    ]
    errors, outliers = _special(rng, count)
    for i in errors:
        rows[i]["sync"] = {"status": "error", "message": rng.choice(FAULTS)}
    for i in outliers:
        rows[i]["stock"] = rng.randrange(800_000, 900_000)

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        match way:
            case Way.ID:
                return f"How many of {row['sku']} are in stock?", {}
            case Way.NAME:
                return f"Who supplies the {row['product']}?", {}
            case Way.VALUE:
                net, city = row["price"]["net"], row["supplier"]["city"]
                return f"Which product from {city} costs {net} EUR net?", {}
            case Way.CALL:
                return "Is it in stock?", {"filter": {"sku": row["sku"]}}

    lookups = _lookups(rng, rows, asks, ask)
    made = _result("pages", "list_products", rows, (errors, outliers), lookups)
    size = 50
    written = [
        f'{{"page": {n // size + 1}, "next": "/v2/products?page={n // size + 2}", "items": [\n  '
        + ",\n  ".join(made.rows[n : n + size])
        + "\n]}"
        for n in range(0, count, size)
    ]
    return replace(made, text='{"pages": [\n' + ",\n".join(written) + f'\n], "total": {count}}}')


def events(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make a log of JSON lines."""
    rows: list[Row] = [
        {
            "ts": _when(rng, i),
            "level": "INFO",
            "service": rng.choice(SERVICES),
            "msg": rng.choice(DOINGS),
            "request_id": f"{rng.getrandbits(64):016x}",
            "user": f"{rng.choice(FIRST)}.{rng.choice(LAST)}{i % 89}".lower(),
            "duration_ms": rng.randrange(2, 90),
        }
        for i in range(count)
    ]
    errors, outliers = _special(rng, count)
    for i in errors:
        rows[i] |= {"level": "ERROR", "msg": rng.choice(FAULTS)}
    for i in outliers:
        rows[i]["duration_ms"] = rng.randrange(50_000, 90_000)

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        match way:
            case Way.ID:
                return f"What happened to request {row['request_id']}?", {"since": "1h"}
            case Way.NAME:
                return f"What did {row['user']} do in {row['service']}?", {"since": "1h"}
            case Way.VALUE:
                return f"What was logged at {row['ts']}?", {"since": "1h"}
            case Way.CALL:
                return "What went on there?", {"request_id": row["request_id"]}

    made = _result("events", "logs", rows, (errors, outliers), _lookups(rng, rows, asks, ask))
    return replace(made, text="\n".join(made.rows) + "\n")


def csv(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make rows of a table, separated by commas."""
    made = orders(rng, count, asks)
    rows: list[Row] = [json.loads(row) for row in made.rows]
    keys = ["id", "order", "customer", "city", "amount", "status", "created_at", "error"]
    written = tuple(_csv_row([row.get(key, "") for key in keys]) for row in rows)
    text = "\n".join([",".join(keys), *written]) + "\n"
    return ToolResult("csv", "query", text, written, made.errors, made.outliers, made.lookups)


def _csv_row(cells: Sequence[object]) -> str:
    file = StringIO()
    writer(file, lineterminator="").writerow(cells)
    return file.getvalue()


def log(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make a log of plain lines, with a stack trace after each error."""
    made = events(rng, count, asks)
    rows: list[Row] = [json.loads(row) for row in made.rows]
    written = tuple(_log_entry(row) for row in rows)
    return ToolResult(
        "log", "logs", "\n".join(written) + "\n", written, made.errors, made.outliers, made.lookups
    )


def _log_entry(row: Row) -> str:
    line = (
        f"{row['ts']} {row['level']:5} [{row['service']}] {row['msg']} "
        f"request_id={row['request_id']} user={row['user']} duration_ms={row['duration_ms']}"
    )
    if row["level"] != "ERROR":
        return line
    return (
        f"{line}\nTraceback (most recent call last):\n"
        f'  File "/srv/{row["service"]}/main.py", line {row["duration_ms"]}, in run\n'
        f"    step(request)\nRuntimeError: {row['msg']}"
    )


def diff(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make a diff of many files; a row is a hunk."""
    rows: list[Row] = []
    hunks: list[str] = []
    text: list[str] = []
    for i in range(count):
        thing, deed, service = rng.choice(THINGS), rng.choice(DEEDS), rng.choice(SERVICES)
        row = {
            "path": f"{service}/{thing}_{i // 3}.py",
            "function": f"{deed}_{thing}_{i}",
            "line": 1 + 40 * (i % 3),
        }
        rows.append(row)
        if i % 3 == 0:
            row_path = row["path"]
            text.append(f"diff --git a/{row_path} b/{row_path}\n--- a/{row_path}\n+++ b/{row_path}")
        else:
            row["path"] = rows[i - 1]["path"]
        old, new = rng.randrange(1, 99), rng.randrange(100, 999)
        hunks.append(
            f"@@ -{row['line']},4 +{row['line']},5 @@\n def {row['function']}(order):\n"
            f"-    limit = {old}\n+    limit = {new}\n+    check(order, limit)\n     log(order)\n"
            f"     return order"
        )
        text.append(hunks[-1])

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        changed = hunks[i].split("+    limit = ")[1].split("\n")[0]
        spoken = " ".join(row["function"].split("_")[:-1])
        match way:
            case Way.ID:
                return f"What changed in {row['function']}?", {}
            case Way.NAME:
                path = row["path"]
                return f"What is new in the function that {spoken} an order in {path}?", {}
            case Way.VALUE:
                return f"Where is limit = {changed} set in {row['function']}?", {}
            case Way.CALL:
                return "What did that commit change?", {"symbol": row["function"]}

    return ToolResult(
        "diff",
        "git_diff",
        "\n".join(text) + "\n",
        tuple(hunks),
        frozenset(),
        frozenset(),
        _lookups(rng, rows, asks, ask),
    )


def code(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make a source file; a row is a function."""
    rows: list[Row] = [
        {
            "function": f"{rng.choice(DEEDS)}_{rng.choice(THINGS)}_{i}",
            "constant": rng.randrange(10**5),
        }
        for i in range(count)
    ]
    written = tuple(
        f"def {row['function']}(order):\n"
        f'    """{row["function"].replace("_", " ").capitalize()} at {rng.choice(CITIES)}."""\n'
        f"    total = order.amount * {row['constant']}\n\n"
        f"    if total > order.limit:\n        raise Refused(order)\n    return total"
        for row in rows
    )

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        match way:
            case Way.ID:
                return f"What does {row['function']} return?", {"path": "orders.py"}
            case Way.NAME:
                return f"Where is the code for {row['function'].replace('_', ' ')}?", {}
            case Way.VALUE:
                return f"Which function multiplies by {row['constant']}?", {"path": "orders.py"}
            case Way.CALL:
                return "Does it raise?", {"path": "orders.py", "symbol": row["function"]}

    text = "import math\nfrom shop import Refused\n\n\n" + "\n\n\n".join(written) + "\n"
    return ToolResult(
        "code", "read_file", text, written, frozenset(), frozenset(), _lookups(rng, rows, asks, ask)
    )


def grep(rng: random.Random, count: int, asks: int) -> ToolResult:
    """Make hits in files; a row is a line."""
    rows: list[Row] = [
        {
            "path": f"src/{SERVICES[i * 8 // count]}/{THINGS[i * 40 // count % len(THINGS)]}.py",
            "line": 3 + 11 * i,
            "text": f"{rng.choice(DEEDS)}_{rng.choice(THINGS)}(order, limit={rng.randrange(9**6)})",
        }
        for i in range(count)
    ]
    written = tuple(f"{row['path']}:{row['line']}:    {row['text']}" for row in rows)

    def ask(rng: random.Random, i: int, row: Row, way: Way) -> tuple[str, dict[str, Any]]:  # noqa: ARG001
        name, limit = row["text"].split("(order, limit=")
        match way:
            case Way.ID:
                return f"What is called in {row['path']} at line {row['line']}?", {
                    "pattern": "order"
                }
            case Way.NAME:
                called = f"{name} in {row['path']} with {limit[:-1]}"
                return f"Where do we call {called}?", {"pattern": "order"}
            case Way.VALUE:
                return f"Where is the limit {limit[:-1]}?", {"pattern": "order"}
            case Way.CALL:
                return "Where is that?", {"pattern": f"limit={limit[:-1]}"}

    return ToolResult(
        "grep",
        "grep",
        "\n".join(written) + "\n",
        written,
        frozenset(),
        frozenset(),
        _lookups(rng, rows, asks, ask),
    )


JSON_SHAPES = (orders, hits, pages, events)
LINE_SHAPES = (csv, log, diff, code, grep)


def key_values(record: dict[str, Any]) -> ToolResult:
    """Return a record of kv-retrieval: an object of many keys."""
    pairs = record["ordered_kv_records"]
    rows = tuple(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs)
    row = next(i for i, (key, _) in enumerate(pairs) if key == record["key"])
    question = f"What is the value of {record['key']}?"
    lookup = Lookup(row, Way.ID, question, {})
    text = json.dumps(dict(pairs), indent=1)
    return ToolResult("kv", "get_all", text, rows, frozenset(), frozenset(), (lookup,))


def messages(result: ToolResult, lookup: Lookup) -> list[dict[str, Any]]:
    """Return the conversation in which the tool returned this."""
    function = {"name": result.tool, "arguments": json.dumps(lookup.arguments)}
    call = {"id": "call_1", "type": "function", "function": function}
    return [
        {"role": "system", "content": "You answer with the help of tools."},
        {"role": "user", "content": lookup.question},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result.text},
    ]


def _when(rng: random.Random, second: int | None = None) -> str:
    at = rng.randrange(86_400) if second is None else 7 * second % 86_400
    day = 1 + (rng.randrange(28) if second is None else 7 * second // 86_400)
    clock = f"{at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d}"
    return f"2025-03-{day:02d}T{clock}.{rng.randrange(1000):03d}Z"


def _special(rng: random.Random, count: int) -> tuple[frozenset[int], frozenset[int]]:
    """Draw which rows are errors (one in a hundred) and which outliers (three in a thousand)."""
    chosen = rng.sample(range(count), max(1, count // 100) + max(1, 3 * count // 1000))
    return frozenset(chosen[: max(1, count // 100)]), frozenset(chosen[max(1, count // 100) :])


def _result(
    shape: str,
    tool: str,
    rows: Sequence[Row],
    special: tuple[frozenset[int], frozenset[int]],
    lookups: tuple[Lookup, ...],
) -> ToolResult:
    """Write rows as one array of JSON."""
    written = tuple(json.dumps(row, ensure_ascii=shape == "pages") for row in rows)
    return ToolResult(shape, tool, f"[{', '.join(written)}]", written, *special, lookups)


def _lookups(rng: random.Random, rows: Sequence[Row], count: int, ask: Ask) -> tuple[Lookup, ...]:
    """Ask for rows in turn by each way, at places drawn at random."""
    made = []
    for number in range(count):
        row = rng.randrange(len(rows))
        way = list(Way)[number % len(Way)]
        question, arguments = ask(rng, row, rows[row], way)
        made.append(Lookup(row, way, question, arguments))
    return tuple(made)
