"""Ledger entries for tests of whoever reads them."""

from proxy.ledger import LedgerEntry, SqliteSink, outcome_fields, spelt
from proxy.types import Component, Count, Mode, Outcome

SAVED = Outcome(
    "rag",
    Mode.ON,
    tokens_before=1000,
    tokens_after=400,
    components={Component.CONTEXT: Count(900, 300), Component.QUESTION: Count(100, 100)},
    encoding="o200k_base",
    first_saved=500,
    repeat_saved=100,
    compress_ms=20.0,
)


def entry(number, at, **changed):
    """An exchange that began at a time and was compressed; ``changed`` fields are others."""
    fields = {
        "request_id": f"r{number}",
        "started_at": spelt(at),
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "model": "gpt-4o",
        "prompt_tokens": 410,
        "cached_tokens": 200,
        **outcome_fields(SAVED),
    }
    return LedgerEntry(**(fields | changed))


def write(path, *entries):
    """Write entries to a ledger's file, to the end."""
    sink = SqliteSink(path)
    for each in entries:
        sink.write(each)
    sink.close()
