"""How many tokens a second a GPU scores, and whether what is beside a text matters.

    python benchmarks/gpu.py [--language-model embedded] [--shape-tokens 4096 8192]

Texts made of the demonstration's sentences, of a few lengths, go through the engine, as a request's
do: embedded as documents by the encoder, and rated as passages by the causal LM.  All in one
request, in requests of 20 texts that wait together, and one alone; by several processes side by
side, as ``serve --workers`` has them; and a few of them on one thread of the processor, as the
proxy reads without a GPU.  Tokenising and pooling are in all of it.  Then some texts are scored
alone and among all others: the same bits must come of it (law 9).  Exits 1 where they do not.
Without a GPU it says so, and measures nothing; ``--device cpu`` tries the script itself, with small
numbers.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from threading import Barrier

import numpy as np
import torch

from paired import table
from proxy.cli.demonstration import load_passages
from proxy.compress.ports import Document, Passage, ScoreRequest, Scores
from proxy.engine import Engine
from proxy.memo import VectorMemo
from proxy.scorers import EMBEDDED
from proxy.scorers.arithmetic import SHAPE_TOKENS, Arithmetic, Runtime, best, on_gpu
from proxy.scorers.causal_lm import load_causal_lm
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.scorers.ensemble import Classifier, Ensemble
from proxy.scorers.passages import PassageReader
from proxy.types import Span
from published import Findings, add_outputs, median, progress, publish

LENGTHS = (250, 1_000, 4_000)
"""Characters of a text: about 60, 240 and 1,000 tokens."""
TOKENS, FEW_TOKENS = 4_000_000, 20_000
ROUNDS = 5
ALONE = 20
REQUEST = 20  # texts of a request, where many requests wait
THREADS = 4  # of an engine: while one waits for the GPU, others tokenise and pool
WORKERS = 4  # processes

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


@contextmanager
def engine_on(runtime: Runtime, language_model: str, threads: int) -> Iterator[Engine]:
    """Run the engine over both models, without a memo."""
    models = Ensemble(
        EmbeddedEncoder(runtime=runtime),
        reader=lambda: PassageReader(load_causal_lm(language_model, runtime)),
        classifier=_never,
    )
    engine = Engine(lambda: models, VectorMemo(0), threads=threads, queue_entries=1_000_000)
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
    per_s: float
    in_requests_per_s: float
    in_workers_per_s: float
    alone_ms: float
    processor_per_s: float
    steady: bool


def on_processor(language_model: str, tokens: int) -> dict[tuple[str, int], float]:
    """Measure one thread of the processor: tokens/s by model and length of the texts."""
    found: dict[tuple[str, int], float] = {}
    with engine_on(best(), language_model, 1) as engine:
        for model, ask in ASKS.items():
            scored(engine, ask(["The first is slow everywhere."]))
            for length in LENGTHS:
                progress(f"{model}, the processor: texts of {length} characters")
                found[model, length] = scored(
                    engine, ask(made_up(length, tokens * 4 // length))
                ).per_s
    return found


def measured(engine: Engine, model: str, length: int, tokens: int, shape_tokens: int) -> Row:
    """Measure texts of one length: all at once, in many requests, and alone."""
    ask, texts = ASKS[model], made_up(length, tokens * 4 // length)
    progress(f"{model}, {shape_tokens} tokens a batch: {len(texts)} texts of {length} characters")
    parts = [ask(texts[i : i + REQUEST]) for i in range(0, len(texts), REQUEST)]
    scored(engine, *parts[: len(parts) // 10 + 1])  # the first is slow everywhere
    speeds = [scored(engine, ask(texts)) for _ in range(ROUNDS)]
    apart = [scored(engine, *parts) for _ in range(ROUNDS)]
    alone = [scored(engine, ask([text])) for text in texts[:ALONE]]
    return Row(
        model=model,
        shape_tokens=shape_tokens,
        tokens=speeds[0].tokens / len(texts),
        per_s=median([speed.per_s for speed in speeds]),
        in_requests_per_s=median([speed.per_s for speed in apart]),
        in_workers_per_s=0.0,
        alone_ms=median([speed.seconds * 1000 for speed in alone]),
        processor_per_s=0.0,
        steady=same_bits(engine, ask, texts[:2_000]),
    )


@dataclass(frozen=True)
class Work:
    """What every worker does."""

    runtime: Runtime
    language_model: str
    tokens: int
    lengths: Sequence[int]
    rounds: int


def in_workers(work: Work) -> dict[tuple[str, int], float]:
    """Measure processes side by side, each in requests: tokens/s of all, by model and length."""
    progress(f"{WORKERS} workers, {work.runtime.shape_tokens} tokens a batch")
    processes = get_context("spawn")
    with processes.Manager() as manager, ProcessPoolExecutor(WORKERS, processes) as pool:
        barrier = manager.Barrier(WORKERS)
        all_of_them = list(pool.map(_worker, [work] * WORKERS, [barrier] * WORKERS))
    found = {}
    for key in all_of_them[0]:
        tokens, began_s, ended_s = zip(*(one[key] for one in all_of_them), strict=True)
        found[key] = sum(tokens) / (max(ended_s) - min(began_s))
    return found


def _worker(work: Work, barrier: Barrier) -> dict[tuple[str, int], tuple[int, float, float]]:
    """Score in step with the others; return tokens, begin and end on the machine's clock."""
    found = {}
    with engine_on(work.runtime, work.language_model, THREADS) as engine:
        for model, ask in ASKS.items():
            for length in work.lengths:
                texts = made_up(length, work.tokens * 4 // length)
                parts = [ask(texts[i : i + REQUEST]) for i in range(0, len(texts), REQUEST)]
                scored(engine, *parts[: len(parts) // 10 + 1])
                barrier.wait()
                began_s = time.monotonic()
                tokens = sum(scored(engine, *parts).tokens for _ in range(work.rounds))
                found[model, length] = tokens, began_s, time.monotonic()
                barrier.wait()
    return found


def report(rows: Sequence[Row], gpu: str) -> str:
    """Return the table."""
    columns = [
        "tokens a batch",
        "tokens/s, one request",
        f"requests of {REQUEST} texts",
        f"in {WORKERS} workers",
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
                f"{row.in_workers_per_s:,.0f}",
                f"{row.alone_ms:.1f} ms",
                f"{row.processor_per_s:,.0f}",
                f"{row.per_s / row.processor_per_s:.0f} x",
                "yes" if row.steady else "no",
            ],
        )
        for row in rows
    ]
    beside = f"{gpu}, {os.cpu_count()} cores, through the engine with {THREADS} threads a process."
    return f"{table(columns, cells)}\n\n{beside}"


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
    processor = on_processor(given.language_model, min(given.tokens, FEW_TOKENS))
    rows = []
    for shape_tokens in given.shape_tokens:
        runtime = replace(gpu, shape_tokens=shape_tokens)
        work = Work(runtime, given.language_model, given.tokens, LENGTHS, ROUNDS)
        workers = in_workers(work)
        with engine_on(runtime, given.language_model, THREADS) as engine:
            rows += [
                replace(
                    measured(engine, model, length, given.tokens, shape_tokens),
                    in_workers_per_s=workers[model, length],
                    processor_per_s=processor[model, length],
                )
                for model in ASKS
                for length in LENGTHS
            ]
    findings = Findings("gpu", report(rows, gpu.name), {"rows": [vars(row) for row in rows]})
    publish(findings, given)
    return 0 if all(row.steady for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
