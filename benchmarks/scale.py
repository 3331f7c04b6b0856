"""How the cost of compressing grows with tokens, with passages and with turns: it must be linear.

    LACONIC_DATA=... python benchmarks/scale.py [--most 128000] [--plots docs/plots]

*Growth* is the slope of cost over size, both as logarithms: 1 is linear, 2 quadratic.  Turns are
those of a conversation in which each turn brings passages of its own and the history is sent again.
Beside its late turns another conversation begins, turn and turn about, so that early and late turns
are timed within the same seconds; every other time that both are held their passages change places.
*Beside the model* is what a turn costs apart from reading its own text.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from common import Record
from paired import table
from plotting import Line, draw
from published import Findings, add_outputs, median, progress, publish
from workshop import Passages, Workshop, body, numbered, sizes, workshop

LEAST_TOKENS = 1_000
PASSAGE_COUNTS = tuple(sizes(32, 4_096))
PASSAGE_CHARS = 120
TURNS, TURN_TOKENS = 40, 1_000
EARLY, LATE = slice(4, 12), slice(32, 40)
_APART = LATE.start - EARLY.start
TRIALS, COSTLY_TOKENS = 3, 40_000  # larger prompts are tried once
TURN_TRIALS = 5


@dataclass(frozen=True)
class Series:
    """Costs in ms over sizes."""

    sizes: tuple[int, ...]
    cold: tuple[float, ...]
    warm: tuple[float, ...]

    def growth(self, costs: Sequence[float]) -> float:
        """Return the slope over the larger half, where what does not grow weighs little."""
        return slope(self.sizes, costs)


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of cost over size, both as logarithms, over the larger half of the sizes.

    >>> round(slope([1, 2, 4, 8], [3.0, 3.0, 12.0, 48.0]), 2)
    2.0
    """
    half = min(len(sizes) // 2, len(sizes) - 2)
    return float(np.polyfit(np.log(sizes[half:]), np.log(costs[half:]), 1)[0])


@dataclass(frozen=True)
class Turn:
    """What one turn cost, in ms, and how much of that was spent on the model."""

    ms: float
    model_ms: float

    @property
    def beside_ms(self) -> float:
        """What it cost apart from the model."""
        return self.ms - self.model_ms


async def by_tokens(house: Workshop, passages: Passages, most: int) -> Series:
    """Time prompts of more and more tokens."""
    found = []
    for size in sizes(LEAST_TOKENS, most):
        progress(f"{size} tokens")
        texts = [passages.text(size, seed) for seed in _seeds(size, size)]
        found.append((size, *await _cold_and_warm(house, passages, texts)))
    return Series(*map(tuple, zip(*found, strict=True)))


async def by_passages(house: Workshop, passages: Passages) -> Series:
    """Time prompts of more and more short passages."""
    found = []
    for count in PASSAGE_COUNTS:
        progress(f"{count} passages")
        texts = []
        for seed in _seeds(count, count * 30):
            drawn = passages.draw(count * 200, seed)
            texts.append(numbered([text[:PASSAGE_CHARS] for text in drawn[:count]]))
        found.append((count, *await _cold_and_warm(house, passages, texts)))
    return Series(*map(tuple, zip(*found, strict=True)))


def _seeds(size: int, tokens: int) -> range:
    return range(size * 100, size * 100 + (1 if tokens > COSTLY_TOKENS else TRIALS))


async def _cold_and_warm(
    house: Workshop, passages: Passages, texts: Sequence[str]
) -> tuple[float, float]:
    cold, warm = [], []
    for text in texts:
        first, second = (
            body([{"role": "user", "content": f"{text}\n\n{passages.question(number)}"}])
            for number in (1, 2)
        )
        cold.append((await house.prepare(first)).ms)
        warm.append((await house.prepare(second)).ms)
    return median(cold), median(warm)


@dataclass(frozen=True)
class Turns:
    """The turns of a long conversation, and early ones of others, timed beside its late ones."""

    long: Sequence[Turn]
    early: Sequence[Turn]

    @property
    def late(self) -> Sequence[Turn]:
        """The late turns of the long conversation."""
        return self.long[LATE]


async def by_turns(passages: Passages, threads: int, trials: int = TURN_TRIALS) -> Turns:
    """Time each turn: the mean over both orders of the texts, a median of ``trials`` each."""
    texts = passages.deal(TURN_TOKENS, 2 * TURNS)  # what was met before would cost no reading
    asked = [f"{text}\n\n{passages.question(n)}" for n, text in enumerate(texts)]
    orders = (asked, asked[TURNS:] + asked[:TURNS])
    held: list[list[Turn]] = []
    for number in range(2 * trials):
        progress(f"conversation {number + 1}")
        async with workshop("rag", threads) as house:
            await house.prepare(passages.prompt(LEAST_TOKENS, seed=-1))
            order = orders[number % 2]
            long, other = order[:TURNS], order[TURNS + _APART :]
            held.append(await _both(_Conversation(house, long), _Conversation(house, other)))
    timed = [
        Turn(_typical([t.ms for t in times]), _typical([t.model_ms for t in times]))
        for times in zip(*held, strict=True)
    ]
    return Turns(timed[:TURNS], timed[TURNS:])


class _Conversation:
    """A conversation that goes on: each turn asks the next of these."""

    def __init__(self, house: Workshop, asked: Sequence[str]) -> None:
        self._house, self._asked = house, iter(asked)
        self._messages: list[Record] = []

    async def turn(self) -> Turn:
        """Time the next turn."""
        self._messages.append({"role": "user", "content": next(self._asked)})
        timed = await self._house.prepare(body(self._messages))
        self._messages.append({"role": "assistant", "content": "It is in the text above."})
        return Turn(timed.ms, timed.prepared.model_ms / self._house.threads)


async def _both(long: _Conversation, other: _Conversation) -> list[Turn]:
    """Hold a long conversation, and another beside its late turns; the other's early turns last."""
    turns, early = [], []
    for turn in range(TURNS):
        if turn >= _APART:
            early.append(await other.turn())
        turns.append(await long.turn())
    return [*turns, *early[EARLY]]


def _typical(times: Sequence[float]) -> float:
    """Return the mean over both orders, which alternate, of the median in each.

    >>> _typical([1, 4, 1, 4, 9, 9])
    2.5
    """
    return (median(times[::2]) + median(times[1::2])) / 2


def report(tokens: Series, passages: Series, turns: Turns, policy: str) -> Findings:
    """Return the tables."""
    costs = (("a turn", lambda turn: turn.ms), ("beside the model", lambda turn: turn.beside_ms))
    flat = [(name, _flat(turns, cost)) for name, cost in costs]
    parts = [
        _told("tokens", tokens),
        _told("passages", passages),
        table(["turns 5 to 12", "turns 33 to 40", "ratio"], flat),
        f"Policy `{policy}` for tokens and passages, `rag` for turns of {TURN_TOKENS:,} tokens.",
    ]
    figures = {
        "tokens": _figures(tokens),
        "passages": _figures(passages),
        "turns_ms": [turn.ms for turn in turns.long],
        "turns_beside_model_ms": [turn.beside_ms for turn in turns.long],
        "early_turns_ms": [turn.ms for turn in turns.early],
        "early_turns_beside_model_ms": [turn.beside_ms for turn in turns.early],
    }
    return Findings("scale", "\n\n".join(parts), figures)


def _flat(turns: Turns, cost: Callable[[Turn], float]) -> list[str]:
    early, late = (fmean(cost(turn) for turn in some) for some in (turns.early, turns.late))
    return [f"{early:.0f} ms", f"{late:.0f} ms", f"{late / early:.2f}"]


def _told(what: str, series: Series) -> str:
    columns = [f"{size:,}" for size in series.sizes]
    rows = [
        (f"{name}, ms", [f"{cost:,.0f}" for cost in costs] + [f"{series.growth(costs):.2f}"])
        for name, costs in (("cold", series.cold), ("warm", series.warm))
    ]
    return f"By {what}:\n\n{table([*columns, 'growth'], rows)}"


def _figures(series: Series) -> Mapping[str, object]:
    return {
        "sizes": series.sizes,
        "cold_ms": series.cold,
        "warm_ms": series.warm,
        "growth": {"cold": series.growth(series.cold), "warm": series.growth(series.warm)},
    }


def plot(tokens: Series, turns: Turns, folder: Path) -> None:
    """Draw cost over tokens and over turns."""
    draw(
        folder / "scale-tokens.svg",
        [Line("cold", tokens.sizes, tokens.cold), Line("warm", tokens.sizes, tokens.warm)],
        title="What a prompt costs",
        x="tokens",
        y="ms",
        logarithmic=True,
    )
    numbers = range(1, TURNS + 1)
    draw(
        folder / "scale-turns.svg",
        [
            Line("a turn", numbers, [turn.ms for turn in turns.long]),
            Line("beside the model", numbers, [turn.beside_ms for turn in turns.long]),
        ],
        title=f"What a turn of {TURN_TOKENS:,} new tokens costs",
        x="turn",
        y="ms",
    )


async def measure(policy: str, threads: int, most: int) -> tuple[Series, Series, Turns]:
    """Time all three."""
    passages = Passages()
    async with workshop(policy, threads) as house:
        await house.prepare(passages.prompt(LEAST_TOKENS, seed=-1))
        tokens = await by_tokens(house, passages, most)
        many = await by_passages(house, passages)
    return tokens, many, await by_turns(passages, threads)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--most", type=int, default=128_000, help="tokens of the largest prompt")
    parser.add_argument("--plots", type=Path, help="draw into this folder")
    given = add_outputs(parser).parse_args()
    found = asyncio.run(measure(given.policy, given.threads, given.most))
    if given.plots:
        plot(found[0], found[2], given.plots)
    publish(report(*found, given.policy), given)


if __name__ == "__main__":
    main()
