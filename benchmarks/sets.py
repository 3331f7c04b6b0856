"""The dev sets as requests: what is asked of which text, and what must survive it.

A case is one request in which the context stands in one user message.  Each set says which figure
it is judged by first (``HEADLINES``): answers kept, or what comes nearest to that.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from common import Record, among, body_of, records
from metrics import sentence_at
from proxy.types import Span

Item = TypeVar("Item")

MULTISCRIPT = Path(__file__).parent / "data" / "scripts.jsonl"


@dataclass(frozen=True)
class Case:
    """One request.

    ``documents`` is the context as it stands in the message, piece by piece; ``answers`` and
    ``evidence`` must stand in what is sent; ``relevant`` are characters of the message that bear
    on the question; ``demonstrations`` are to stay whole; ``judged`` is what a judge reads after
    the prompt, empty where that makes no sense.
    """

    documents: tuple[str, ...] = field(repr=False)
    ask: str  # what follows the context in the message
    question: str
    head: str = ""  # what precedes the context in the message
    glue: str = "\n\n"
    answers: tuple[str, ...] = ()
    evidence: str | None = None
    relevant: tuple[Span, ...] = ()
    demonstrations: tuple[str, ...] = ()
    judged: str = ""
    is_json: bool = False

    @property
    def context(self) -> str:
        """The context, as it stands in the message."""
        return self.glue.join(self.documents)

    def prompt(self, context: str) -> str:
        """Return the message with another context."""
        return f"{self.head}{context}{self.ask}"

    def context_of(self, message: str) -> str:
        """Return what a message says beside the ask: its context, shortened or not."""
        return message.removeprefix(self.head).removesuffix(self.ask).replace(self.question, " ")

    @property
    def messages(self) -> list[Record]:
        """The request."""
        return [{"role": "user", "content": self.prompt(self.context)}]

    @property
    def body(self) -> bytes:
        """The request, as a caller sends it."""
        return body_of(self.messages)


# -- each set -----------------------------------------------------------------------------------


def xquad(found: Sequence[Record], count: int) -> list[Case]:
    """Eight paragraphs and a question about one of them."""
    rng = random.Random(5)
    pool = sorted({record["context"] for record in found})
    return [_paragraphs(rng, record, pool) for record in _sampled(found, count)]


def _paragraphs(rng: random.Random, record: Record, pool: Sequence[str]) -> Case:
    own, answer, start = record["context"], record["answers"][0], record["answer_starts"][0]
    question = record["question"]
    return Case(
        tuple(among(rng, own, pool, 8)),
        f"\n\n{question}",
        question,
        answers=tuple(record["answers"]),
        evidence=sentence_at(own, start, start + len(answer)),
        judged=answer,
    )


def nq(count: int) -> list[Case]:
    """Thirty numbered passages and a question."""
    rng = random.Random(7)
    return [_passages(rng, record) for record in _sampled(records("nq_30docs_dev"), count)]


def _passages(rng: random.Random, record: Record) -> Case:
    passages = [record["gold"], *record["distractors"]]
    rng.shuffle(passages)
    numbered = enumerate(passages, 1)
    question, text = record["question"], record["gold"]["text"]
    at = {text.find(answer): answer for answer in record["answers"]}
    start = min((place for place in at if place >= 0), default=-1)
    return Case(
        tuple(f"Document [{n}](Title: {p['title']}) {p['text']}" for n, p in numbered),
        f"\n\nQuestion: {question}\nAnswer:",
        question,
        glue="\n",
        answers=tuple(record["answers"]),
        evidence=sentence_at(text, start, start + len(at[start])) if start >= 0 else None,
    )


def languages(language: str) -> Callable[[int], list[Case]]:
    """Eight paragraphs and a question, in another language."""

    def cases(count: int) -> list[Case]:
        return xquad([r for r in records("xquad_multi") if r["lang"] == language], count)

    return cases


TRANSCRIPT = "Transcript:\n"
"""What a meeting stands under: bare turns of speech are not taken for context."""
MOST_WORDS = 3_000
"""Words of a meeting that are shown, those that bear on the question among them."""


def meetings(count: int) -> list[Case]:
    """Meetings, each with the question that has the shortest relevant stretch."""
    found = [_meeting(record) for record in records("qmsum_val")]
    return _sampled([case for case in found if case is not None], count)


def _meeting(record: Record) -> Case | None:
    turns = [f"{t['speaker']}: {t['content']}" for t in record["meeting_transcripts"]]
    asked = [(_turns_of(query), query["query"]) for query in record["specific_query_list"]]
    numbers, question = min(asked, key=lambda pair: (len(pair[0]), pair[1]))
    shown = _stretch([len(turn.split()) for turn in turns], numbers)
    if not set(numbers) <= set(shown):
        return None
    starts = [len(TRANSCRIPT)]
    for turn in (turns[i] for i in shown):
        starts.append(starts[-1] + len(turn) + 1)
    places = [i - shown.start for i in numbers]
    return Case(
        tuple(turns[i] for i in shown),
        f"\n\nQuestion: {question}",
        question,
        head=TRANSCRIPT,
        glue="\n",
        relevant=tuple(Span(starts[i], starts[i + 1] - 1) for i in places),
    )


def _turns_of(query: Record) -> list[int]:
    spans = [(int(first), int(last)) for first, last in query["relevant_text_span"]]
    return sorted({i for first, last in spans for i in range(first, last + 1)})


def _stretch(words: Sequence[int], numbers: Sequence[int]) -> range:
    """Return the turns around the relevant ones that hold at most MOST_WORDS."""
    first, end = numbers[0], numbers[0]
    room = MOST_WORDS
    while True:
        ahead = end < len(words) and words[end] <= room
        if ahead:
            room -= words[end]
            end += 1
        behind = first > 0 and end > numbers[-1] and words[first - 1] <= room
        if behind:
            first -= 1
            room -= words[first]
        if not ahead and not behind:
            return range(first, end)


def gsm8k(count: int) -> list[Case]:
    """Eight worked examples and a problem: the papers' chain-of-thought prompt."""
    path = Path(os.environ["LACONIC_DATA"]) / "eval" / "gsm8k_cot_8shot.txt"
    examples = tuple(path.read_text(encoding="utf-8").strip().split("\n\n"))
    return [
        Case(
            examples,
            f"\n\nQuestion: {record['question']}\nLet's think step by step\n",
            record["question"],
            demonstrations=examples,
            judged=_solution(record["answer"]),
        )
        for record in _sampled(records("gsm8k_test"), count)
    ]


def _solution(answer: str) -> str:
    """Return a solution without the set's own marks."""
    text = answer.replace("#### ", "The answer is ")
    while "<<" in text:
        head, _, rest = text.partition("<<")
        text = head + rest.partition(">>")[2]
    return text


def key_values(count: int) -> list[Case]:
    """Return JSON objects of 75 random keys and values, one of which is asked for."""
    return [_object(record) for record in _sampled(records("kv-retrieval-75_keys"), count)]


def _object(record: Record) -> Case:
    text = json.dumps(dict(record["ordered_kv_records"]), indent=1)
    question = f"What is the value of the key {record['key']}?"
    return Case(
        (text,),
        f"\n\n{question}",
        question,
        head="JSON data:\n",
        answers=(record["value"],),
        is_json=True,
    )


def scripts(count: int) -> list[Case]:
    """Paragraphs in Chinese, Japanese, Korean, Hindi, Arabic and Thai, and with emoji; our own."""
    found = [json.loads(line) for line in MULTISCRIPT.read_text(encoding="utf-8").splitlines()]
    rng = random.Random(9)
    cases = []
    for record in found[:count]:
        same = [other["text"] for other in found if other["script"] == record["script"]]
        others = [other["text"] for other in found if other["script"] != record["script"]]
        documents = [*same, *rng.sample(others, 2)]
        rng.shuffle(documents)
        question, answer = record["question"], record["answer"]
        cases.append(Case(tuple(documents), f"\n\n{question}", question, answers=(answer,)))
    return cases


def _sampled(found: Sequence[Item], count: int) -> list[Item]:
    """Return some items at random; of a larger sample the first ones are the same."""
    return random.Random(3).sample(found, len(found))[:count]


# -- all ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DevSet:
    """A set: how its cases are made, how many by default, and by which figure it is judged."""

    title: str
    cases: Callable[[int], list[Case]]
    count: int
    headline: str


SETS = {
    "xquad_en": DevSet(
        "XQuAD English, 8 paragraphs",
        lambda count: xquad(records("xquad_en"), count),
        100,
        "answer",
    ),
    "nq_30docs_dev": DevSet("NaturalQuestions, 30 passages", nq, 40, "answer"),
    "xquad_es": DevSet("XQuAD Spanish, 8 paragraphs", languages("es"), 20, "answer"),
    "xquad_zh": DevSet("XQuAD Chinese, 8 paragraphs", languages("zh"), 20, "answer"),
    "xquad_hi": DevSet("XQuAD Hindi, 8 paragraphs", languages("hi"), 20, "answer"),
    "xquad_ar": DevSet("XQuAD Arabic, 8 paragraphs", languages("ar"), 20, "answer"),
    "qmsum_val": DevSet("QMSum, a meeting of 3,000 words", meetings, 8, "words"),
    "gsm8k_8shot": DevSet("GSM8K, 8 worked examples", gsm8k, 8, "demonstrations"),
    "kv_75": DevSet("75 keys and values in JSON", key_values, 10, "answer"),
    "scripts": DevSet("Six scripts and emoji, our own paragraphs", scripts, 21, "answer"),
}
"""What quality.py measures.  Together about half an hour on two cores."""

HEADLINES = {
    "answer": "answers kept",
    "words": "relevant words kept",
    "demonstrations": "worked examples kept whole",
}
