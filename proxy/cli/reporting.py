"""``laconic report``: the ledger's sums as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from proxy.errors import PolicyError
from proxy.ledger import Group, Ledger, Row

_AGE = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_PLAIN_WIDTH = 160  # columns where the output is no terminal


@dataclass(frozen=True, slots=True)
class Report:
    """A ledger's sums per group and in all."""

    path: Path
    by: Group
    since: str
    rows: tuple[Row, ...]
    total: Row


def moment(text: str, now: datetime | None = None) -> str:
    """Return a date, an ISO time or an age as the ledger spells times: ISO 8601, UTC.

    >>> moment("2026-03-01")
    '2026-03-01T00:00:00'
    >>> moment("36h", datetime(2026, 3, 2, 12, tzinfo=UTC))
    '2026-03-01T00:00:00'

    Raises PolicyError where it is none of these.
    """
    if age := _AGE.fullmatch(text):
        try:
            past = timedelta(**{_UNITS[age[2]]: int(age[1])})
            return _spelled((now or datetime.now(UTC)) - past)
        except OverflowError:
            return ""
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        wanted = "a date, an ISO time, or an age such as 7d, 24h or 30m"
        raise PolicyError(f"--since: found {text!r}, wanted {wanted}") from error
    return _spelled(when if when.tzinfo else when.replace(tzinfo=UTC))


def _spelled(when: datetime) -> str:
    return when.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()


def read(path: Path | None, by: str, since: str) -> Report:
    """Read a ledger.  Raises PolicyError where there is none."""
    if path is None:
        raise PolicyError("--ledger: found none, wanted a ledger written by `laconic serve`")
    ledger, group = Ledger(path), Group(by)
    return Report(path, group, since, tuple(ledger.rows(group, since)), ledger.total(since))


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps(
        {
            "ledger": str(report.path),
            "by": report.by,
            "since": report.since or None,
            "rows": [row.record() for row in report.rows],
            "total": report.total.record(),
        },
        indent=2,
    )


def as_csv(report: Report) -> str:
    """Return the rows as CSV; ``passes`` is spelled ``reason=exchanges``, separated by blanks."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(Row(None).record()), lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        record: dict[str, Any] = row.record()
        writer.writerow(record | {"passes": _passes(row.passes, "=", " ")})
    return out.getvalue()


def show(report: Report, console: Console | None = None) -> None:
    """Print the report for people."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    console.print(table(report))
    total = report.total
    if total.passes:
        console.print(f"Passed through, or not as planned: {_passes(total.passes, ' ', ', ')}.")
    for remark in _remarks(total):
        console.print(remark, style="dim")


def table(report: Report) -> Table:
    """Return the rows as a table; columns that would hold nothing are left out."""
    columns = _columns(report)
    shown = Table(title=f"Laconic: tokens by {report.by}", show_footer=len(report.rows) > 1)
    shown.add_column(str(report.by), footer="total")
    for name, spell in columns.items():
        shown.add_column(name, justify="right", footer=spell(report.total))
    for row in report.rows:
        shown.add_row(row.key or "-", *(spell(row) for spell in columns.values()))
    return shown


def _columns(report: Report) -> dict[str, Any]:
    """Return heading -> how a row spells it."""
    total = report.total
    columns: dict[str, Any] = {
        "exchanges": lambda row: f"{row.exchanges:,}",
        "compressed": lambda row: f"{row.compressed:,}",
        "before": lambda row: f"{'~' * bool(row.estimated)}{row.tokens_before:,}",
        "sent": lambda row: f"{'~' * bool(row.estimated)}{row.tokens_after:,}",
        "rate": lambda row: "-" if row.rate is None else f"{row.rate:.2f}",
        "saved first": lambda row: f"{row.first_saved:,}",
        "saved again": lambda row: f"{row.repeat_saved:,}",
    }
    if total.recalled_tokens:
        columns["recalled"] = lambda row: f"{row.recalled_tokens:,}"
    if total.audit_saved:
        columns["audit: would save"] = lambda row: f"{row.audit_saved:,}"
    if total.reported:
        columns["upstream counted / we"] = _beside
    return columns | {"compress ms": lambda row: f"{row.compress_ms:.1f}"}


def _beside(row: Row) -> str:
    """Set the upstream's count beside ours, over the exchanges that have both."""
    return f"{row.prompt_tokens:,} / {row.reported_after:,}" if row.reported else "-"


def _remarks(total: Row) -> list[str]:
    remarks = []
    if total.repeat_saved:
        remarks.append(
            "saved again: text of earlier turns, left out once more; "
            "worth only what the provider charges for a cache read."
        )
    if total.estimated:
        remarks.append(
            f"~ {total.estimated:,} exchanges were counted in an encoding that is a guess."
        )
    if total.cache_breaks:
        remarks.append(
            f"{total.cache_breaks:,} requests restored earlier turns at a cache's expense."
        )
    if total.resent:
        remarks.append(f"{total.resent:,} edited requests were refused and sent again verbatim.")
    if total.incomplete:
        remarks.append(f"{total.incomplete:,} exchanges did not end complete.")
    return remarks


def _passes(passes: Mapping[str, int], equals: str, comma: str) -> str:
    return comma.join(f"{reason}{equals}{n}" for reason, n in sorted(passes.items()))
