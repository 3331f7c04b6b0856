"""How many tokens a second the causal LM rates on a GPU, and whether what is beside a text matters.

    python benchmarks/gpu.py [--language-model embedded] [--device cuda]

Texts made of the demonstration's sentences, of a few lengths, are tokenised and read: in batches
on the device, and a few of them on one thread of the processor, as the proxy does without a GPU.
Then each of some texts is rated alone and among others: in the shapes that a GPU reads, the same
bits must come of it (law 9).  Exits 1 where they do not.  Without the device it says so, and
measures nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from paired import table
from proxy.cli.demonstration import load_passages
from proxy.scorers import EMBEDDED
from proxy.scorers.arithmetic import best
from proxy.scorers.causal_lm import CausalLM, Passage, load_causal_lm
from published import Findings, add_outputs, median, progress, publish

LENGTHS = (250, 1_000, 4_000)
"""Characters of a text: about 60, 240 and 1,000 tokens."""
BATCH_TOKENS = 131_072  # fills a large GPU
TOKENS, FEW_TOKENS = 4_000_000, 20_000
ROUNDS = 5
ALONE = 20


@dataclass(frozen=True)
class Speed:
    """What rating some texts took."""

    tokens: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def made_up(length: int, number: int) -> list[str]:
    """Return so many texts of so many characters, no two alike."""
    sentences = [s for passage in load_passages()[1] for s in passage.text.split(". ")]
    drawn = np.random.default_rng(length).integers(len(sentences), size=(number, length // 20))
    return [". ".join(sentences[i] for i in row)[:length] for row in drawn]


def rated(model: CausalLM, texts: Sequence[str], batch_tokens: int) -> Speed:
    """Rate texts, and say what it took, with tokenising."""
    passages = [Passage(text) for text in texts]
    began_s = time.perf_counter()
    found = model.self_information(passages, batch_tokens=batch_tokens)
    return Speed(sum(len(one.nats) for one in found), time.perf_counter() - began_s)


def same_bits(model: CausalLM, texts: Sequence[str], batch_tokens: int) -> bool:
    """Tell whether texts score alone as they do among the others."""
    among = model.self_information([Passage(text) for text in texts], batch_tokens=batch_tokens)
    for text, expected in list(zip(texts, among, strict=True))[:: max(1, len(texts) // ALONE)]:
        (alone,) = model.self_information([Passage(text)], batch_tokens=batch_tokens)
        if not np.array_equal(alone.nats, expected.nats):
            return False
    return True


def measure(
    model: CausalLM, processor: CausalLM, tokens: int, batch_tokens: int
) -> tuple[list[tuple[str, list[str]]], bool]:
    """Return the table's rows, and whether all texts scored the same bits."""
    rows, steady = [], True
    for length in LENGTHS:
        texts = made_up(length, tokens * 4 // length)
        progress(f"{len(texts)} texts of {length} characters")
        rated(model, texts[: len(texts) // 10 + 1], batch_tokens)  # the first is slow everywhere
        speeds = [rated(model, texts, batch_tokens) for _ in range(ROUNDS)]
        plain = rated(processor, texts[: min(tokens, FEW_TOKENS) * 4 // length], 0)
        same = same_bits(model, texts[:2_000], batch_tokens)
        steady = steady and same
        per_s = median([speed.per_s for speed in speeds])
        rows.append(
            (
                f"{speeds[0].tokens / len(texts):.0f} tokens",
                [
                    f"{per_s:,.0f}",
                    f"{plain.per_s:,.0f}",
                    f"{per_s / plain.per_s:.0f} x",
                    "yes" if same else "no",
                ],
            )
        )
    return rows, steady


def main() -> int:
    """Measure and publish; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--language-model", default=EMBEDDED)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each length")
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    given = add_outputs(parser).parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        progress("skipped: no CUDA device")
        return 0
    model = load_causal_lm(given.language_model, device=given.device)
    processor = load_causal_lm(given.language_model, best())
    rows, steady = measure(model, processor, given.tokens, given.batch_tokens)
    columns = ["tokens/s", "one thread of the processor", "ratio", "steady"]
    told = f"{model.revision} beside {processor.revision}, tokenising included."
    text = f"{table(columns, rows)}\n\n{told}"
    publish(Findings("gpu", text, {"rows": rows}), given)
    return 0 if steady else 1


if __name__ == "__main__":
    raise SystemExit(main())
