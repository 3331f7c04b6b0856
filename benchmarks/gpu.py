"""How many tokens a second a GPU scores, and whether what is beside a text matters.

    python benchmarks/gpu.py [--language-model embedded] [--shape-tokens 16384 65536]

Texts made of the demonstration's sentences, of a few lengths, go through the engine, as a request's
do: embedded as documents by the encoder, and rated as passages by the causal LM.  Once on the GPU,
and a few of them on one thread of the processor, as the proxy reads without one; tokenising and
pooling are in both.  Then some texts are scored alone and among all others: the same bits must come
of it (law 9).  Exits 1 where they do not.  Without a GPU it says so, and measures nothing;
``--device cpu`` tries the script itself, with small numbers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

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
THREADS = 4  # of the engine: while one waits for the GPU, others tokenise and pool

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
    engine = Engine(lambda: models, VectorMemo(0), threads=threads)
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


def scored(engine: Engine, request: ScoreRequest) -> Speed:
    """Score texts, and say what it took."""
    began_s = time.perf_counter()
    found = engine.score_blocking(request)
    return Speed(found.timings.scored_tokens, time.perf_counter() - began_s)


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
    alone_ms: float
    processor_per_s: float
    steady: bool


def measured(
    engines: tuple[Engine, Engine], model: str, length: int, tokens: int, shape_tokens: int
) -> Row:
    """Measure texts of one length: on the GPU, alone and all of them, and on the processor."""
    (engine, processor), ask = engines, ASKS[model]
    texts = made_up(length, tokens * 4 // length)
    progress(f"{model}, {shape_tokens} tokens a batch: {len(texts)} texts of {length} characters")
    scored(engine, ask(texts[: len(texts) // 10 + 1]))  # the first is slow everywhere
    speeds = [scored(engine, ask(texts)) for _ in range(ROUNDS)]
    alone = [scored(engine, ask([text])) for text in texts[:ALONE]]
    plain = scored(processor, ask(texts[: min(tokens, FEW_TOKENS) * 4 // length]))
    return Row(
        model=model,
        shape_tokens=shape_tokens,
        tokens=speeds[0].tokens / len(texts),
        per_s=median([speed.per_s for speed in speeds]),
        alone_ms=median([speed.seconds * 1000 for speed in alone]),
        processor_per_s=plain.per_s,
        steady=same_bits(engine, ask, texts[:2_000]),
    )


def report(rows: Sequence[Row], gpu: str) -> str:
    """Return the table."""
    columns = [
        "tokens a batch",
        "tokens/s",
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
                f"{row.alone_ms:.1f} ms",
                f"{row.processor_per_s:,.0f}",
                f"{row.per_s / row.processor_per_s:.0f} x",
                "yes" if row.steady else "no",
            ],
        )
        for row in rows
    ]
    return f"{table(columns, cells)}\n\n{gpu}, through the engine with {THREADS} threads."


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
    rows = []
    for shape_tokens in given.shape_tokens:
        runtime = replace(gpu, shape_tokens=shape_tokens)
        with (
            engine_on(runtime, given.language_model, THREADS) as engine,
            engine_on(best(), given.language_model, 1) as processor,
        ):
            rows += [
                measured((engine, processor), model, length, given.tokens, shape_tokens)
                for model in ASKS
                for length in LENGTHS
            ]
    findings = Findings("gpu", report(rows, gpu.name), {"rows": [vars(row) for row in rows]})
    publish(findings, given)
    return 0 if all(row.steady for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
