"""``laconic ledger``: exchanges out of the ledger, into other hands or for good."""

from __future__ import annotations

import csv
import json
from typing import TextIO

from proxy.errors import PolicyError
from proxy.ledger import Filter, Ledger
from proxy.ledger.capture import captured


def export(ledger: Ledger, chosen: Filter, out: TextIO, *, as_csv: bool) -> None:
    """Write the exchanges that fit, one a line, as JSON or as CSV; text that was captured too."""
    rows = (
        columns | {"captured": captured(ledger.path, columns["request_id"])}
        for _, columns in ledger.exchanges(chosen)
    )
    if not as_csv:
        out.writelines(json.dumps(row) + "\n" for row in rows)
        return
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        parts = {name: row[name] and json.dumps(row[name]) for name in ("segments", "captured")}
        writer.writerow(row | parts)


def required(chosen: Filter) -> Filter:
    """Refuse to mean everything.  Raises PolicyError."""
    if chosen == Filter():
        raise PolicyError(
            "found nothing that says which exchanges, wanted --key, --conversation or --until"
        )
    return chosen
