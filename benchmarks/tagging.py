"""How well requests are tagged, by characters.  ``LACONIC_DATA=... python benchmarks/tagging.py``.

Tables: the labelled requests of ``eval/tagging_dev``; the shapes of
``tagging_shapes.py``; and passages with a question, in the ways that callers send them,
split exactly or not (every eighth case; all with ``--all``).  *harm* is the share of instruction
and question characters taken for context.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.policy.schema import Tagging
from proxy.tagging import turns
from proxy.types import Address, Component, Leaf, Message, Request, Span, ToolCall, Turn
from tagging_shapes import Texts, shapes

Row = Mapping[str, Any]


@dataclass(slots=True)
class Tally:
    """Characters of one template: context, context found, ask, ask taken for context."""

    context: int = 0
    found: int = 0
    ask: int = 0
    harmed: int = 0

    def add(self, other: Tally) -> None:
        """Add figure by figure."""
        self.context += other.context
        self.found += other.found
        self.ask += other.ask
        self.harmed += other.harmed

    def line(self, name: str) -> str:
        """Format as a row of the table."""
        recall = f"{100 * self.found / self.context:7.2f}" if self.context else "      -"
        harm = f"{100 * self.harmed / self.ask:7.2f}" if self.ask else "      -"
        return f"{name:24s} context {recall} %   harm {harm} %"


def main() -> None:
    """Print the tables; with ``-v``, each stretch that was taken for something else."""
    data = Path(os.environ["LACONIC_DATA"]) / "eval"
    verbose = "-v" in sys.argv[1:]
    print("tagging_dev")
    _table(
        ((row["template"], row) for row in _rows(data / "tagging_dev.jsonl.gz")), verbose=verbose
    )
    for wave, later in (("first", False), ("second", True)):
        print(f"\nshapes of our own, {wave} wave")
        _table(shapes(_texts(data), later=later), verbose=verbose)
    print("\npassages and a question, share of requests split exactly right")
    _exact(data, verbose=verbose)


def request_of(messages: Sequence[Row]) -> Request:
    """Build a request from chat messages, without the wire."""
    built = []
    for index, message in enumerate(messages):
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [p["text"] for p in content or []]
        leaves = tuple(Leaf(Address(index, i), t, Span(0, 0)) for i, t in enumerate(texts))
        calls = tuple(
            ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"])
            for c in message.get("tool_calls") or []
        )
        built.append(
            Message(
                index,
                message["role"],
                leaves,
                message.get("name"),
                message.get("tool_call_id"),
                calls,
            )
        )
    return Request(b"", None, stream=False, messages=tuple(built))


def tagged(messages: Sequence[Row], options: Tagging | None = None) -> tuple[Turn, ...]:
    """Tag chat messages."""
    return turns(request_of(messages), options or Tagging())


def _rows(path: Path) -> list[Row]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _table(cases: Iterator[tuple[str, Row]], *, verbose: bool) -> None:
    tallies: dict[str, Tally] = defaultdict(Tally)
    for name, row in cases:
        tallies[name].add(_tally(name, row, verbose=verbose))
    whole = Tally()
    for name, tally in tallies.items():
        whole.add(tally)
        print(tally.line(name))
    print(whole.line("ALL"))


def _tally(name: str, row: Row, *, verbose: bool) -> Tally:
    """Compare by characters that are no white space; unlabelled stretches do not count."""
    made: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for turn in tagged(row["messages"]):
        for segment in turn.segments:
            made[segment.address].append(segment)
    tally = Tally()
    for true in row["segments"]:
        address = Address(true["message"], true.get("part", 0))
        for segment in made[address]:
            start, end = max(true["start"], segment.span.start), min(true["end"], segment.span.end)
            size = max(0, end - start)
            context = segment.component is Component.CONTEXT
            wrong = size and context is not (true["component"] == "context")
            if wrong and verbose:
                text = segment.text[start - segment.span.start : end - segment.span.start]
                print("   !", name, true["component"], segment.rule, repr(text[:160]))
            if true["component"] == "context":
                tally.context += size
                tally.found += size * context
            else:
                tally.ask += size
                tally.harmed += size * context
    return tally


def _texts(data: Path) -> Texts:
    rng = random.Random(7)
    squad = _rows(data / "xquad_en.jsonl.gz")
    natural = _rows(data / "nq_30docs_dev.jsonl.gz")
    multi = _rows(data / "xquad_multi.jsonl.gz")
    return Texts(
        squad=[(r["context"], r["question"]) for r in squad],
        natural=[
            (r["question"], [(d["title"], d["text"]) for d in r["distractors"]]) for r in natural
        ],
        multi={
            lang: [(r["context"], r["question"]) for r in multi if r["lang"] == lang]
            for lang in ("es", "zh", "hi", "ar")
        },
        rng=rng,
    )


Case = tuple[list[Row], list[str], str]  # messages, passages, question
_Shape = Callable[[list[str], str], list[Row]]


def _user(content: Any) -> Row:
    return {"role": "user", "content": content}


def _parts(*texts: str) -> list[Row]:
    return [{"type": "text", "text": text} for text in texts]


_ROLE = "Answer the user's question from the passages. Be brief."
SHAPES: dict[str, _Shape] = {
    "context, question": lambda ps, q: [_user("\n\n".join([*ps, q]))],
    "question, context": lambda ps, q: [_user("\n\n".join([q, *ps]))],
    "two parts": lambda ps, q: [_user(_parts("\n\n".join(ps), q))],
    "two parts, question first": lambda ps, q: [_user(_parts(q, "\n\n".join(ps)))],
    "system + user": lambda ps, q: [{"role": "system", "content": "\n\n".join(ps)}, _user(q)],
    "system with role + user": lambda ps, q: [
        {"role": "system", "content": "\n\n".join([_ROLE, *ps])},
        _user(q),
    ],
    "two messages": lambda ps, q: [_user("\n\n".join(ps)), _user(q)],
    "two messages, q first": lambda ps, q: [_user(q), _user("\n\n".join(ps))],
}


def _exact(data: Path, *, verbose: bool) -> None:
    every = 1 if "--all" in sys.argv else 8
    for set_name, cases in _sets(data):
        for name in SHAPES if set_name.startswith("xquad") else list(SHAPES)[:2]:
            right = harmed = 0
            for passages, question in cases[::every]:
                exact, harm = _judge(SHAPES[name](passages, question), passages, question)
                right += exact
                harmed += harm
                if verbose and not exact:
                    print("   !", set_name, name, "HARM" if harm else "", repr(question[:80]))
            share = 100 / len(cases[::every])
            figures = f"exact {share * right:6.2f} %   harm {share * harmed:5.2f} %"
            print(f"{set_name:14s} {name:26s} {figures}")


def _sets(data: Path) -> Iterator[tuple[str, list[tuple[list[str], str]]]]:
    """Yield the passages and questions of each set and, for nq, way of numbering."""
    yield "xquad_en", _eight(_rows(data / "xquad_en.jsonl.gz"))
    multi = _rows(data / "xquad_multi.jsonl.gz")
    for lang in ("es", "zh", "hi", "ar"):
        yield f"xquad_{lang}", _eight([r for r in multi if r["lang"] == lang])
    natural = _rows(data / "nq_30docs_dev.jsonl.gz")
    for style, numbered in NUMBERINGS.items():
        yield f"nq {style}", [(numbered(_thirty(r)), r["question"]) for r in natural]


def _thirty(row: Row) -> list[tuple[str, str]]:
    documents = [*row["distractors"][:14], row["gold"], *row["distractors"][14:]]
    return [(d["title"], d["text"]) for d in documents]


def _eight(rows: Sequence[Row]) -> list[tuple[list[str], str]]:
    """Give each question its paragraph among seven others of the same set."""
    rng = random.Random(11)
    paragraphs = sorted({r["context"] for r in rows})
    cases = []
    for row in rows:
        others = rng.sample([p for p in rng.sample(paragraphs, 9) if p != row["context"]], 7)
        passages = [*others, row["context"]]
        rng.shuffle(passages)
        cases.append((passages, row["question"]))
    return cases


Numbering = Callable[[list[tuple[str, str]]], list[str]]
NUMBERINGS: dict[str, Numbering] = {
    "[1]": lambda ds: [f"[{i}] {text}" for i, (_, text) in enumerate(ds, 1)],
    "Document [1]": lambda ds: [
        f"Document [{i}](Title: {t}) {x}" for i, (t, x) in enumerate(ds, 1)
    ],
    "Passage 1:": lambda ds: [f"Passage {i}: {x}" for i, (_, x) in enumerate(ds, 1)],
    "1.": lambda ds: [f"{i}. {t}: {x}" for i, (t, x) in enumerate(ds, 1)],
    "### title": lambda ds: [f"### {t}\n\n{x}" for t, x in ds],
    "Title:": lambda ds: [f"Title: {t}\n{x}" for t, x in ds],
    "title line": lambda ds: [f"{t}\n{x}" for t, x in ds],
}


def _judge(messages: list[Row], passages: list[str], question: str) -> tuple[bool, bool]:
    """Tell whether passages are all context, the question none; and whether the latter failed."""
    kept: list[str] = []
    context: list[str] = []
    for turn in tagged(messages):
        for segment in turn.segments:
            (context if segment.component is Component.CONTEXT else kept).append(segment.text)
    rest = "\0".join(kept)
    harm = question.strip() not in rest
    joined = "".join(context)
    return not harm and all(p.strip() in joined for p in passages), harm


if __name__ == "__main__":
    main()
