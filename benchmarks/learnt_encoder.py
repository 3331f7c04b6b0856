"""Compare relevance with encoders whose last layers were trained against relevance as it ships.

    LACONIC_DATA=... python benchmarks/learnt_encoder.py runs/encoder/half [FOLDER ...]

Answers kept at equal budgets, on the dev sets, under ``rag`` and, for follow-ups, ``default``; the
difference with its paired 95 % bootstrap interval.  ``training/train_encoder.py`` writes the
encoders.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from common import Pipeline
from learnt_relevance import kept, trials
from paired import difference
from proxy.scorers.encoder import EmbeddedEncoder


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("encoders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--cases", type=int, default=250)
    parser.add_argument("--sets", nargs="*", help="by name; all of them where not given")
    options = parser.parse_args()
    shipped = Pipeline()
    others = {folder.name: Pipeline(EmbeddedEncoder(folder)) for folder in options.encoders}
    print("| set | policy | encoder | as it ships | trained | difference, points |")
    print("|---|---|---|---|---|---|")
    for name, cases, chosen, rate in trials(options.cases):
        if options.sets and name not in options.sets:
            continue
        under = chosen if rate is None else f"{chosen} {rate}"
        plain = [100.0 * kept(shipped, case, chosen, rate) for case in cases]
        for encoder, pipeline in others.items():
            found = [100.0 * kept(pipeline, case, chosen, rate) for case in cases]
            apart = difference(found, plain).told("{:+.1f}")
            means = f"{np.mean(plain):.1f} | {np.mean(found):.1f}"
            print(f"| {name} | {under} | {encoder} | {means} | {apart} |", flush=True)


if __name__ == "__main__":
    main()
