"""Fuzz one target for a while, guided by coverage; run by ``make fuzz`` in its own environment.

    .fuzz/bin/python tests/fuzz/run.py TARGET [--seconds 60]

What is new is kept in ``.fuzz/corpus``.  An input that makes a target fail is written beside the
seeds, ``tests/fuzz/corpus/TARGET/crash-*``, where the test suite runs it from then on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parent.parent / ".fuzz" / "corpus"


def main() -> None:
    """Fuzz."""
    import atheris  # noqa: PLC0415 - in the environment of `make fuzz` alone

    with atheris.instrument_imports(include=["proxy.wire"]):
        from targets import TARGETS  # noqa: PLC0415 - instrumented while it is imported
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    kept, seeds = KEPT / given.target, HERE / "corpus" / given.target
    kept.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={given.seconds}",
        f"-artifact_prefix={seeds}/",
        f"-dict={HERE / 'words.dict'}",
        "-max_len=2048",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(kept), str(seeds)], TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
