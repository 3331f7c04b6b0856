"""What runs the encoder fastest, and whether its numbers stay the same whatever is read beside.

    LACONIC_DATA=... python benchmarks/runtime.py [--all] [--write docs/performance.md] [--json F]

Each candidate of ``runtime_candidates.py`` whose packages are installed reads the same windows of
real text, of 60, 128 and 254 tokens, in turn with the others, one thread each.  Ratios are to
float32 in the same turn, and their medians are told.  Speed is told per second of processor time,
so that other work on the machine weighs little; what two threads side by side cost each other is
told likewise, as the processor time of a token beside that of one thread's.

Agreement: the cosine of a window with its question, less what float32 makes of it.  What a
candidate costs to import, load and hold is asked of a process of its own.  ``steady``: the same
window has the same bits in any order and beside others.  ``--all`` tries torch.compile too, which
takes minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common import records
from paired import table, write_block
from proxy.scorers.arithmetic import FP32, INT8, one_thread
from proxy.scorers.encoder import TOGETHER, EmbeddedEncoder
from proxy.scorers.machine import processor
from proxy.scorers.pooling import Ids
from runtime_candidates import Candidate, Read, candidates

LENGTHS = (60, 128, 254)
TURNS = 16
SIDE_BY_SIDE = 2
SHORT = (20, 60, 100, 128, 200)  # windows that are read together
BLOCK, TOGETHER_BLOCK = "runtime", "runtime-together"


@dataclass(frozen=True)
class Cost:
    """What a process pays for a candidate."""

    import_s: float
    load_s: float
    memory_mib: float
    steady: bool


@dataclass
class Figures:
    """What one candidate did: by length, per turn."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    beside: list[float] = field(default_factory=list)  # cost of a token in two threads / in one
    apart: list[float] = field(default_factory=list)  # of cosines
    cost: Cost | None = None


def main() -> None:
    """Measure, print the tables, and write them where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="torch.compile, too")
    parser.add_argument("--write", type=Path, help="the file whose tables are replaced")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--cost", help=argparse.SUPPRESS)  # this process is one candidate's
    args = parser.parse_args()
    one_thread()
    if args.cost:
        print(json.dumps(asdict(cost_here(args.cost))))
        return
    tried = [c for c in candidates() if not c.missing and (args.all or not c.slow)]
    names = {candidate.name for candidate in tried}
    for candidate in candidates():
        if candidate.name not in names:
            print(f"not tried: {candidate.name} {candidate.missing}", file=sys.stderr)
    figures = measure(tried)
    for candidate in tried:
        figures[candidate.name].cost = cost(candidate)
    texts = {BLOCK: told(figures), TOGETHER_BLOCK: together()}
    print("\n\n".join(texts.values()))
    if args.json:
        args.json.write_text(json.dumps({n: asdict(f) for n, f in figures.items()}, indent=1))
    for name, text in texts.items():
        if args.write:
            write_block(args.write, name, text)


def measure(tried: Sequence[Candidate]) -> dict[str, Figures]:
    """Let the candidates read the same windows in turn."""
    reads = {candidate.name: candidate.load() for candidate in tried}
    figures = {name: Figures() for name in reads}
    for length in LENGTHS:
        for window, question in windows(length):
            base: float | None = None
            for name, read in reads.items():
                found = figures[name]
                spent, states = timed(read, window)
                found.seconds.setdefault(length, []).append(spent)
                near = cosine(states.mean(axis=0), read(question).mean(axis=0))
                base = near if base is None else base
                found.apart.append(near - base)
    passages = [window for window, _ in windows(128)]
    for _ in range(3):
        for name, read in reads.items():
            one, two = (pace(read, passages, threads) for threads in (1, SIDE_BY_SIDE))
            figures[name].beside.append(one / two)
    return figures


def windows(length: int) -> list[tuple[Ids, Ids]]:
    """Return windows of so many tokens of running text, and a question for each."""
    encoder = EmbeddedEncoder(runtime=FP32)
    found = []
    for record in records("nq_30docs_dev")[:TURNS]:
        text = " ".join(passage["text"] for passage in [record["gold"], *record["distractors"]])
        ids = encoder.tokenise(text).ids
        found.append((ids[:length], encoder.tokenise(record["question"]).ids))
    return found


def timed(read: Read, window: Ids) -> tuple[float, NDArray[np.float32]]:
    """Read once to warm up, and once more by the processor's clock."""
    read(window)
    started_s = time.process_time()
    states = read(window)
    return time.process_time() - started_s, states


def pace(read: Read, passages: Sequence[Ids], threads: int) -> float:
    """Return tokens per second of processor time, of ``threads`` that share the passages out."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, passages[:threads]))
        started_s = time.process_time()
        tokens = sum(len(states) for states in pool.map(read, passages))
        return tokens / (time.process_time() - started_s)


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the cosine of two vectors."""
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def cost(candidate: Candidate) -> Cost:
    """Ask a process of its own what a candidate costs."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, __file__, "--cost", candidate.name],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def cost_here(name: str) -> Cost:
    """Import, load and read; torch, which is here in any case, is counted as nothing."""
    candidate = next(c for c in candidates() if c.name == name)
    before_mib, started_s = _resident_mib(), time.perf_counter()
    for needed in candidate.needs:
        __import__(needed)
    imported_s = time.perf_counter()
    read = candidate.load()
    loaded_s = time.perf_counter()
    draw = np.random.default_rng(0)
    drawn = [draw.integers(200, 30_000, size=n) for n in (3, 17, 40, 90, 128, 200, 254)]
    alone = [read(window).tobytes() for window in drawn]
    memory_mib = _resident_mib() - before_mib
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        beside = [states.tobytes() for states in pool.map(read, drawn[::-1])][::-1]
    return Cost(imported_s - started_s, loaded_s - imported_s, memory_mib, alone == beside)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def told(figures: dict[str, Figures]) -> str:
    """Return the table of candidates."""
    base = next(iter(figures.values()))
    rows = []
    for name, found in figures.items():
        ratios = [
            np.median(np.array(base.seconds[n]) / np.array(found.seconds[n])) for n in LENGTHS
        ]
        apart = np.abs(found.apart)
        paid = found.cost or Cost(0, 0, 0, steady=False)
        speeds = [
            f"{n / np.median(found.seconds[n]):,.0f} ({ratio:.2f})"
            for n, ratio in zip(LENGTHS, ratios, strict=True)
        ]
        cells = [
            *speeds,
            f"{np.median(found.beside):.2f}",
            f"{apart.mean():.4f} / {apart.max():.4f}",
            f"{paid.import_s:.1f} + {paid.load_s:.1f}",
            f"{paid.memory_mib:,.0f}",
            "yes" if paid.steady else "no",
        ]
        rows.append((name, cells))
    columns = [
        *(f"{n} tokens" for n in LENGTHS),
        "two threads",
        "cosines apart, mean / most",
        "import + load, s",
        "MiB",
        "steady",
    ]
    here = processor()
    version = torch.__version__.partition("+")[0]
    lines = f"{here.name}, {here.capability} ({', '.join(here.features)}), torch {version}."
    return f"{lines}\n\n{table(columns, rows)}"


def together() -> str:
    """Return the table of windows that int8 reads in one call."""
    encoder = EmbeddedEncoder(runtime=INT8)
    rows = []
    for length in SHORT:
        group = max(1, TOGETHER.most // length)
        ratios = []
        for window, _ in windows(length):
            beside = [window] * group
            for read in (encoder.read_together, lambda each: [encoder.read(w).final for w in each]):
                read(beside)
            started_s = time.process_time()
            found = encoder.read_together(beside)
            middle_s = time.process_time()
            alone = [encoder.read(each).final for each in beside]
            ratios.append((time.process_time() - middle_s) / (middle_s - started_s))
            if not all(map(np.array_equal, found, alone)):
                raise AssertionError(f"{length} tokens: found other bits together than alone")
        rows.append((f"{length} tokens", [str(group), f"{np.median(ratios):.2f}"]))
    return table(["windows in a call", "speed, together / alone"], rows)


if __name__ == "__main__":
    main()
