"""Does a larger language model choose words better?  Answers kept by methods under either, paired.

    LACONIC_DATA=... python benchmarks/larger_lm.py runs/small/exported [--write docs/lm.md]

The rows are those of ``quality.py``, kept as it keeps them; methods get the same target under both
models, and come to the same tokens.  Speed is that of one thread over the same texts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from common import records
from paired import difference, mean, table
from proxy.scorers.arithmetic import best
from proxy.scorers.causal_lm import Passage
from proxy.scorers.language_models import load_causal_lm
from published import Findings, add_outputs, publish
from quality import ROWS, Models, rows_in, run, stamp
from quality_summary import Row

METHODS = ("llmlingua", "longllmlingua", "selective context, tokens")
RATES = (0.5, 0.25, 0.125)
SETS = ("xquad_en", "nq_30docs_dev")
TEXTS = 60


def measured(language_model: str, workers: int) -> list[Row]:
    """Measure what is missing of a model's rows, and return them."""
    models = Models(language_model, None, "embedded")
    path = ROWS / f"{stamp(models)}.jsonl"
    wanted = argparse.Namespace(
        sets=SETS, methods=METHODS, rates=RATES, count=[], judged=0, workers=workers
    )
    run(wanted, models, path)
    return [
        row
        for row in rows_in(path)
        if row.set in SETS and row.method in METHODS and row.rate in RATES
    ]


def tokens_per_s(language_model: str) -> float:
    """Read some passages on one thread; return the speed."""
    model = load_causal_lm(language_model, best())
    texts = [Passage(record["gold"]["text"]) for record in records("nq_30docs_dev")[:TEXTS]]
    model.self_information(texts[:5])
    began_s = time.process_time()
    found = model.self_information(texts)
    return sum(len(one.nats) for one in found) / (time.process_time() - began_s)


def compared(tiny: Sequence[Row], larger: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return a line for each set, method and rate: answers kept under both, and the difference."""
    kept = {(row.set, row.method, row.rate, row.case): row.figures["answer"] for row in tiny}
    lines = []
    for name, method, rate in ((s, m, r) for s in SETS for m in METHODS for r in RATES):
        pairs = [
            (kept[name, method, rate, row.case] * 100, row.figures["answer"] * 100)
            for row in larger
            if (row.set, row.method, row.rate) == (name, method, rate)
        ]
        ours, theirs = zip(*pairs, strict=True)
        cells = [f"{mean(ours).value:.0f}", f"{mean(theirs).value:.0f}"]
        lines.append(
            (
                f"{name}, {method}, {rate:g}",
                [str(len(pairs)), *cells, difference(theirs, ours).told("{:+.0f}")],
            )
        )
    return lines


def main() -> None:
    """Measure both and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("language_model", help="the larger one, by name or folder")
    parser.add_argument("--workers", type=int, default=2)
    given = add_outputs(parser).parse_args()
    names = ("embedded", given.language_model)
    tiny, larger = (measured(name, given.workers) for name in names)
    rows = compared(tiny, larger)
    speeds = [tokens_per_s(name) for name in names]
    columns = ["cases", "`laconic-tiny`", "the larger one", "difference"]
    told = (
        "Answers kept, percent; in brackets the 95 % bootstrap interval of the paired difference.  "
        f"One thread reads {speeds[0]:,.0f} and {speeds[1]:,.0f} tokens a second."
    )
    text = f"{table(columns, rows)}\n\n{told}"
    publish(Findings("larger-lm", text, {"rows": rows, "tokens_per_s": speeds}), given)


if __name__ == "__main__":
    main()
