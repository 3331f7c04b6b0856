"""``laconic eval``: original and compressed prompts side by side, under a second model.

A line of input is a JSON object: the original as ``prompt`` (text) or ``messages``, its
``compressed`` form (text, messages, or the body that ``laconic compress`` wrote), and the
``answer`` that both are judged by.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from proxy.errors import CallerError, PolicyError

if TYPE_CHECKING:
    from proxy.scorers.causal_lm import CausalLM

_WANTED = "an object with prompt or messages, compressed, and answer"


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt, its compressed form, and the answer they are judged by."""

    original: str
    compressed: str
    answer: str


@dataclass(frozen=True, slots=True)
class Figures:
    """One case's figures, in nats per token of the answer; or their means over tokens."""

    answer_tokens: int
    nll_original: float
    nll_compressed: float
    kl: float | None
    cropped: int  # cases whose prompt is longer than the model's window: read from its end on

    @property
    def nll_difference(self) -> float:
        """How much less likely compression made the answer."""
        return self.nll_compressed - self.nll_original


def read_cases(lines: Iterable[bytes]) -> Iterator[Case]:
    """Read JSON lines; blank ones are skipped.  Raises CallerError where one is no case."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _case(number, line)


def _case(number: int, line: bytes) -> Case:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise CallerError(f"line {number}: found no JSON, wanted {_WANTED}") from error
    if not isinstance(value, dict):
        raise CallerError(f"line {number}: found {type(value).__name__}, wanted {_WANTED}")
    original = value.get("prompt", value.get("messages"))
    texts = [_text(part) for part in (original, value.get("compressed"), value.get("answer"))]
    for key, text in zip(("prompt or messages", "compressed", "answer"), texts, strict=True):
        if text is None:
            raise CallerError(f"line {number}: found no text under {key}, wanted {_WANTED}")
    return Case(*(text or "" for text in texts))


def _text(value: Any) -> str | None:
    """Return the text of a string, of messages or parts, or of a body; None where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        keys = ("messages", "content", "text")
        return next((_text(value[key]) for key in keys if value.get(key) is not None), None)
    if isinstance(value, list):
        texts = [text for text in map(_text, value) if text]
        return "\n\n".join(texts) if texts else None
    return None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, and under which model."""

    revision: str
    each: tuple[Figures, ...]


def run(source: Path | None, metric: str, name: str) -> Evaluation:
    """Measure the cases of a file, or of stdin: ``kl`` with NLL beside it, or ``nll`` alone.

    Raises CallerError where a line is no case or an answer too long, PolicyError where the file or
    the model cannot be read.
    """
    cases = list(read_cases(_lines(source)))
    if not cases:
        raise CallerError(f"found no line, wanted {_WANTED} on each")
    from proxy.scorers.language_models import load_causal_lm  # noqa: PLC0415 - torch loads here

    model = load_causal_lm(name)
    console = Console(stderr=True)
    shown = track(cases, "evaluating", console=console, disable=not console.is_terminal)
    return Evaluation(model.revision, tuple(_measure(case, metric, model) for case in shown))


def _lines(source: Path | None) -> list[bytes]:
    if source is None:
        return sys.stdin.buffer.readlines()
    try:
        return source.read_bytes().splitlines()
    except OSError as error:
        raise PolicyError(f"{source}: {error.strerror or error}") from error


def _measure(case: Case, metric: str, model: CausalLM) -> Figures:
    from proxy.scorers.evaluate import answer_nll, kl  # noqa: PLC0415 - torch loads here

    original = answer_nll(model, f"{case.original}\n\n", case.answer)
    compressed = answer_nll(model, f"{case.compressed}\n\n", case.answer)
    divergence = None
    if metric == "kl":
        divergence = kl(model, f"{case.original}\n\n", f"{case.compressed}\n\n", case.answer).nats
    cropped = int(original.cropped or compressed.cropped)
    return Figures(original.tokens, original.nats, compressed.nats, divergence, cropped)


def summed(figures: Sequence[Figures]) -> Figures:
    """Return the means over the answers' tokens, of at least one case."""
    tokens = sum(one.answer_tokens for one in figures)

    def mean(values: Iterable[float | None]) -> float:
        pairs = zip(values, figures, strict=True)
        return sum((value or 0.0) * one.answer_tokens for value, one in pairs) / tokens

    return Figures(
        answer_tokens=tokens,
        nll_original=mean(one.nll_original for one in figures),
        nll_compressed=mean(one.nll_compressed for one in figures),
        kl=None if figures[0].kl is None else mean(one.kl for one in figures),
        cropped=sum(one.cropped for one in figures),
    )


def as_json(found: Evaluation) -> str:
    """Return the means and every case's figures as one JSON object."""
    means = _record(summed(found.each))
    value = {"model": found.revision, "cases": len(found.each), **means}
    return json.dumps({**value, "each": [_record(one) for one in found.each]}, indent=2)


def _record(figures: Figures) -> dict[str, float | None]:
    rounded = {
        key: round(value, 6) if isinstance(value, float) else value
        for key, value in asdict(figures).items()
    }
    return {**rounded, "nll_difference": round(figures.nll_difference, 6)}


def show(found: Evaluation) -> None:
    """Print the means as a table."""
    total = summed(found.each)
    title = f"{len(found.each)} cases, nats per token of the answer"
    table = Table(title=title, caption=found.revision)
    table.add_column("figure")
    table.add_column("mean", justify="right")
    if total.kl is not None:
        table.add_row("KL(compressed || original)", f"{total.kl:.4f}")
    table.add_row("NLL after the original", f"{total.nll_original:.4f}")
    table.add_row("NLL after the compressed", f"{total.nll_compressed:.4f}")
    table.add_row("difference", f"{total.nll_difference:+.4f}")
    table.add_row("answer tokens", str(total.answer_tokens))
    table.add_row("prompts cropped", str(total.cropped))
    Console().print(table)
