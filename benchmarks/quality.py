"""Compare every method and baseline at equal achieved tokens, on all dev sets.

    LACONIC_DATA=... python benchmarks/quality.py --write

measures, rewrites the tables of docs/quality.md and the plots beside it, in about half an hour on
two cores.  It wants the ``bench`` extra (matplotlib, regex).  An interrupted run goes on where it
was; ``--rebuild`` makes tables and plots of what docs/data holds.  Small runs while developing:
``--sets nq_30docs_dev --count nq_30docs_dev=2 --rates .5 .25 --methods cascade head``.

Each case is shortened by every contender to every rate; documents' vectors and self-information,
which do not depend on the rate, are computed once a case.  Likelihoods are judged at the rates that
the tables tell, once for equal prompts.  Rows go to build/quality, under the name
of the models that made them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from contenders import Bench, Contender, Output, contenders
from judge import Judge
from metrics import (
    aligned,
    answer_kept,
    broken,
    corrupt,
    demonstrations_whole,
    joined_names,
    parses,
    retained,
    stands_verbatim,
    words_kept,
)
from proxy.scorers.language_models import load_causal_lm
from quality_docs import JUDGED_RATES, write_docs
from quality_plots import write_plots
from quality_summary import Row, Summary, summarised
from sets import SETS, Case

RATES = (0.75, 0.5, 0.33, 0.25, 0.125, 0.0625)
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "data" / "quality.json"
ROWS = ROOT / "build" / "quality"


# -- one case -----------------------------------------------------------------------------------


def figures(case: Case, output: Output, judge: Judge | None) -> dict[str, float]:
    """Return what is left of a case, each figure only where it makes sense."""
    left = case.context_of(output.message)
    found: dict[str, float] = {}
    if case.answers:
        found["answer"] = answer_kept(left, case.answers)
    if case.evidence:
        found["evidence"] = stands_verbatim(case.evidence, left)
    if case.relevant:
        found["words"] = words_kept(case.prompt(case.context), case.relevant, _kept(case, output))
    if case.demonstrations:
        found["demonstrations"] = demonstrations_whole(case.demonstrations, left)
    if case.is_json:
        found["json"] = parses(left)
    if judge and case.judged:
        verdict = judge.compare(case.prompt(case.context), output.message, f" {case.judged}")
        found |= {"nll": verdict.nll_difference, "kl": verdict.kl}
    return {key: float(value) for key, value in (found | _items(case, left)).items()}


def _items(case: Case, left: str) -> dict[str, float]:
    shares = retained(case.context, left)
    altered = corrupt(case.context, left)
    return {
        **{kind: share for kind, share in shares.items() if share is not None},
        "corrupt": sum(map(len, altered.values())),
        "joined": len(joined_names(case.context, left)),
        "broken": broken(case.context, left),
    }


def _kept(case: Case, output: Output) -> Sequence[Any]:
    """Return the kept characters of the message; by alignment where the contender does not say."""
    message = case.prompt(case.context)
    if output.kept is not None:
        return output.kept
    return aligned(message, output.message)


# -- all cases ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Models:
    """What every worker loads."""

    language_model: str
    classifier: str | None
    judge: str


@dataclass(frozen=True)
class Task:
    """One case, and what is still to be measured on it."""

    models: Models
    set: str
    case: int
    count: int
    judged: bool
    wanted: tuple[tuple[str, float], ...]


@cache
def bench_of(models: Models) -> tuple[Bench, Judge, dict[str, Contender]]:
    """Load the models, once a process."""
    bench = Bench(models.language_model, models.classifier)
    judge = Judge(load_causal_lm(models.judge))
    return bench, judge, contenders(classifier=models.classifier is not None)


@cache
def cases_of(name: str, count: int) -> list[Case]:
    """Read a set, once a process."""
    return SETS[name].cases(count)


def measure(task: Task) -> list[Row]:
    """Measure one case."""
    bench, judge, chosen = bench_of(task.models)
    case = cases_of(task.set, task.count)[task.case]
    bench.forget_unless(case.documents)
    return [
        _row(task, case, method, rate, bench, chosen[method], judge if judged else None)
        for method, rate in task.wanted
        for judged in [task.judged and rate in JUDGED_RATES]
    ]


def _row(
    task: Task,
    case: Case,
    method: str,
    rate: float,
    bench: Bench,
    contender: Contender,
    judge: Judge | None,
) -> Row:
    started_s = time.perf_counter()
    output = contender(bench, case, rate)
    taken_ms = (time.perf_counter() - started_s) * 1000
    return Row(
        set=task.set,
        case=task.case,
        method=method,
        rate=rate,
        before=output.before,
        after=output.after,
        reason=output.reason and str(output.reason),
        figures=figures(case, output, judge),
        ms=round(taken_ms, 1),
    )


def tasks(options: argparse.Namespace, models: Models, done: Iterable[Row]) -> Iterator[Task]:
    """Yield what is still to be done, set by set."""
    made = {(row.set, row.case, row.method, row.rate) for row in done}
    methods = options.methods or list(contenders(classifier=models.classifier is not None))
    counts = dict(pair.split("=") for pair in options.count)
    for name in options.sets:
        count = int(counts.get(name, SETS[name].count))
        for case in range(len(cases_of(name, count))):
            pairs = product(methods, options.rates)
            wanted = tuple(pair for pair in pairs if (name, case, *pair) not in made)
            if wanted:
                yield Task(models, name, case, count, case < options.judged, wanted)


def rows_in(path: Path) -> list[Row]:
    """Read the rows that earlier runs left; a line cut short by an interruption is skipped."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Row(**json.loads(line)) for line in lines if line.endswith("}")]


def run(options: argparse.Namespace, models: Models, path: Path) -> None:
    """Measure what is missing; every case's rows are written when it is done."""
    todo = list(tasks(options, models, rows_in(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # one core a worker
    started_s = time.monotonic()
    with (
        path.open("a", encoding="utf-8") as out,
        multiprocessing.get_context("spawn").Pool(options.workers) as pool,
    ):
        for number, rows in enumerate(pool.imap_unordered(measure, todo), 1):
            out.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
            out.flush()
            taken_s = time.monotonic() - started_s
            spent_s = sum(row.ms for row in rows) / 1000
            print(
                f"{taken_s:6.0f} s  {number}/{len(todo)}  {rows[0].set} {rows[0].case}: "
                f"{len(rows)} rows, {spent_s:.1f} s in methods",
                flush=True,
            )


def stamp(models: Models) -> str:
    """Name what rows depend on: the models, by content."""
    named = [load_causal_lm(models.language_model).revision, load_causal_lm(models.judge).revision]
    text = "\n".join([*named, str(models.classifier)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def told(models: Models) -> dict[str, str | None]:
    """Name models for the page: a folder by its last part; where it lies is nobody's affair."""
    return {part: name and Path(name).name for part, name in asdict(models).items()}


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    add("--methods", nargs="*", help="contenders by name; all where not given")
    add("--rates", nargs="*", type=float, default=list(RATES))
    add("--count", nargs="*", default=[], metavar="SET=N", help="cases of a set")
    add("--judged", type=int, default=10, help="cases a set that are judged by likelihood")
    add("--workers", type=int, default=2)
    add("--language-model", default="embedded")
    add("--classifier", help="for llmlingua2; left out without one")
    add("--judge", default="embedded", help="causal LM for likelihoods; better another one")
    add("--write", action="store_true", help="rewrite docs/quality.md, its plots and docs/data")
    add("--rebuild", action="store_true", help="rewrite docs and plots from docs/data, no run")
    add("--fresh", action="store_true", help="measure again what was measured")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write where asked."""
    options = parsed()
    if not options.rebuild:
        models = Models(options.language_model, options.classifier, options.judge)
        path = ROWS / f"{stamp(models)}.jsonl"
        if options.fresh:
            path.unlink(missing_ok=True)
        run(options, models, path)
        summary = summarised(rows_in(path), told(models))
        if options.write:
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(summary.to_json(), encoding="utf-8")
    if options.write or options.rebuild:
        summary = Summary.from_json(RESULTS.read_text(encoding="utf-8"))
        write_docs(summary, ROOT / "docs" / "quality.md")
        write_plots(summary, ROOT / "docs" / "plots")


if __name__ == "__main__":
    main()
