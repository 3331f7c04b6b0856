"""``laconic inspect`` and ``laconic tail``: single exchanges, as the ledger knows them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.cli.reporting import dollars, wide
from proxy.errors import PolicyError
from proxy.ledger import Filter, Ledger, Prices, Reckoning
from proxy.ledger.entry import field_docs
from proxy.types import Component

_POLL_S: Final = 0.5
_ERROR: Final = 400
_PARTS: Final = tuple(
    f"{component}_{when}" for component in Component for when in ("before", "after")
)


# -- one exchange ---------------------------------------------------------------------------------


def looked_up(ledger: Ledger, request_id: str, prices: Prices) -> Reckoning:
    """Return what is known of one exchange; raises PolicyError where there is none of that id."""
    found = ledger.reckoning(request_id, prices)
    if found is None:
        wanted = "the x-laconic-request-id of an exchange"
        raise PolicyError(f"{ledger.path}: found no {request_id!r}, wanted {wanted}")
    return found


def as_json(found: Reckoning, text: Mapping[str, Any] | None) -> str:
    """Return one exchange as a JSON object: its columns, its reckoning, its text if captured."""
    told = {**found.columns, "reckoning": found.record(), "captured": text}
    return json.dumps(told, indent=2)


def show(found: Reckoning, text: Mapping[str, Any] | None, console: Console | None = None) -> None:
    """Print all that is known of one exchange, each with what it means; its reckoning, its text."""
    console = wide(console or Console())
    console.print(_columns(found.columns))
    console.print(_components(found.columns))
    if found.columns["segments"]:
        console.print(_segments(found.columns["segments"]))
    _show_money(found, console)
    if text is not None:
        _show_text(text, console)


def _show_text(text: Mapping[str, Any], console: Console) -> None:
    from proxy.cli.laying import is_plain, laid_open  # noqa: PLC0415 - slow, and seldom wanted
    from proxy.compress.show import Shown  # noqa: PLC0415

    if text["left_out"]:
        console.print(f"{text['left_out']:,} older texts were too long to be captured.")
    for leaf in map(Shown.of, text["leaves"]):
        console.print(laid_open(leaf, plain=is_plain(console)), soft_wrap=True)


def _show_money(found: Reckoning, console: Console) -> None:
    if found.price is None:
        console.print(
            f"No price is known for model {found.columns['model'] or '-'} at "
            f"{found.columns['upstream_host'] or 'an unknown host'}: tokens only. "
            "`prices` in routes.yaml can say one.",
            markup=False,
        )
        return
    console.print(_reckoned(found))
    if found.money.by_estimate:
        console.print(
            "The upstream did not report all usage: what is missing is by our own count.",
            style="dim",
        )


def _columns(columns: Mapping[str, Any]) -> Table:
    meaning = field_docs()
    shown = Table(title=f"Exchange {columns['request_id']}", show_header=False)
    for width in (None, None, 60):
        shown.add_column(max_width=width)
    for name, value in columns.items():
        if value is not None and name not in _PARTS and name != "segments":
            text = meaning[name].replace("`", "")
            shown.add_row(name, Text(_plain(value)), Text(text, style="dim"))
    return shown


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _components(columns: Mapping[str, Any]) -> Table:
    shown = Table(title="Tokens by component")
    for name in ("", "before", "after", "saved"):
        shown.add_column(name, justify="left" if not name else "right")
    for component in Component:
        before, after = (columns[f"{component}_{when}"] for when in ("before", "after"))
        shown.add_row(component, f"{before:,}", f"{after:,}", f"{before - after:,}")
    return shown


def _segments(segments: Sequence[Mapping[str, Any]]) -> Table:
    shown = Table(title="Tokens by segment")
    shown.add_column("message", justify="right")
    for name in ("component", "kind", "rule"):
        shown.add_column(name)
    for name in ("before", "after"):
        shown.add_column(name, justify="right")
    for one in segments:
        place = f"{one['message']}.{one['part']}" if one["part"] else str(one["message"])
        labels = (one["component"], one["kind"] or "", one["rule"])
        shown.add_row(place, *labels, f"{one['before']:,}", f"{one['after']:,}")
    return shown


def _reckoned(found: Reckoning) -> Table:
    source = found.price.source if found.price else ""
    shown = Table(title=f"Reckoning, by {source}", show_footer=True)
    net = f"saved, net {dollars(found.money.value)}; spent {dollars(found.money.spent)}"
    shown.add_column("", footer=net)
    for name in ("tokens", "$ per million", "$"):
        shown.add_column(name, justify="right")
    for line in found.lines:
        cells = (f"{line.tokens:,}", f"{line.per_million:f}", dollars(line.dollars))
        shown.add_row(f"{line.account}: {line.text}", *cells)
    return shown


# -- exchanges as they end ------------------------------------------------------------------------


def followed(
    ledger: Ledger,
    chosen: Filter,
    newest: int,
    *,
    follow: bool,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Mapping[str, Any]]:
    """Yield the ``newest`` exchanges that fit and, to ``follow``, each one as it is written."""
    last = ledger.last()
    for number, columns in ledger.exchanges(chosen, newest=newest):
        last = max(last, number)
        yield columns
    while follow:
        for number, columns in ledger.exchanges(chosen, after=last):
            last = number
            yield columns
        wait(_POLL_S)


def tell(exchanges: Iterable[Mapping[str, Any]], *, in_json: bool) -> None:
    """Print a line for each exchange, as they come."""
    console = Console(soft_wrap=True)
    for columns in exchanges:
        if in_json:
            typer.echo(json.dumps(columns))
        else:
            console.print(line_of(columns), highlight=False)


def line_of(columns: Mapping[str, Any]) -> Text:
    """Return one exchange as a line for people."""
    before, after = columns["tokens_before"], columns["tokens_after"]
    status = columns["status"]
    tokens = "-" if before is None else f"{before:,} -> {after:,}"
    parts = (
        (columns["started_at"][:19].replace("T", " "), "dim"),
        (f"{status or '-'}", "green" if status and status < _ERROR else "red"),
        (columns["request_id"], "dim"),
        (columns["route"] or "-", ""),
        (columns["policy"] or "-", ""),
        (columns["model"] or "-", ""),
        (tokens, "bold"),
        (columns["reason"] or "", "yellow"),
        (f"{columns['duration_ms']:,.0f} ms", ""),
    )
    return Text("  ").join(Text(text, style) for text, style in parts if text)
