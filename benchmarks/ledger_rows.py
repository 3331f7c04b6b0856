"""What a row of the ledger costs to write, here and in another checkout, in turns.

    python benchmarks/ledger_rows.py ../before [--rows 60000] [--turns 5]

Rows come as the proxy's writer has them, thirty-two in a transaction, as many an hour as in
`ledger.py`; once all on a side of a comparison (arm), once none.  The least of all turns is told:
what others do at the time only adds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

from ledger import Written, entries, fill
from paired import table

DENSITY = 1_000_000
"""Rows in ninety days."""


def written(rows: int, *, compared: bool) -> Written:
    """Write rows to a ledger of their own."""
    exchanges = islice(entries(DENSITY), rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        if compared:
            return fill(path, exchanges)
        return fill(path, (replace(entry, arm=None) for entry in exchanges))


def in_checkout(checkout: Path, rows: int, side: str) -> Written:
    """Write rows with the package of a checkout, in a process of its own."""
    command = [sys.executable, __file__, str(checkout), "--rows", str(rows), "--once", side]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    told = subprocess.run(  # noqa: S603 - our own interpreter and script
        command, env=environment, check=True, capture_output=True, text=True
    )
    return Written(*map(float, told.stdout.split()))


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("before", type=Path)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--once", choices=("arm", "none"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        print(*written(asked.rows, compared=asked.once == "arm"))
        return 0
    here = Path(__file__).resolve().parent.parent
    cells = []
    for side, name in (("arm", "on a side of a comparison"), ("none", "on none")):
        turns = [
            [in_checkout(each, asked.rows, side) for each in (asked.before, here)]
            for _ in range(asked.turns)
        ]
        for which, told in zip(("before", "here"), zip(*turns, strict=True), strict=True):
            least = [min(figures) for figures in zip(*told, strict=True)]
            cells.append((f"{name}, {which}", [f"{us:.1f} us" for us in (*least, sum(least))]))
    print(table(["to insert", "for what was over", "together"], cells))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
