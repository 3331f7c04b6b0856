"""Our LLMLinguas beside the reference implementation: same model, cases and run, one thread.

    LACONIC_DATA=... python benchmarks/reference.py [--write docs/quality.md] [--json FILE]
    python benchmarks/reference.py --defects

The reference goes first, at a rate; the tokens that it came to, counted by us, are then ours to
spend, so that both are judged by what equally many tokens say.  Then the same with its alignment
mended (``peers/llmlingua_peer.py``).  The same cases then under LongLLMLingua on both sides, which
the question steers.  ``chance`` is what whole documents drawn at random keep for these tokens.  A
case brings its figures together into every interval: 95 %,
paired bootstrap.  ``--defects`` prints what the reference does where its defects show, and needs no
data.  Both need ``make bench-peers``, and say so where it was not run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from answers import SHAPES, Case, drawn, paragraph_cases, passage_cases, sampled
from common import Pipeline, has_answer, policy, records
from defects import measured
from paired import write_block
from proxy.compress.ports import ScoreRequest, Scores
from proxy.policy.schema import Target
from proxy.scorers import EMBEDDED
from proxy.scorers.arithmetic import FP32
from proxy.scorers.causal_lm import CausalLM
from proxy.scorers.evaluate import Likelihood, answer_nll
from proxy.scorers.language_models import load_causal_lm
from proxy.scorers.passages import PassageReader
from proxy.scorers.pooling import drain
from proxy.tokens import encoding_for
from proxy.types import Component
from reference_llmlingua import PEERS, Compressed, NoReference, Reference
from reference_table import Side, Trial, report
from same_model import same_for_both

BLOCK = "reference"
"""Between which comments ``--write`` puts the report."""
QUESTION = "What happened?"
DRAWS = 50
"""How often documents are drawn at random for a case."""
count = encoding_for("gpt-4o").count


@dataclass(frozen=True)
class Prompt:
    """A compressed prompt, and what it took to make it."""

    text: str
    tokens: int  # of the context, upstream's
    seconds: float
    processor_seconds: float


class Ours(Pipeline):
    """Our method with one model; it remembers nothing of the prompt before."""

    def __init__(self, model: CausalLM) -> None:
        """Compress with this model."""
        super().__init__()
        self.model = model
        self.reader = PassageReader(model)

    def compress(
        self, documents: list[str], question: str, wanted: Target, *, long: bool = False
    ) -> Prompt:
        """Compress documents to a target, by LLMLingua or by LongLLMLingua."""
        self.reader = PassageReader(self.model)
        self.documents.clear()
        self.questions.clear()
        chosen = policy("longllmlingua" if long else "llmlingua").with_context(wanted)
        started, before = time.perf_counter(), time.process_time()
        found = self.run(SHAPES["context, question"](documents, question), chosen)
        spent = time.perf_counter() - started, time.process_time() - before
        context = found.compressed.outcome.components[Component.CONTEXT].after
        return Prompt(found.text(), context, *spent)

    def _scores(self, ask: ScoreRequest) -> Scores:
        passages = tuple(drain(self.reader.steps(ask.passages)))
        return replace(super()._scores(ask), passages=passages)


@dataclass(frozen=True)
class Column:
    """Cases that are compressed alike, by LLMLingua or by LongLLMLingua.

    ``all_sides``: with ours in float32 and the reference's alignment mended, too.
    """

    form: str
    cases: Sequence[Case]
    rate: float
    long: bool = False
    all_sides: bool = False

    @property
    def title(self) -> str:
        """What stands over it."""
        return self.form.format(self.rate)


@dataclass(frozen=True)
class Bench:
    """All that a trial needs."""

    reference: Reference
    ours: Ours
    fp32: Ours
    judge: CausalLM

    def trial(self, case: Case, column: Column) -> Trial:
        """Compress one case on all sides, one after the other, and judge what came of it."""
        rate, long = column.rate, column.long
        plain = self.reference.compress("", case.documents, case.question, rate=rate, long=long)
        theirs = _prompt(plain)
        ours = _at(self.ours, case, theirs.tokens, long=long)
        before = count("\n\n".join(case.documents))
        whole = "\n\n".join([*case.documents, case.question])
        return Trial(
            before=before,
            prompt_tokens=count(whole),
            question_tokens=count(f"\n\n{case.question}"),
            whole_nll=self._likelihood(case, whole).nats,
            chance=_chance(case, theirs.tokens / before),
            read=plain.read_tokens,
            reference=self._judged(case, theirs),
            ours=self._judged(case, ours),
            **(self._more(case, rate, theirs.tokens) if column.all_sides else {}),
        )

    def _more(self, case: Case, rate: float, tokens: int) -> dict[str, Side]:
        """Compress with ours in float32, and with the reference's alignment mended."""
        theirs = _prompt(
            self.reference.compress("", case.documents, case.question, rate=rate, aligned=True)
        )
        found = {
            "fp32": _at(self.fp32, case, tokens),
            "aligned": theirs,
            "ours_again": _at(self.ours, case, theirs.tokens),
        }
        return {side: self._judged(case, prompt) for side, prompt in found.items()}

    def _judged(self, case: Case, prompt: Prompt) -> Side:
        found = self._likelihood(case, prompt.text)
        return Side(
            tokens=prompt.tokens,
            seconds=prompt.seconds,
            processor_seconds=prompt.processor_seconds,
            kept=has_answer(prompt.text, case.answers, case.question),
            nll=found.nats,
            cropped=found.cropped,
        )

    def _likelihood(self, case: Case, prompt: str) -> Likelihood:
        return answer_nll(self.judge, f"{prompt}\n\nAnswer:", f" {case.answers[0]}")


def _at(ours: Ours, case: Case, tokens: int, *, long: bool = False) -> Prompt:
    return ours.compress(case.documents, case.question, Target(target_tokens=tokens), long=long)


def _chance(case: Case, rate: float) -> float:
    """Return how often whole documents drawn at random keep the answer, for as many tokens."""
    rng = random.Random(case.question)
    kept = (
        has_answer(drawn(rng, case.documents, rate), case.answers, case.question)
        for _ in range(DRAWS)
    )
    return sum(kept) / DRAWS


def _prompt(found: Compressed) -> Prompt:
    return Prompt(found.text, count(found.context), found.seconds, found.processor_seconds)


def trials(bench: Bench, column: Column) -> list[Trial]:
    """Try all cases, and tell of the progress on stderr."""
    found = []
    for number, case in enumerate(column.cases, 1):
        found.append(bench.trial(case, column))
        told = f"\r{column.title}: {number} of {len(column.cases)}"
        print(told, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _of_a_known_text(model: Path, text: str, wanted: Target) -> str:
    """Return what ours keeps of a text, with a model in float32."""
    ours = Ours(load_causal_lm(str(model), runtime=FP32))
    return ours.compress([text], QUESTION, wanted).text.removesuffix(QUESTION)


def main() -> int:
    """Measure, print, and write where asked; return the exit code."""
    options = _options()
    try:
        if options.defects:
            print(measured(PEERS / "models", _of_a_known_text))
            return 0
        model = options.language_model
        same = same_for_both(model, PEERS / "models")
        with Reference(same) as reference:
            judge = load_causal_lm(options.judge or model, runtime=FP32)
            fp32 = load_causal_lm(same, runtime=FP32)
            bench = Bench(reference, Ours(load_causal_lm(model)), Ours(fp32), judge)
            text, figures = _measured(bench, options)
    except NoReference as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    print(text)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), "utf-8")
    if options.write:
        write_block(options.write, BLOCK, text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--xquad", type=int, default=40, help="cases of eight paragraphs")
    add("--nq", type=int, default=40, help="cases of thirty passages")
    add("--xquad-rates", type=float, nargs="*", default=[0.5, 0.25])
    add("--nq-rates", type=float, nargs="*", default=[0.25, 0.125])
    add("--long-rates", type=float, nargs="*", default=[0.25], help="of both, LongLLMLingua")
    add("--language-model", default=EMBEDDED, help="name or folder, for both sides")
    add("--judge", help="what rates the answers, by name or folder; else the same model")
    add("--json", type=Path, help="where every case's figures go")
    add(
        "--write",
        type=Path,
        help=f"a file with the comments <!-- {BLOCK} --> and <!-- /{BLOCK} -->",
    )
    add("--defects", action="store_true", help="only what its defects do")
    return parser.parse_args()


def _measured(bench: Bench, options: argparse.Namespace) -> tuple[str, object]:
    paragraphs = paragraph_cases(
        sampled(records("xquad_en"), max(60, options.xquad)), SHAPES["context, question"]
    )[: options.xquad]
    passages = passage_cases(sampled(records("nq_30docs_dev"), options.nq))
    columns = [
        *(Column("XQuAD {}", paragraphs, rate, all_sides=True) for rate in options.xquad_rates),
        *(Column("NQ {}", passages, rate) for rate in options.nq_rates),
        *(Column("XQuAD {}, Long", paragraphs, rate, long=True) for rate in options.long_rates),
        *(Column("NQ {}, Long", passages, rate, long=True) for rate in options.long_rates),
    ]
    columns = [column for column in columns if column.cases]
    bench.trial(columns[0].cases[0], columns[0])  # the first is slow everywhere
    found = {column.title: trials(bench, column) for column in columns}
    text = report(
        found,
        model=bench.ours.model.revision,
        judge=bench.judge.revision,
        versions=bench.reference.versions,
    )
    each = {name: [asdict(trial) for trial in tried] for name, tried in found.items()}
    return text, each


if __name__ == "__main__":
    raise SystemExit(main())
