"""The ledger: one canonical record per exchange, the places it is written to, and its reader.

No prompt text and no credential is ever part of an entry (law 11).
"""

from proxy.ledger.entry import Ended, LedgerEntry, hash_api_key, outcome_fields
from proxy.ledger.query import Group, Ledger, Row
from proxy.ledger.sinks import Clerk, LogSink, Sink
from proxy.ledger.sqlite import SqliteSink

__all__ = [
    "Clerk",
    "Ended",
    "Group",
    "Ledger",
    "LedgerEntry",
    "LogSink",
    "Row",
    "Sink",
    "SqliteSink",
    "hash_api_key",
    "outcome_fields",
]
