"""``laconic report``: the ledger's sums as tables, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table

from proxy.errors import PolicyError
from proxy.ledger import Between, Group, Ledger, Prices, Row
from proxy.ledger.arms import Comparison, Interval
from proxy.ledger.drift import Drift, Spread
from proxy.policy import layered, load_policies, read_policy_dir
from proxy.types import Arm

_AGE = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_PLAIN_WIDTH = 200  # columns where the output is no terminal
_BARS: Final = "▁▂▃▄▅▆▇█"
_LONGEST_LINE: Final = 30  # bars
_SHORT: Final = 2  # days, up to which a line shows hours

Spell: TypeAlias = Callable[[Row], str]


@dataclass(frozen=True, slots=True)
class Report:
    """A ledger's sums per group and in all; ``lines`` are saved tokens by time, per group."""

    path: Path
    by: Group
    between: Between
    rows: tuple[Row, ...]
    total: Row
    drift: tuple[Drift, ...] = ()
    comparison: Comparison | None = None
    step: Group = Group.DAY
    lines: Mapping[str | None, Mapping[str, int]] = field(default_factory=dict)


def moment(text: str, option: str = "--since", now: datetime | None = None) -> str:
    """Return a date, an ISO time or an age as the ledger spells times: ISO 8601, UTC.

    >>> moment("2026-03-01")
    '2026-03-01T00:00:00'
    >>> moment("36h", now=datetime(2026, 3, 2, 12, tzinfo=UTC))
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
        raise PolicyError(f"{option}: found {text!r}, wanted {wanted}") from error
    return _spelled(when if when.tzinfo else when.replace(tzinfo=UTC))


def _spelled(when: datetime) -> str:
    return when.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()


def moments(since: str | None, until: str | None) -> Between:
    """Return what ``--since`` and ``--until`` leave between them.  Raises PolicyError."""
    return Between(
        moment(since, "--since") if since else "", moment(until, "--until") if until else ""
    )


def required(path: Path | None) -> Path:
    """Return the ledger's path; raises PolicyError where the settings keep none."""
    if path is None:
        raise PolicyError("--ledger: found none, wanted a ledger written by `laconic serve`")
    return path


def prices_of(policies: Path | None) -> Prices:
    """Return the list prices, and what ``routes.yaml`` says of them.  Raises PolicyError."""
    own = {} if policies is None else read_policy_dir(policies)
    return Prices(load_policies(layered(own)).prices if own else ())


def read(path: Path, by: str, between: Between, prices: Prices | None) -> Report:
    """Read a ledger.  Raises PolicyError where there is none."""
    ledger, group = Ledger(path), Group(by)
    rows, total = ledger.table(group, between, prices)
    step, lines = _lines(ledger, group, between)
    return Report(
        path,
        group,
        between,
        tuple(rows),
        total,
        tuple(ledger.drift(between)),
        ledger.comparison(between) if group is Group.ARM else None,
        step,
        lines,
    )


def _lines(
    ledger: Ledger, by: Group, between: Between
) -> tuple[Group, Mapping[str | None, Mapping[str, int]]]:
    """Return saved tokens per group by day; by hour, where there are few days; and which it is."""
    if by in (Group.DAY, Group.HOUR):
        return by, {}
    days = ledger.series(by, Group.DAY, between)
    if len({day for line in days.values() for day in line}) > _SHORT:
        return Group.DAY, days
    return Group.HOUR, ledger.series(by, Group.HOUR, between)


# -- for machines ---------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps(
        {
            "ledger": str(report.path),
            "by": report.by,
            "since": report.between.since or None,
            "until": report.between.until or None,
            "rows": [row.record() for row in report.rows],
            "total": report.total.record(),
            "drift": [drift.record() for drift in report.drift],
            "comparison": report.comparison and report.comparison.record(),
        },
        indent=2,
    )


def as_csv(report: Report) -> str:
    """Return the rows as CSV; ``passes`` is spelled ``reason=exchanges``, separated by blanks."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(Row(None).record()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(report))
    return out.getvalue()


def to_parquet(report: Report, path: Path) -> None:
    """Write the rows as Parquet, ``passes`` spelled as in CSV.

    Raises PolicyError where pyarrow is not installed, or the file cannot be written.
    """
    try:
        from pyarrow import Table as Columns  # noqa: PLC0415 - an extra, and slow to load
        from pyarrow.parquet import write_table  # noqa: PLC0415
    except ImportError as error:
        wanted = "the extra: pip install 'laconic[parquet]'"
        raise PolicyError(f"--parquet: found no pyarrow, wanted {wanted}") from error
    try:
        write_table(Columns.from_pylist(list(_flat(report))), path)
    except OSError as error:
        raise PolicyError(f"--parquet: {path}: {error}, wanted a file to write to") from error


def _flat(report: Report) -> Iterable[dict[str, Any]]:
    for row in report.rows:
        yield row.record() | {"passes": _passes(row.passes, "=", " ")}


# -- for people -----------------------------------------------------------------------------------


def wide(console: Console) -> Console:
    """Let a console that is no terminal break no lines of a table."""
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    return console


def show(report: Report, console: Console | None = None) -> None:
    """Print the report for people."""
    console = wide(console or Console())
    console.print(table(report, console.width))
    total = report.total
    if total.passes:
        console.print(f"Passed through, or not as planned: {_passes(total.passes, ' ', ', ')}.")
    for remark in _remarks(total):
        console.print(remark, style="dim")
    if report.drift:
        console.print(drift_table(report.drift))
    if report.comparison:
        console.print(comparison_table(report.comparison))
    elif report.by is Group.ARM:
        console.print("Nothing to compare: a policy's `holdout` leaves conversations alone.")


def table(report: Report, width: int = _PLAIN_WIDTH) -> Table:
    """Return the rows as a table; columns that would hold nothing are left out.

    Where ``width`` leaves room for every cell in one line, a column is one cell of many lines: a
    table of two thousand hours is laid out in a sixth of the time.
    """
    columns = _columns(report.total)
    shown = Table(title=f"Laconic: tokens by {report.by}", show_footer=len(report.rows) > 1)
    shown.add_column(str(report.by), footer="total")
    for name, spell in columns.items():
        shown.add_column(name, justify="right", footer=spell(report.total))
    if report.lines:
        shown.add_column(f"saved, by {report.step}")
    steps = sorted({when for line in report.lines.values() for when in line})[-_LONGEST_LINE:]
    rows = []
    for row in report.rows:
        line = [bars([report.lines.get(row.key, {}).get(when, 0) for when in steps])]
        cells = [spell(row) for spell in columns.values()]
        rows.append([row.key or "-", *cells, *(line if report.lines else ())])
    if rows and _fits(shown, rows, width):
        shown.add_row(*map(_Lines, zip(*rows, strict=True), (c.justify for c in shown.columns)))
        return shown
    for cells in rows:
        shown.add_row(*cells)
    return shown


@dataclass(frozen=True, slots=True)
class _Lines:
    """The cells of a column as one renderable, which is as wide as the widest of them."""

    cells: Sequence[str]
    justify: str

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        widest = max(map(cell_len, self.cells))
        return Measurement(widest, widest)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        blanks = (" " * (options.max_width - cell_len(cell)) for cell in self.cells)
        lines = (
            blank + cell if self.justify == "right" else cell + blank
            for blank, cell in zip(blanks, self.cells, strict=True)
        )
        yield Segment("\n".join(lines))


def _fits(shown: Table, rows: Sequence[Sequence[str]], width: int) -> bool:
    """Tell whether no cell of a table would be broken: each has two blanks and a border."""
    columns = zip(*rows, strict=True)
    widest = (
        max(map(cell_len, (str(column.header), str(column.footer), *cells)))
        for column, cells in zip(shown.columns, columns, strict=True)
    )
    return sum(most + 3 for most in widest) + 1 <= width


def bars(values: Sequence[int]) -> str:
    """Return one bar a value, as high as the value is to the highest.

    >>> bars([0, 1, 4, 8])
    '▁▁▄█'
    """
    most = max([*values, 1])
    return "".join(_BARS[max(0, value) * (len(_BARS) - 1) // most] for value in values)


def _columns(total: Row) -> dict[str, Spell]:
    """Return heading -> how a row spells it."""
    columns: dict[str, Spell] = {
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
    if total.busted_tokens:
        columns["cache busted"] = lambda row: f"{row.busted_tokens:,}"
    if total.audit_saved:
        columns["audit: would save"] = lambda row: f"{row.audit_saved:,}"
    if total.money.priced:
        columns["saved $"] = lambda row: _dollars(row, row.money.value)
        columns["spent $"] = lambda row: (
            "~" * bool(row.money.by_estimate) + _dollars(row, row.money.spent)
        )
    if total.money.audit:
        columns["audit: would save $"] = lambda row: _dollars(row, row.money.audit)
    if total.reported:
        columns["upstream counted / we"] = _beside
    return columns | {"compress ms": lambda row: f"{row.compress_ms:.1f}"}


def _dollars(row: Row, amount: Decimal) -> str:
    return dollars(amount) if row.money.priced else "-"


def dollars(amount: Decimal) -> str:
    """Return an amount as people write it: to the cent, to a millionth below one dollar.

    >>> dollars(Decimal("1234.567")), dollars(Decimal("-0.000125"))
    ('$1,234.57', '-$0.000125')
    """
    size = abs(amount)
    digits = f"{size:,.2f}" if size >= 1 else f"{size:.6f}"
    return f"{'-' * (amount < 0)}${digits}"


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
    remarks += _money_remarks(total)
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


def _money_remarks(total: Row) -> list[str]:
    money, remarks = total.money, []
    if money.priced:
        remarks.append(
            "saved $: tokens saved first at the price of fresh ones, saved again at that of a "
            "cache read, less what busting a cache cost."
        )
    if money.by_estimate:
        remarks.append(
            f"spent ~: of {money.by_estimate:,} exchanges the upstream did not report all usage."
        )
    if money.unpriced:
        remarks.append(
            f"{money.unpriced:,} exchanges have no known price: their tokens are counted, their "
            "dollars are not. `prices` in routes.yaml can say them."
        )
    return remarks


def _passes(passes: Mapping[str, int], equals: str, comma: str) -> str:
    return comma.join(f"{reason}{equals}{n}" for reason, n in sorted(passes.items()))


def drift_table(drift: Sequence[Drift]) -> Table:
    """Return how far the upstream's counts are from ours, by model."""
    shown = Table(title="The upstream's count less ours, in tokens: median, and the middle half")
    for name in ("model", "untouched", "edited", "unexplained by the edits"):
        shown.add_column(name, justify="left" if name == "model" else "right")
    for one in drift:
        gap = "-" if one.unexplained is None else f"{one.unexplained:+,.1f}"
        shown.add_row(one.model or "-", _spread(one.untouched), _spread(one.edited), gap)
    return shown


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    middle = f"{spread.low:,.0f} to {spread.high:,.0f}"
    return f"{spread.median:+,.1f} ({middle}; {spread.exchanges:,})"


def comparison_table(comparison: Comparison) -> Table:
    """Return both sides' figures with their intervals."""
    shown = Table(title="What compression changes (95 % intervals)")
    shown.add_column("per exchange")
    for arm in (Arm.HELD_OUT, Arm.COMPRESSED):
        shown.add_column(
            f"{arm}: {comparison.exchanges[arm]:,} exchanges, "
            f"{comparison.conversations[arm]:,} conversations",
            justify="right",
        )
    shown.add_column("difference", justify="right")
    for one in comparison.figures:
        cells = (_interval(each) for each in (one.held_out, one.compressed, one.difference))
        shown.add_row(one.figure, *cells)
    return shown


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    value, low, high = (f"{each:,.4g}" for each in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"
