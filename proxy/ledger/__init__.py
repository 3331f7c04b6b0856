"""The ledger: one canonical record per exchange, the places it is written to, and its reader.

No credential is ever part of an entry and no prompt text, but where a person turned capture on for
the route (law 11).
"""

from proxy.ledger.economics import Money, Price, Prices, Sold
from proxy.ledger.entry import Ended, LedgerEntry, hash_api_key, outcome_fields, rate_of, spelt
from proxy.ledger.files import Bounds
from proxy.ledger.query import Between, Filter, Group, Ledger, Reckoning, Row
from proxy.ledger.sinks import Clerk, LogSink, Sink
from proxy.ledger.sqlite import SqliteSink

__all__ = [
    "Between",
    "Bounds",
    "Clerk",
    "Ended",
    "Filter",
    "Group",
    "Ledger",
    "LedgerEntry",
    "LogSink",
    "Money",
    "Price",
    "Prices",
    "Reckoning",
    "Row",
    "Sink",
    "Sold",
    "SqliteSink",
    "hash_api_key",
    "outcome_fields",
    "rate_of",
    "spelt",
]
