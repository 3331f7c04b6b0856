"""How fast prompts are compressed, cold and warm, beside the reference implementation of LLMLingua.

    LACONIC_DATA=... python benchmarks/compress.py [--policy default] [--no-reference]

A prompt is passages and a question.  *Cold* is a prompt of which nothing was seen before, *warm*
another question about the same passages.  The reference (`make bench-peers`) gets the cold prompts
that it can hold, in the same run, turn and turn about, with a model of GPT-2 small's size whose
weights are random: how long it takes depends on their number, not on their values.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from paired import table
from published import Findings, add_outputs, median, progress, publish, quantile
from reference_llmlingua import NoReference, Reference
from same_model import gpt2_small
from workshop import Passages, Workshop, sizes, workshop

LEAST, MOST = 500, 32_000
COLD_TOKENS = 80_000  # a size is tried until so many tokens have been compressed
FEWEST, MOST_TRIALS = 5, 31
WARM = 3  # other questions about the same passages
REFERENCE_SIZES = (2_000, 4_000)
REFERENCE_TRIALS = 3
RATE = 0.5  # the reference's own default


@dataclass
class Size:
    """What prompts of one size took, in ms; ``tokens`` is what they came to, upstream's."""

    tokens: list[int] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)  # cold, while the reference was at hand
    reference: list[float] = field(default_factory=list)

    def speed(self, ms: list[float]) -> float:
        """Return tokens per second of the middle trial."""
        return median(self.tokens) / median(ms) * 1000


async def measure(policy: str, threads: int, reference: Reference | None) -> dict[int, Size]:
    """Time every size."""
    passages, found = Passages(), dict[int, Size]()
    async with workshop(policy, threads) as house:
        await house.prepare(passages.prompt(LEAST, seed=-1))
        for size in sizes(LEAST, MOST):
            progress(f"{size} tokens")
            found[size] = await _ours(house, passages, size)
        for size in REFERENCE_SIZES if reference else ():
            for trial in range(REFERENCE_TRIALS):
                progress(f"reference, {size} tokens, {trial + 1} of {REFERENCE_TRIALS}")
                await _beside(house, passages, size, trial, reference, found[size])
    return found


async def _ours(house: Workshop, passages: Passages, size: int) -> Size:
    found = Size()
    for trial in range(max(FEWEST, min(MOST_TRIALS, COLD_TOKENS // size))):
        seed = size * 1000 + trial
        cold = await house.prepare(passages.prompt(size, seed, trial))
        found.tokens.append(cold.prepared.outcome.tokens_before or 0)
        found.cold.append(cold.ms)
        for other in range(1, WARM + 1):
            again = await house.prepare(passages.prompt(size, seed, trial + other * 100))
            found.warm.append(again.ms)
    return found


async def _beside(
    house: Workshop,
    passages: Passages,
    size: int,
    trial: int,
    reference: Reference | None,
    found: Size,
) -> None:
    if reference is None:
        return
    seed = 1_000_000_000 + size * 1000 + trial  # random.Random takes no notice of a sign
    found.beside.append((await house.prepare(passages.prompt(size, seed, trial))).ms)
    documents = passages.draw(size, seed)
    theirs = reference.compress("", documents, passages.question(trial), rate=RATE)
    found.reference.append(theirs.seconds * 1000)


@contextmanager
def at_hand(threads: int, *, wanted: bool) -> Iterator[Reference | None]:
    """Run the reference, where it is wanted and installed."""
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            reference = Reference(gpt2_small(folder), threads=threads) if wanted else None
        except NoReference as error:
            progress(f"without the reference: {error}")
            reference = None
        yield reference if reference is None else stack.enter_context(reference)


def report(found: dict[int, Size], policy: str, threads: int, made_of: str) -> Findings:
    """Return the tables."""
    columns = [
        "tokens",
        "cold p50",
        "p95",
        "tokens/s",
        "warm p50",
        "p95",
        "tokens/s",
        "cold / warm",
    ]
    rows = [
        (
            f"{size:,}",
            [
                f"{median(one.tokens):,.0f}",
                f"{median(one.cold):,.0f} ms",
                f"{quantile(one.cold, 0.95):,.0f} ms",
                f"{one.speed(one.cold):,.0f}",
                f"{median(one.warm):,.1f} ms",
                f"{quantile(one.warm, 0.95):,.1f} ms",
                f"{one.speed(one.warm):,.0f}",
                f"{median(one.cold) / median(one.warm):.0f} x",
            ],
        )
        for size, one in found.items()
    ]
    parts = [table(columns, rows), f"Policy `{policy}`, {threads} threads of the model."]
    beside = {size: one for size, one in found.items() if one.reference}
    if beside:
        told = [
            (
                f"{size:,}",
                [
                    f"{median(one.beside):,.0f} ms",
                    f"{median(one.reference):,.0f} ms",
                    f"{median(one.reference) / median(one.beside):.0f} x",
                ],
            )
            for size, one in beside.items()
        ]
        parts += [
            table(["ours, cold", "reference", "reference / ours"], told),
            f"Reference: {made_of}, {threads} threads, rate {RATE}, a model of GPT-2 small's size.",
        ]
    figures = {
        str(size): {
            "tokens": median(one.tokens),
            "cold_ms": one.cold,
            "warm_ms": one.warm,
            "beside_ms": one.beside,
            "reference_ms": one.reference,
        }
        for size, one in found.items()
    }
    return Findings("compress", "\n\n".join(parts), {"policy": policy, "sizes": figures})


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-reference", action="store_true")
    given = add_outputs(parser).parse_args()
    with at_hand(given.threads, wanted=not given.no_reference) as reference:
        found = asyncio.run(measure(given.policy, given.threads, reference))
        versions = reference.versions if reference else {}
    made_of = ", ".join(f"{name} {version}" for name, version in versions.items())
    publish(report(found, given.policy, given.threads, made_of), given)


if __name__ == "__main__":
    main()
