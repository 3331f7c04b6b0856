"""What ``reference.py`` measured, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paired import Estimate, difference, ratio, table


@dataclass(frozen=True)
class Side:
    """What one side made of one case."""

    tokens: int  # of the context, upstream's
    seconds: float
    processor_seconds: float  # what it computed meanwhile: others' work does not count
    kept: bool  # the answer, word for word
    nll: float  # nats per token of the answer, after the compressed prompt
    cropped: bool  # the judge could not hold all of it


@dataclass(frozen=True)
class Trial:
    """One case at one rate, on all sides."""

    before: int  # upstream tokens of the context
    prompt_tokens: int  # of context and question
    question_tokens: int
    whole_nll: float  # of the answer, after the prompt as it was
    chance: float  # that whole documents drawn at random keep the answer
    read: int  # tokens that went through the reference's model
    reference: Side
    ours: Side  # at the reference's tokens, as it ships
    fp32: Side | None = None  # the same in float32, if it was tried
    aligned: Side | None = None  # the reference with its alignment mended, likewise
    ours_again: Side | None = None  # ours at the tokens of that


Figure = Callable[[Sequence[Trial]], str]


def report(
    found: Mapping[str, Sequence[Trial]], model: str, judge: str, versions: Mapping[str, str]
) -> str:
    """Return the table, a column per set and rate, with what it was measured with."""
    rows = [(name, [figure(trials) for trials in found.values()]) for name, figure in ROWS.items()]
    made_of = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{table(list(found), rows)}\n\n"
        f"Ours: `{model}`.\n"
        f"The reference: {made_of}, float32, the same weights.\n"
        f"Judge of the answers: `{judge}`.\n"
    )


def speedup(trials: Sequence[Trial], side: str, clock: str = "processor_seconds") -> Estimate:
    """Return how many times as fast as the reference a side is."""
    return ratio(_each(trials, "reference", clock), _each(trials, side, clock))


def _each(trials: Sequence[Trial], side: str, figure: str) -> list[float]:
    return [float(getattr(getattr(trial, side), figure)) for trial in trials]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _speed(side: str) -> Figure:
    def told(trials: Sequence[Trial]) -> str:
        if not _tried(trials, side):
            return ""
        spent = sum(_each(trials, side, "processor_seconds"))
        return f"{sum(trial.before for trial in trials) / spent:,.0f}"

    return told


def _speedup(side: str, clock: str = "processor_seconds") -> Figure:
    return lambda trials: (
        speedup(trials, side, clock).told("{:.2f}") if _tried(trials, side) else ""
    )


def _both(figure: str, form: str, theirs: str, ours: str, scale: float = 1.0) -> Figure:
    def told(trials: Sequence[Trial]) -> str:
        if not _tried(trials, theirs):
            return ""
        means = (_mean(_each(trials, side, figure)) for side in (theirs, ours))
        return " / ".join(form.format(scale * mean) for mean in means)

    return told


def _apart(figure: str, form: str, theirs: str, ours: str, scale: float = 1.0) -> Figure:
    def told(trials: Sequence[Trial]) -> str:
        if not _tried(trials, theirs):
            return ""
        sides = ([scale * one for one in _each(trials, side, figure)] for side in (ours, theirs))
        return difference(*sides).told(form)

    return told


def _tried(trials: Sequence[Trial], side: str) -> bool:
    return all(getattr(trial, side) is not None for trial in trials)


def _reached(trials: Sequence[Trial]) -> str:
    """Tell the rate of the whole prompt that the reference came to, and its range."""
    rates = [
        (trial.reference.tokens + trial.question_tokens) / trial.prompt_tokens for trial in trials
    ]
    return f"{_mean(rates):.3f} ({min(rates):.3f} to {max(rates):.3f})"


def _missed(trials: Sequence[Trial]) -> str:
    """Tell by how many tokens ours ended below its target; above it would be a fault."""
    below = [trial.reference.tokens - trial.ours.tokens for trial in trials]
    return f"{_mean(below):.1f} (at most {max(below)}; above it in {sum(b < 0 for b in below)})"


ROWS: dict[str, Figure] = {
    "cases": lambda trials: f"{len(trials)}",
    "tokens of the context": lambda trials: f"{_mean([trial.before for trial in trials]):,.0f}",
    "rate that the reference came to (range)": _reached,
    "tokens kept, reference / ours": _both("tokens", "{:.0f}", "reference", "ours"),
    "ours below these tokens": _missed,
    "read by the reference's model, per token of the context": lambda trials: (
        f"{sum(t.read for t in trials) / sum(t.before for t in trials):.2f}"
    ),
    "tokens/s, reference": _speed("reference"),
    "tokens/s, ours": _speed("ours"),
    "**ours : reference**": _speedup("ours"),
    "the same by the clock": _speedup("ours", "seconds"),
    "tokens/s, ours in float32": _speed("fp32"),
    "float32 : reference": _speedup("fp32"),
    "answers kept by documents drawn at random, %": lambda trials: (
        f"{100 * _mean([trial.chance for trial in trials]):.0f}"
    ),
    "answers kept, %, reference / ours": _both("kept", "{:.0f}", "reference", "ours", 100),
    "**difference, points**": _apart("kept", "{:+.0f}", "reference", "ours", 100),
    "answers kept, %, aligned / ours": _both("kept", "{:.0f}", "aligned", "ours_again", 100),
    "difference, points": _apart("kept", "{:+.0f}", "aligned", "ours_again", 100),
    "NLL of the answer after the whole prompt": lambda trials: (
        f"{_mean([trial.whole_nll for trial in trials]):.2f}"
    ),
    "NLL, reference / ours": _both("nll", "{:.2f}", "reference", "ours"),
    "**difference, nats per token**": _apart("nll", "{:+.2f}", "reference", "ours"),
    "NLL, aligned / ours": _both("nll", "{:.2f}", "aligned", "ours_again"),
    "difference, nats per token": _apart("nll", "{:+.2f}", "aligned", "ours_again"),
    "prompts that the judge could not hold, reference / ours": lambda trials: " / ".join(
        f"{sum(_each(trials, side, 'cropped')):.0f}" for side in ("reference", "ours")
    ),
}
