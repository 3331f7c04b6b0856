"""How a report is laid out."""

from io import StringIO

import pytest
from rich.console import Console

from proxy.cli.reporting import Report, table
from proxy.ledger import Between, Group, Row

ROWS = (
    Row("retrieval", exchanges=1_234_567, tokens_before=10, tokens_after=3, compress_ms=1.25),
    Row(None, exchanges=1),
    Row("路線", exchanges=22, estimated=1, tokens_before=9),
)


def laid_out(rows, room, width, lines=None):
    """What a console of some width shows of a table that was made for so much room."""
    report = Report(
        None, Group.ROUTE, Between(), rows, Row("total", exchanges=9), lines=lines or {}
    )
    console = Console(file=StringIO(), width=width)
    console.print(table(report, room))
    return console.file.getvalue()


@pytest.mark.parametrize("lines", [None, {None: {"2026-03-01": 1}, "路線": {"2026-03-02": 7}}])
@pytest.mark.parametrize("rows", [(), ROWS[:1], ROWS])
def test_columns_of_one_cell_look_like_rows_of_cells(rows, lines):
    assert laid_out(rows, 200, 200, lines) == laid_out(rows, 0, 200, lines)


def test_cells_that_do_not_fit_are_broken_within_their_row():
    assert laid_out(ROWS, 60, 60) == laid_out(ROWS, 0, 60)
    assert laid_out(ROWS, 200, 60) != laid_out(ROWS, 0, 60)


def test_a_table_just_fits_where_it_is_as_wide_as_the_console():
    width = max(map(len, laid_out(ROWS[:2], 0, 200).splitlines()))
    for room in (width - 1, width, width + 1):
        assert laid_out(ROWS[:2], room, room) == laid_out(ROWS[:2], 0, room)
