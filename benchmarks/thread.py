"""Check that what is left of a web thread, under every policy, is still the thread.

    python benchmarks/thread.py [FILE] [--question TEXT] [--policies default rag ...]

A thread (handles, times, links, quotations) is what a person pastes, with no question, with
"Summarise this thread." or with a question about it, before or after the text.  Under ``default``
and ``rag`` the result is a faithful extract, every kept sentence or line whole, or the caller's own
bytes with a reason.  Methods that delete words keep whole words in their order, glue none, and cut
inside nothing that is protected.  No target is exceeded without a reason.  Exits 1 where one of
this does not hold.  The baseline is the thread as sent; without FILE it is one of the tests'.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from common import Record, Result, body_of, policy, stands_in_order
from contenders import Bench
from proxy.compress.protect import Protection, protected_spans
from proxy.policy.schema import Policy
from proxy.types import Component, LeafEdit, Span
from proxy.wire import leaves_of, parse_chat

THREAD = Path(__file__).parent.parent / "tests" / "texts" / "thread.txt"
ASKS = {"no question": "", "summarise": "Summarise this thread."}
WHOLE_SENTENCES = ("default", "rag", "chat", "few-shot")
POLICIES = (*WHOLE_SENTENCES, "llmlingua", "selective-context", "longllmlingua", "lexical")
LINE_WIDTH = 40  # a line that is shorter was ended, not wrapped
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*\Z")


def faults(raw: bytes, result: Result, chosen: Policy) -> Iterator[str]:
    """Yield what is wrong with a compressed body; ``raw`` is what the caller sent."""
    request, outcome = parse_chat(raw), result.compressed.outcome
    reasons = [*outcome.turn_reasons.values()]
    count, target = outcome.components[Component.CONTEXT], chosen.components.context
    if result.body == raw:
        if not reasons and outcome.reason is None:
            yield "passed through without a reason"
        return
    if target.rate and count.after > target.rate * count.before and not reasons:
        yield f"{count.after} tokens, over the target, without a reason"
    if len(result.body) >= len(raw):
        yield "not shorter"
    by_words = chosen.name not in WHOLE_SENTENCES
    leaves = leaves_of(request)
    for edit in result.compressed.edits:
        yield from faults_of_edit(edit, leaves[edit.address].text, by_words=by_words)


def faults_of_edit(edit: LeafEdit, text: str, *, by_words: bool) -> Iterator[str]:
    """Yield what is wrong with what is left of one text."""
    spans = [piece for piece in edit.pieces if isinstance(piece, Span)]
    if len(spans) < len(edit.pieces):
        yield "text that the caller did not write there"
    if not stands_in_order("".join(span.of(text) for span in spans).split(), text.split()):
        yield "a word that was cut, glued or moved"
    protection = Protection(protected_spans(text))
    parts = is_between_words if by_words else is_between_sentences
    for at in cuts(spans):
        if protection.cuts(at) or not parts(text, at):
            yield f"cut at {at}: {text[max(0, at - 20) : at]!r} | {text[at : at + 20]!r}"


def cuts(spans: Sequence[Span]) -> list[int]:
    """Return where kept text begins or ends.

    >>> cuts([Span(0, 2), Span(2, 4), Span(6, 9)])
    [0, 4, 6, 9]
    """
    edges = list(chain(*(span for span in spans if span.start < span.end)))
    return [at for at in edges if edges.count(at) == 1]


def is_between_words(text: str, at: int) -> bool:
    """Whether a cut parts no word.

    >>> is_between_words("one two", 3), is_between_words("one two", 2)
    (True, False)
    """
    return text[at - 1 : at].strip() == "" or text[at : at + 1].strip() == ""


def is_between_sentences(text: str, at: int) -> bool:
    r"""Whether a cut parts sentences, or lines that were not only wrapped.

    >>> [is_between_sentences("Go on. He did.\n1. e.g. this", at) for at in (6, 9, 14, 23)]
    [True, False, True, False]
    """
    left, right = text[:at].rstrip(), text[at:].lstrip()
    gap = text[len(left) : len(text) - len(right)]
    if not left or not right or gap.count("\n") > 1:
        return True
    ended = "\n" in gap and len(left) - left.rfind("\n") <= LINE_WIDTH
    closed = bool(gap) and ("\n" in gap or _SENTENCE_END.search(left) is not None)
    return ended or (closed and not right[0].islower())


def messages_of(text: str, ask: str, place: str) -> list[Record]:
    """Return a request that holds the thread and the ask."""
    parts = [part for part in ((ask, text) if place == "before" else (text, ask)) if part]
    return [{"role": "user", "content": "\n\n".join(parts)}]


def main() -> int:
    """Print a line per policy and ask; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", nargs="?", type=Path, default=THREAD)
    parser.add_argument("--question", default="What does one of these clocks cost?")
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--language-model", default="embedded")
    parser.add_argument("--classifier", help="a token classifier: llmlingua2 is tried, too")
    parser.add_argument("--show", action="store_true", help="print what is sent")
    options = parser.parse_args()
    text = options.file.read_text("utf-8").strip()
    names = [*options.policies, *(["llmlingua2"] if options.classifier else [])]
    pipeline = Bench(options.language_model, options.classifier)
    failed = False
    for name in names:
        for ask, asked in (ASKS | {"question": options.question}).items():
            for place in ("after", "before")[: 2 if asked else 1]:
                raw = body_of(messages_of(text, asked, place))
                result = pipeline.run_raw(raw, policy(name))
                wrong = list(faults(raw, result, policy(name)))
                print(line_of(name, f"{ask} {place}" if asked else ask, result, wrong), flush=True)
                if options.show:
                    print(result.text())
                failed = failed or bool(wrong)
    return int(failed)


def line_of(name: str, ask: str, result: Result, wrong: Sequence[str]) -> str:
    """Return a line of the table."""
    outcome = result.compressed.outcome
    reasons = ", ".join(outcome.turn_reasons.values()) or outcome.reason or "-"
    told = "".join(f"\n    WRONG: {one}" for one in wrong)
    tokens = f"{outcome.tokens_before} -> {outcome.tokens_after}"
    return f"{name:18} {ask:16} tokens {tokens:14} reason {reasons}{told}"


if __name__ == "__main__":
    raise SystemExit(main())
