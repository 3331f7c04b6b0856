"""Every benchmark in this folder that needs no file of yours, one after another: ``make bench``.

Set LACONIC_DATA to the data folder.  A benchmark that fails does not keep the others from running;
the exit code says that one did.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NOT_BY_ITSELF = frozenset(
    {"keep_head.py", "larger_lm.py", "learnt_relevance.py", "ledger_rows.py", "processes.py"}
)
"""What measures a model that you trained or another checkout, and what others run."""


def scripts() -> list[Path]:
    """Return what can be run: the modules with a main part, this one and NOT_BY_ITSELF left out."""
    left_out = {Path(__file__).name, *NOT_BY_ITSELF}
    found = (path for path in sorted(HERE.glob("*.py")) if path.name not in left_out)
    return [path for path in found if '__name__ == "__main__"' in path.read_text("utf-8")]


def main() -> int:
    """Run them; return the exit code."""
    if not os.environ.get("LACONIC_DATA"):
        print("LACONIC_DATA: found nothing, wanted the folder of the data", file=sys.stderr)
        return 2
    failed = []
    for script in scripts():
        print(f"== {script.name}", flush=True)
        started_s = time.monotonic()
        done = subprocess.run([sys.executable, str(script)], check=False)  # noqa: S603 - our own
        print(f"== {script.name}: {time.monotonic() - started_s:.0f} s, exit {done.returncode}\n")
        failed += [script.name] if done.returncode else []
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
