"""How many tokens a second a GPU scores, and whether what is beside a text matters.

    python benchmarks/gpu.py [--language-model embedded] [--shape-tokens 4096 8192]

Texts made of the demonstration's sentences, of a few lengths, go through the engine, as a request's
do: embedded as documents by the encoder, and rated as passages by the causal LM.  All in one
request, in requests of 20 texts that wait together, and one alone; and a few of them on one thread
of the processor, as the proxy reads without a GPU.  Tokenising and pooling are in all of it.
Beside that: what the GPU itself takes for a batch, started kernel by kernel and replayed.  Then
some texts are scored alone and among all others: the same bits must come of it (law 9).  Exits 1
where they do not.  Without a GPU it says so, and measures nothing; ``--device cpu`` tries the
script itself, with small numbers.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from paired import table
from proxy.cli.demonstration import load_passages
from proxy.compress.ports import Document, Passage, ScoreRequest, Scores
from proxy.engine import Engine
from proxy.memo import VectorMemo
from proxy.scorers import EMBEDDED
from proxy.scorers.arithmetic import SHAPE_TOKENS, Arithmetic, Runtime, best, on_gpu
from proxy.scorers.causal_lm import CausalLM
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.ensemble import Classifier, Ensemble
from proxy.scorers.language_models import load_causal_lm
from proxy.scorers.passages import PassageReader
from proxy.scorers.recorded import Run
from proxy.types import Span
from published import Findings, add_outputs, median, progress, publish

LENGTHS = (250, 1_000, 4_000)
"""Characters of a text: about 60, 240 and 1,000 tokens."""
TOKENS, FEW_TOKENS = 1_000_000, 8_000
ROUNDS = 5
ALONE = 20
REQUEST = 20  # texts of a request, where many requests wait
THREADS = 4  # of an engine: while one waits for the GPU, others tokenise and pool
ROW, PASSES = 256, 20  # tokens of a row, and passes, where the GPU alone is measured

Ask = Callable[[Sequence[str]], ScoreRequest]


def documents(texts: Sequence[str]) -> ScoreRequest:
    """Ask for each text's vector and its sentences'."""
    return ScoreRequest(tuple(Document(text, tuple(_sentences(text))) for text in texts))


def passages(texts: Sequence[str]) -> ScoreRequest:
    """Ask for the surprise of each text's tokens."""
    return ScoreRequest(passages=tuple(Passage(text) for text in texts))


ASKS: dict[str, Ask] = {"encoder": documents, "causal LM": passages}


def _sentences(text: str) -> Iterator[Span]:
    start = 0
    while start < len(text):
        end = text.find(". ", start) + 2
        end = end if end > 1 else len(text)
        yield Span(start, end)
        start = end


def made_up(length: int, number: int) -> list[str]:
    """Return so many texts of so many characters, no two alike."""
    sentences = [s for passage in load_passages()[1] for s in passage.text.split(". ")]
    drawn = np.random.default_rng(length).integers(len(sentences), size=(number, length // 20))
    return [". ".join(sentences[i] for i in row)[:length] for row in drawn]


@dataclass(frozen=True)
class Pair:
    """Both models, loaded for a runtime."""

    encoder: EmbeddedEncoder
    language_model: CausalLM

    @classmethod
    def on(cls, runtime: Runtime, language_model: str) -> Pair:
        """Load them."""
        return cls(EmbeddedEncoder(runtime=runtime), load_causal_lm(language_model, runtime))


@contextmanager
def engine_over(models: Pair, threads: int) -> Iterator[Engine]:
    """Run the engine over both models, without a memo."""
    both = Ensemble(
        models.encoder, reader=lambda: PassageReader(models.language_model), classifier=_never
    )
    engine = Engine(lambda: both, VectorMemo(0), threads=threads, queue_entries=1_000_000)
    engine.start()
    engine.wait_ready_blocking()
    try:
        yield engine
    finally:
        engine.close()


def _never() -> Classifier:
    raise AssertionError("found a request for a token classifier")


@dataclass(frozen=True)
class Speed:
    """What scoring some texts took."""

    tokens: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def scored(engine: Engine, *requests: ScoreRequest) -> Speed:
    """Score what requests ask for, all of them at once, and say what it took."""
    began_s = time.perf_counter()
    waiting = [engine.submit(request) for request in requests]
    tokens = sum(each.result().timings.scored_tokens for each in waiting)
    return Speed(tokens, time.perf_counter() - began_s)


def _bits(scores: Scores) -> list[bytes]:
    return [
        *(one.units.tobytes() + one.whole.tobytes() for one in scores.documents),
        *(one.nats.tobytes() for one in scores.passages),
    ]


def same_bits(engine: Engine, ask: Ask, texts: Sequence[str]) -> bool:
    """Tell whether texts score alone as they do among the others."""
    among = _bits(engine.score_blocking(ask(texts)))
    some = list(zip(texts, among, strict=True))[:: max(1, len(texts) // ALONE)]
    return all(_bits(engine.score_blocking(ask([text]))) == [bits] for text, bits in some)


@dataclass(frozen=True)
class Row:
    """What was found for texts of one length under one model."""

    model: str
    shape_tokens: int
    tokens: float  # of a text
    per_s: float  # of tokens, as all of these
    in_requests_per_s: float
    alone_ms: float
    processor_per_s: float
    steady: bool


def on_processor(models: Pair, tokens: int) -> dict[tuple[str, int], float]:
    """Measure one thread of the processor: tokens/s by model and length of the texts."""
    found: dict[tuple[str, int], float] = {}
    with engine_over(models, 1) as engine:
        for model, ask in ASKS.items():
            scored(engine, ask(["The first is slow everywhere."]))
            for length in LENGTHS:
                progress(f"the processor, {model}: texts of {length} characters")
                request = ask(made_up(length, tokens * 4 // length))
                found[model, length] = scored(engine, request).per_s
    return found


@dataclass(frozen=True)
class Pass:
    """What one batch takes the GPU."""

    model: str
    shape_tokens: int
    started_ms: float
    replayed_ms: float


def of_batches(models: Pair, shape_tokens: int) -> list[Pass]:
    """Measure full batches of random tokens, on the GPU already."""
    device = models.encoder.runtime.device
    ids = torch.randint(1_000, (max(1, shape_tokens // ROW), ROW + 1), device=device)
    read = torch.ones_like(ids[:, 1:], dtype=torch.bool)
    passes = {
        "encoder": (models.encoder.passes, (ids[:, 1:].contiguous(), read)),
        "causal LM": (models.language_model.passes, (ids,)),
    }
    return [
        Pass(model, shape_tokens, _ms(recorded.run, *given), _ms(recorded, *given))
        for model, (recorded, given) in passes.items()
    ]


@torch.inference_mode()
def _ms(run: Run, *given: torch.Tensor) -> float:
    """Return what a pass takes, many queued one behind the other."""
    took_s = 0.0
    for passes in (1, PASSES):  # the first warms up
        began_s = time.perf_counter()
        for _ in range(passes):
            found = run(*given)
        found[0].cpu()  # waits for all of them
        took_s = time.perf_counter() - began_s
    return took_s * 1000 / PASSES


def measured(engine: Engine, model: str, length: int, tokens: int) -> dict[str, Any]:
    """Measure texts of one length, all at once, in many requests and alone; return half a row."""
    ask, texts = ASKS[model], made_up(length, tokens * 4 // length)
    parts = [ask(texts[i : i + REQUEST]) for i in range(0, len(texts), REQUEST)]
    scored(engine, *parts[: len(parts) // 10 + 1])  # the first is slow everywhere
    speeds = [scored(engine, ask(texts)) for _ in range(ROUNDS)]
    apart = [scored(engine, *parts) for _ in range(ROUNDS)]
    alone = [scored(engine, ask([text])) for text in texts[:ALONE]]
    return {
        "tokens": speeds[0].tokens / len(texts),
        "per_s": median([speed.per_s for speed in speeds]),
        "in_requests_per_s": median([speed.per_s for speed in apart]),
        "alone_ms": median([speed.seconds * 1000 for speed in alone]),
        "steady": same_bits(engine, ask, texts[:2_000]),
    }


def rows_of(
    models: Pair, tokens: int, shape_tokens: int, processor: dict[tuple[str, int], float]
) -> Iterator[Row]:
    """Measure texts of every length under both models."""
    with engine_over(models, THREADS) as engine:
        for model in ASKS:
            for length in LENGTHS:
                row = Row(
                    model=model,
                    shape_tokens=shape_tokens,
                    processor_per_s=processor[model, length],
                    **measured(engine, model, length, tokens),
                )
                progress(str(row))
                yield row


def report(rows: Sequence[Row], batches: Sequence[Pass], gpu: str) -> str:
    """Return the tables."""
    columns = [
        "tokens a batch",
        "tokens/s, one request",
        f"requests of {REQUEST} texts",
        "one text alone",
        "one thread of the processor",
        "ratio",
        "steady",
    ]
    cells = [
        (
            f"{row.model}, texts of {row.tokens:.0f} tokens",
            [
                f"{row.shape_tokens:,}",
                f"{row.per_s:,.0f}",
                f"{row.in_requests_per_s:,.0f}",
                f"{row.alone_ms:.1f} ms",
                f"{row.processor_per_s:,.0f}",
                f"{row.per_s / row.processor_per_s:.0f} x",
                "yes" if row.steady else "no",
            ],
        )
        for row in rows
    ]
    beside = f"{gpu}, {os.cpu_count()} cores, an engine of {THREADS} threads."
    alone = [
        (
            f"{one.model}, {one.shape_tokens:,} tokens",
            [
                f"{one.started_ms:.2f} ms",
                f"{one.replayed_ms:.2f} ms",
                f"{one.shape_tokens / one.replayed_ms / 1000:.1f} million",
            ],
        )
        for one in batches
    ]
    of_a_batch = table(["kernel by kernel", "replayed", "tokens/s"], alone)
    return f"{table(columns, cells)}\n\n{of_a_batch}\n\n{beside}"


def main() -> int:
    """Measure and publish; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--language-model", default=EMBEDDED)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each length")
    parser.add_argument("--shape-tokens", type=int, nargs="*", default=[SHAPE_TOKENS])
    given = add_outputs(parser).parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        progress("skipped: no CUDA device")
        return 0
    gpu = on_gpu() if given.device == "cuda" else Runtime(Arithmetic.BF16)
    processor = on_processor(Pair.on(best(), given.language_model), min(given.tokens, FEW_TOKENS))
    rows: list[Row] = []
    batches: list[Pass] = []
    for shape_tokens in given.shape_tokens:
        models = Pair.on(replace(gpu, shape_tokens=shape_tokens), given.language_model)
        batches += of_batches(models, shape_tokens)
        rows += rows_of(models, given.tokens, shape_tokens, processor)
    figures = {"rows": [vars(row) for row in rows], "batches": [vars(one) for one in batches]}
    publish(Findings("gpu", report(rows, batches, gpu.name), figures), given)
    return 0 if all(row.steady for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
