"""How much memory a prompt takes while it is compressed: it must grow no faster than the prompt.

    LACONIC_DATA=... python benchmarks/memory.py [--most 128000]

Each size has a process of its own, so that nothing is left over from another; what is told is the
most that the process held, less what it held with the model loaded and a small prompt done.  The
memo is as large as it is in production.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping

from paired import table
from published import Findings, add_outputs, progress, publish
from scale import slope
from workshop import Passages, sizes, workshop

LEAST = 4_000
MIB = 1024 * 1024


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


async def one(policy: str, threads: int, tokens: int) -> dict[str, float]:
    """Compress one prompt in this process; return what that took."""
    passages = Passages()
    small, large = passages.prompt(1_000, seed=1), passages.prompt(tokens, seed=2)
    async with workshop(policy, threads) as house:
        await house.prepare(small)
        before = peak_bytes()
        timed = await house.prepare(large)
    return {
        "tokens": float(timed.prepared.outcome.tokens_before or 0),
        "before_bytes": float(before),
        "added_bytes": float(peak_bytes() - before),
    }


def in_a_process(policy: str, threads: int, tokens: int) -> dict[str, float]:
    """Do the same in a process of its own."""
    command = [sys.executable, __file__, "--policy", policy, "--threads", str(threads)]
    done = subprocess.run(  # noqa: S603 - ourselves
        [*command, "--one", str(tokens)], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(found: Mapping[int, Mapping[str, float]], policy: str) -> Findings:
    """Return the table."""
    added = [one["added_bytes"] for one in found.values()]
    tokens = [one["tokens"] for one in found.values()]
    growth = slope(tokens, [max(1.0, each) for each in added])
    rows = [
        ("added, MiB", [f"{each / MIB:,.0f}" for each in added]),
        ("a token, KiB", [f"{each / n / 1024:.1f}" for each, n in zip(added, tokens, strict=True)]),
    ]
    before = max(one["before_bytes"] for one in found.values()) / MIB
    text = (
        f"{table([f'{size:,} tokens' for size in found], rows)}\n\n"
        f"Growth {growth:.2f} (1 is linear).  Policy `{policy}`; the process without the prompt,"
        f" model loaded: {before:,.0f} MiB."
    )
    return Findings("memory", text, {"sizes": found, "growth": growth})


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most", type=int, default=128_000)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = add_outputs(parser).parse_args()
    if given.one:
        print(json.dumps(asyncio.run(one(given.policy, given.threads, given.one))))
        return
    found = {}
    for size in sizes(LEAST, given.most):
        progress(f"{size} tokens")
        found[size] = in_a_process(given.policy, given.threads, size)
    publish(report(found, given.policy), given)


if __name__ == "__main__":
    main()
