"""What a benchmark found, given out: a table on the terminal, JSON in a file, a block of a page.

parser = argparse.ArgumentParser(description=__doc__)
given = add_outputs(parser).parse_args()
publish(Findings("scale", table, figures), given)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paired import write_block

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@dataclass(frozen=True)
class Findings:
    """A benchmark's name, which is that of its block on the page, its table, its figures."""

    name: str
    text: str  # markdown
    figures: Mapping[str, Any]


def add_outputs(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let the caller say where findings go."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help=f"put the table into a page: {PAGE.name}"
    )
    return parser


def publish(findings: Findings, given: argparse.Namespace) -> None:
    """Print the table, and write what was asked for."""
    print(findings.text)
    if given.json:
        found = {"benchmark": findings.name, "machine": machine(), **findings.figures}
        given.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if given.write:
        write_block(given.write, findings.name, findings.text)


def machine() -> str:
    """Say what was measured on: the processor, its cores, Python."""
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if "model name" in line]
    return next((name for name in names if name), platform.machine())


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of them do not exceed.

    >>> quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5)
    3.0
    """
    return float(np.quantile(np.asarray(values, dtype=float), share))


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return quantile(values, 0.5)


def progress(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)
