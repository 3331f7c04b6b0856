"""Compare the cascade with and without its fine stage, at equal tokens.

    LACONIC_DATA=... python benchmarks/fine.py [--cases N] [--language-model NAME] [--write]

Both spend the same budget on the same requests.  Kept answers are contiguous, as in ``answers.py``;
of meetings (QMSum) it is the share of the words of the relevant turns that is sent, all of them and
those that are no stop words.  The interval is of the difference, paired bootstrap over cases;
``--write`` puts the table in ``docs/quality.md``.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from answers import SHAPES, Case, paragraph_cases, passage_cases, sampled
from common import Pipeline, Record, Result, has_answer, policy, records
from contenders import Bench
from paired import difference, replace_between
from proxy.compress.stop_words import STOP_WORDS
from proxy.policy.schema import Cascade, Fine, FlatRelevance, Policy, WholeText
from proxy.types import Span

RATES = (0.25, 0.125, 0.0625)
DOC = Path(__file__).parent.parent / "docs" / "quality.md"
BEGIN, END = "<!-- fine:begin -->", "<!-- fine:end -->"


@dataclass(frozen=True)
class Meeting(Case):
    """A transcript and a query; ``relevant`` are the spans of the turns that answer it."""

    relevant: list[Span] = field(default_factory=list)


def meetings(found: Sequence[Record], each: int = 2) -> list[Meeting]:
    """Return up to ``each`` queries of every meeting, after the transcript in one message."""
    cases: list[Meeting] = []
    for record in found:
        turns = [f"{t['speaker']}: {t['content']}" for t in record["meeting_transcripts"]]
        starts = [0, *np.cumsum([len(turn) + 1 for turn in turns]).tolist()]
        head, text = "Transcript:\n", "\n".join(turns)
        for asked in record["specific_query_list"][:each]:
            ranges = [(int(a), int(b)) for a, b in asked["relevant_text_span"]]
            ends = [starts[min(b, len(turns) - 1) + 1] - 1 for _, b in ranges]
            spans = [
                Span(len(head) + starts[a], len(head) + end)
                for (a, _), end in zip(ranges, ends, strict=True)
            ]
            message = {"role": "user", "content": f"{head}{text}\n\nQuestion: {asked['query']}"}
            cases.append(Meeting([message], asked["query"], [], turns, spans))
    return cases


def evidence(case: Meeting, result: Result, *, all_words: bool) -> float:
    """Return the share of the relevant turns' words that is sent."""
    text = case.messages[0]["content"]
    sent = np.ones(len(text), dtype=bool)
    for edit in result.compressed.edits:
        sent[:] = False
        for piece in edit.pieces:
            if isinstance(piece, Span):
                sent[slice(*piece)] = True
    words = [match.span() for match in _words(text, case.relevant)]
    counted = [
        (start, end)
        for start, end in words
        if all_words or text[start:end].casefold() not in STOP_WORDS["en"]
    ]
    return sum(bool(sent[start:end].all()) for start, end in counted) / max(1, len(counted))


def _words(text: str, spans: Sequence[Span]) -> Iterator[re.Match[str]]:
    for span in spans:
        yield from re.compile(r"[\w'’]+").finditer(text, *span)


@dataclass(frozen=True)
class Row:
    """What one policy and the other kept of a set's cases, at one rate."""

    name: str
    rate: float
    without: list[float]
    fine: list[float]
    spent: tuple[float, float]  # achieved rates, mean

    def told(self) -> str:
        """Return a row of the table."""
        without, fine = (100 * np.array(each) for each in (self.without, self.fine))
        gain = difference(fine.tolist(), without.tolist()).told("{:+.1f}")
        return (
            f"| {self.name} | {self.rate:g} | {without.mean():.1f} | {fine.mean():.1f} | {gain} "
            f"| {self.spent[0]:.4f} / {self.spent[1]:.4f} | {len(self.fine)} |"
        )


def rows(pipeline: Pipeline, name: str, cases: Sequence[Case], rate: float) -> Iterator[Row]:
    """Run both over the cases; meetings are measured in two ways."""
    chosen = forced(rate)
    fine = chosen.model_copy(update={"method": Cascade(fine=Fine())})
    pairs = [(pipeline.run(c.messages, chosen), pipeline.run(c.messages, fine)) for c in cases]
    spent = (
        float(np.mean([plain.rate for plain, _ in pairs])),
        float(np.mean([short.rate for _, short in pairs])),
    )
    for measured, all_words in MEASURES[isinstance(cases[0], Meeting)]:
        without, with_it = (
            [
                _kept(c, pair[which], all_words=all_words)
                for c, pair in zip(cases, pairs, strict=True)
            ]
            for which in (0, 1)
        )
        yield Row(f"{name}{measured}", rate, without, with_it, spent)


MEASURES = {False: [("", True)], True: [(", words", True), (", words of content", False)]}


def _kept(case: Case, result: Result, *, all_words: bool) -> float:
    if isinstance(case, Meeting):
        return evidence(case, result, all_words=all_words)
    return float(has_answer(result.text(), case.answers, case.question))


def forced(rate: float) -> Policy:
    """Return ``rag`` at a rate, without the guards that would pass a request as it is."""
    ignoring = {"whole_text": WholeText.IGNORE, "flat_relevance": FlatRelevance.IGNORE}
    return policy("rag", rate).model_copy(update=ignoring)


def sets(cases: int) -> dict[str, Sequence[Case]]:
    """Return the development sets, some cases of each."""
    shape = SHAPES["context, question"]
    few = random.Random(3).sample(records("qmsum_val"), max(2, cases // 20))
    return {
        "nq_30docs_dev": passage_cases(sampled(records("nq_30docs_dev"), cases)),
        "xquad_en": paragraph_cases(sampled(records("xquad_en"), cases), shape),
        "xquad_multi": [
            case
            for language in ("ar", "es", "hi", "zh")
            for case in paragraph_cases(
                sampled([r for r in records("xquad_multi") if r["lang"] == language], cases // 8),
                shape,
            )
        ],
        "qmsum_val": meetings(few),
    }


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=160, help="of NQ and XQuAD English")
    parser.add_argument("--language-model", default="embedded")
    parser.add_argument("--write", action="store_true", help="put the table in docs/quality.md")
    options = parser.parse_args()
    pipeline = Bench(options.language_model)
    table = [
        "| set | rate | without | with | difference | achieved | cases |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(table))
    for name, cases in sets(options.cases).items():
        for rate in RATES:
            for row in rows(pipeline, name, cases, rate):
                table.append(row.told())
                print(table[-1], flush=True)
    if options.write:
        written = "\n".join(table)
        replace_between(DOC, BEGIN, END, f"\n\n{written}\n\n")


if __name__ == "__main__":
    main()
