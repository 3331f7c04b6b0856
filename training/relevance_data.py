"""Questions, passages around them, and which units hold the answer: what relevance learns from.

Reads ``relevance/`` of the data folder, never ``eval/``.  A record becomes the turn that the proxy
would see: documents laid out by the proxy's own rules, the gold one among hard distractors (those
of the record, or the passages of the same source that BM25 finds nearest and that do not hold the
answer), and for each unit whether it overlaps an answer.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxy.compress.lexical import K1, B
from proxy.compress.ports import Document
from proxy.compress.units import lay_out
from proxy.types import Address, Component, Kind, Segment, Span

Row = dict[str, Any]

SEED = 1
DISTRACTORS = 29
HELD_OUT = 5
"""One question in so many is kept from training, to choose by."""
TAKEN = {"qed": 3600, "policyqa": 1200, "hybridqa": 400, "extractive_qa": 873, "qmsum": 30}
"""Records per source; of qmsum, meetings."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text and the spans of it that answer; none in a distractor."""

    text: str = field(repr=False)
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A question over documents; ``answers[i]``, ``frame[i]`` and ``texts[i]`` are of unit i."""

    source: str
    question: str
    documents: tuple[Document, ...] = field(repr=False)
    texts: tuple[str, ...] = field(repr=False)
    answers: tuple[bool, ...] = field(repr=False)
    frame: tuple[bool, ...] = field(repr=False)
    spans: tuple[tuple[Span, ...], ...] = field(repr=False, default=())
    """The answer's spans per document."""

    @property
    def held_out(self) -> bool:
        """Whether the question is kept from training."""
        return zlib.crc32(self.question.encode()) % HELD_OUT == 0


def read_cases(data: Path, taken: dict[str, int] | None = None) -> Iterator[Case]:
    """Yield the cases of every source, in a fixed order; those without evidence are left out."""
    for source, wanted in (taken or TAKEN).items():
        path = data / "relevance" / f"{source}_train.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        rng = random.Random(SEED)
        rng.shuffle(rows)
        for question, passages in READERS[source](rows[:wanted]):
            shuffled = list(passages)
            rng.shuffle(shuffled)
            case = lay_out_case(source, question, shuffled)
            if any(case.answers):
                yield case


def lay_out_case(source: str, question: str, passages: Sequence[Passage]) -> Case:
    """Lay the passages out as the proxy does; a long one becomes several documents."""
    documents: list[Document] = []
    texts: list[str] = []
    answers: list[bool] = []
    frame: list[bool] = []
    spans: list[tuple[Span, ...]] = []
    for passage in passages:
        whole = Span(0, len(passage.text))
        segment = Segment(
            Address(0, 0), whole, passage.text, Component.CONTEXT, Kind.PROSE, "training"
        )
        stretches: dict[int, list[Span]] = defaultdict(list)
        for unit in lay_out(segment, 0, 0).units:
            stretches[unit.stretch].append(unit.span)
            texts.append(unit.span.of(passage.text))
            frame.append(unit.frame)
            answers.append(not unit.frame and any(_meet(unit.span, s) for s in passage.spans))
        for units in stretches.values():
            start, end = units[0].start, units[-1].end
            documents.append(
                Document(
                    passage.text[start:end],
                    tuple(Span(u.start - start, u.end - start) for u in units),
                )
            )
            spans.append(
                tuple(
                    Span(max(s.start, start) - start, min(s.end, end) - start)
                    for s in passage.spans
                    if _meet(s, Span(start, end))
                )
            )
    return Case(
        source, question, tuple(documents), tuple(texts), tuple(answers), tuple(frame), tuple(spans)
    )


def _meet(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def dressed(title: str, text: str, spans: Sequence[Span] = ()) -> Passage:
    """Put a title before a text in one of three common ways, chosen by the text itself."""
    way = zlib.crc32(text.encode()) % 3
    head = (f"Document [{way + 1}](Title: {title}) ", f"{title}\n", "")[way]
    return Passage(head + text, tuple(Span(s.start + len(head), s.end + len(head)) for s in spans))


Turns = Iterator[tuple[str, list[Passage]]]


def _qed(rows: Sequence[Row]) -> Turns:
    golds = [
        dressed(row["title_text"], row["paragraph_text"], [Span(*s) for s in row["answer_spans"]])
        for row in rows
    ]
    questions = [row["question_text"] for row in rows]
    yield from among_neighbours(questions, golds, [row["answer_text"] for row in rows])


def _extractive_qa(rows: Sequence[Row]) -> Turns:
    golds = [Passage(row["context"], _spans(row)) for row in rows]
    questions = [row["question"] for row in rows]
    yield from among_neighbours(questions, golds, [row["answers"] for row in rows])


def _policyqa(rows: Sequence[Row]) -> Turns:
    """Each question over the other paragraphs of the same site's policy."""
    sites: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        sites[row["title"]][row["context"]] = None
    for row in rows:
        others = [text for text in sites[row["title"]] if text != row["context"]]
        drawn = random.Random(row["id"]).sample(others, min(DISTRACTORS, len(others)))
        yield row["question"], [Passage(row["context"], _spans(row)), *map(Passage, drawn)]


def _hybridqa(rows: Sequence[Row]) -> Turns:
    for row in rows:
        passages = []
        for number, doc in enumerate(row["docs"]):
            gold = number == row["gold_index"]
            found = [_found(doc["text"], answer) for answer in row["answers"]] if gold else []
            passages.append(dressed(doc["title"], doc["text"], [s for s in found if s]))
        yield row["question"], passages


def _qmsum(rows: Sequence[Row]) -> Turns:
    """Each specific query over the whole meeting, a line a turn."""
    for row in rows:
        yield from meeting_turns(row)


def meeting_turns(row: Row) -> Turns:
    """Yield a meeting's specific queries, the relevant turns marked."""
    lines = [f"{turn['speaker']}: {turn['content'].strip()}" for turn in row["meeting_transcripts"]]
    starts = np.concatenate([[0], np.cumsum([len(line) + 1 for line in lines])]).tolist()
    for query in row["specific_query_list"]:
        spans = tuple(
            Span(starts[int(first)], starts[min(int(last), len(lines) - 1) + 1] - 1)
            for first, last in query["relevant_text_span"]
            if int(first) < len(lines)
        )
        yield query["query"], [Passage("\n".join(lines), spans)]


READERS: dict[str, Callable[[Sequence[Row]], Turns]] = {
    "qed": _qed,
    "extractive_qa": _extractive_qa,
    "policyqa": _policyqa,
    "hybridqa": _hybridqa,
    "qmsum": _qmsum,
}


def _spans(row: Row) -> tuple[Span, ...]:
    pairs = zip(row["answers"], row["answer_starts"], strict=True)
    return tuple(Span(start, start + len(answer)) for answer, start in pairs)


def _found(text: str, answer: str) -> Span | None:
    at = text.casefold().find(answer.casefold())
    return Span(at, at + len(answer)) if at >= 0 else None


# -- distractors --------------------------------------------------------------------------------


def among_neighbours(
    questions: Sequence[str], golds: Sequence[Passage], answers: Sequence[Sequence[str]]
) -> Turns:
    """Yield each question with its gold passage and the nearest others that do not answer it."""
    pool = list(dict.fromkeys(gold.text for gold in golds))
    folded = [text.casefold() for text in pool]
    index = Index([text.split() for text in folded])
    for question, gold, wanted in zip(questions, golds, answers, strict=True):
        others: list[Passage] = []
        for number in index.nearest(question.casefold().split()):
            holds = any(answer.casefold() in folded[number] for answer in wanted)
            if pool[number] != gold.text and not holds:
                others.append(Passage(pool[number]))
            if len(others) == DISTRACTORS:
                break
        yield question, [gold, *others]


class Index:
    """BM25 over a pool of texts given as words (the formula of ``proxy.compress.lexical``)."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        """Count each text's words."""
        lengths = np.array([len(words) for words in texts], dtype=np.float64)
        self._norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean()))
        self._postings: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number, words in enumerate(texts):
            for word, count in Counter(words).items():
                rows, counts = self._postings[word]
                rows.append(number)
                counts.append(count)

    def nearest(self, query: Sequence[str]) -> list[int]:
        """Return all texts, the nearest first."""
        scores: NDArray[np.float64] = np.zeros(len(self._norm))
        for word in sorted(set(query) & self._postings.keys()):
            rows, counts = map(np.asarray, self._postings[word])
            idf = np.log1p((len(scores) - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += idf * counts * (K1 + 1) / (counts + self._norm[rows])
        return list(np.argsort(-scores, kind="stable"))
