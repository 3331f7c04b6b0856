"""The tables of docs/quality.md, made of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from contenders import BASELINES, OWN
from paired import replace_between
from quality_plots import plot_name
from quality_summary import COUNTED, TOLERANCE, Cell, Estimate, Summary
from sets import HEADLINES, SETS

BEGIN: Final = "<!-- benchmarks/quality.py writes from here -->"
END: Final = "<!-- to here -->"
MIDDLE_RATE: Final = 0.25
"""At which rate methods are compared over all sets."""
JUDGED_RATES: Final = (0.5, MIDDLE_RATE)
"""At which rates likelihoods are told."""

ITEMS: Final = {
    "evidence": "evidence",
    "number": "numbers",
    "name": "names",
    "negation": "negations",
    "url": "URLs",
    "identifier": "identifiers",
}
"""Figure -> what its column is called."""


def write_docs(summary: Summary, path: Path) -> None:
    """Put the tables between the marks of a page."""
    try:
        replace_between(path, BEGIN, END, f"\n\n{page(summary)}\n\n")
    except ValueError as error:
        raise SystemExit(f"{path}: found no marks, wanted {BEGIN} and {END}") from error


def page(summary: Summary) -> str:
    """Return all tables, each under its heading."""
    return "\n\n".join(
        [
            *_preamble(summary),
            *(section(summary, name) for name in summary.sets),
            _differences(summary),
            _items(summary),
            _likelihoods(summary),
            _errors(summary),
        ]
    )


def _preamble(summary: Summary) -> Iterator[str]:
    models = summary.models
    same = models["judge"] == models["language_model"]
    judge = "the same model" if same else _named(models["judge"])
    yield (
        f"Causal LM: {_named(models['language_model'])}; judge of likelihoods: {judge}.\n"
        "In brackets the 95 % bootstrap interval over cases.\n"
        f"† marks what is not at equal tokens: the achieved rate, which follows, was more than "
        f"{TOLERANCE:.2f} from the one asked for in some case.\n"
        "‡ marks where some case ended in a named outcome, its target out of reach: "
        "`budget-infeasible` (the text passed whole) or `forced-over-budget`."
    )
    if models["classifier"] is None:
        yield "`llmlingua2` is left out: it needs a classifier, and none travels in the package."


def _named(model: str | None) -> str:
    return "`laconic-tiny`" if model == "embedded" else f"`{model}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are figures.

    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _method(name: str) -> str:
    return f"**{name}**" if name == OWN else name


def _ordered(summary: Summary) -> list[str]:
    """Return the methods, baselines last."""
    return sorted(summary.methods, key=lambda method: method in BASELINES)


def _shown(summary: Summary, name: str) -> list[str]:
    """Return the methods that were measured on a set."""
    rates = summary.rates
    return [m for m in _ordered(summary) if any(summary.at(name, m, rate) for rate in rates)]


def _part(heading: str, told: str, shown: str) -> str:
    return f"### {heading}\n\n{told}\n\n{shown}"


# -- a set --------------------------------------------------------------------------------------


def section(summary: Summary, name: str) -> str:
    """Return what a set came to: a plot, and the table that it was drawn from."""
    about = SETS[name]
    rows = [
        [_method(method), *(_headline(summary.at(name, method, rate)) for rate in summary.rates)]
        for method in _shown(summary, name)
    ]
    cases = max(cell.cases for cell in summary.cells if cell.set == name)
    figure = HEADLINES[about.headline]
    image = f"![{about.title}: {figure} over achieved rate](plots/{plot_name(name)})"
    told = f"{figure[0].upper()}{figure[1:]}, percent; {cases} cases.\n\n{image}"
    return _part(about.title, told, table(["method", *map(_rate, summary.rates)], rows))


def _headline(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    off = f" †{_rate(round(cell.achieved, 3))}" if cell.off else ""
    return f"{percent(cell.headline)}{off}{'‡' if cell.missed else ''}"


def percent(found: Estimate) -> str:
    """Return a mean with its interval, in percent.

    >>> percent((0.5, 0.25, 0.75)), percent((1.0, 1.0, 1.0))
    ('50 (25-75)', '100')
    """
    mean, low, high = (100 * value for value in found)
    return f"{mean:.0f}" if low == high else f"{mean:.0f} ({low:.0f}-{high:.0f})"


def _rate(rate: float) -> str:
    return f"{rate:g}".removeprefix("0")


# -- over all sets ------------------------------------------------------------------------------


def _differences(summary: Summary) -> str:
    rows = [
        [_method(m), *(_difference(summary.at(name, m, MIDDLE_RATE)) for name in summary.sets)]
        for m in _ordered(summary)
        if m != OWN
    ]
    return _part(
        f"Against the cascade, at rate {_rate(MIDDLE_RATE)}",
        "Points of each set's figure less the cascade's on the same cases, with the paired 95 % "
        "interval; † as above.",
        table(["method", *summary.sets], rows),
    )


def _difference(cell: Cell | None) -> str:
    if cell is None or cell.difference is None:
        return ""
    mean, low, high = (100 * value for value in cell.difference)
    off = " †" if cell.off else ""
    return f"{mean:+.0f} ({low:+.0f} to {high:+.0f}){off}" if low != high else f"{mean:+.0f}{off}"


def _items(summary: Summary) -> str:
    """Return what else is left, over all sets at once, and what was altered."""
    rows = []
    for method in _ordered(summary):
        cells = [cell for cell in summary.cells if cell.method == method]
        middle = [cell for cell in cells if cell.rate == MIDDLE_RATE]
        means = (_mean(middle, key) for key in ITEMS)
        rows.append([_method(method), *means, *(_total(cells, key) for key in COUNTED)])
    return _part(
        f"What else is left, at rate {_rate(MIDDLE_RATE)}",
        "Percent of the context's distinct items that are there in the same form, mean over sets; "
        "evidence is the whole sentence that holds the answer, verbatim.\n"
        "The last three are counts over all sets and rates.\n"
        "Corrupt: numbers, URLs, e-mail addresses, identifiers and negations that the context did "
        "not have in that form.\n"
        "Joined names: what lay between is gone "
        '("Anna Lund met Karl Holm" becomes "Anna Lund Karl Holm"), as happens where words go.\n'
        "Broken: characters that the context did not have.",
        table(["method", *ITEMS.values(), "corrupt", "joined names", "broken"], rows),
    )


def _mean(cells: Sequence[Cell], key: str) -> str:
    found = [cell.figures[key] for cell in cells if key in cell.figures]
    return f"{100 * sum(found) / len(found):.0f}" if found else ""


def _total(cells: Sequence[Cell], key: str) -> str:
    return f"{sum(cell.figures[key] for cell in cells):.0f}"


def _likelihoods(summary: Summary) -> str:
    judged = list(dict.fromkeys(cell.set for cell in summary.cells if "nll" in cell.estimates))
    columns = [(name, rate) for name in judged for rate in JUDGED_RATES]
    rows = [
        [_method(m), *(_likelihood(summary.at(name, m, rate)) for name, rate in columns)]
        for m in _ordered(summary)
    ]
    return _part(
        "Likelihood of the answer",
        "Nats per token of the answer: how much less likely it became (NLL after the compressed "
        "prompt less NLL after the original, with its interval); and KL(compressed || original).\n"
        "A prompt longer than the judge's window is read from its end.",
        table(["method", *(f"{name} {_rate(rate)}" for name, rate in columns)], rows),
    )


def _likelihood(cell: Cell | None) -> str:
    if cell is None or "nll" not in cell.estimates:
        return ""
    nll, low, high = cell.estimates["nll"]
    return f"{nll:+.2f} ({low:+.2f} to {high:+.2f}); {cell.estimates['kl'][0]:.2f}"


def _errors(summary: Summary) -> str:
    rows = [
        [_method(method), *(f"{100 * error:+.2f}" for error in summary.errors[method])]
        for method in _ordered(summary)
    ]
    return _part(
        "Rate error by length",
        "Achieved rate less the one asked for, in hundredths: the mean over all rates, in ten "
        "groups of equally many cases by context tokens.",
        table(["method", *(f"to {length:,}" for length in summary.lengths)], rows),
    )
