"""Worked examples under few tokens: which stay whole, which one is shortened, what of numbers.

    LACONIC_DATA=... python benchmarks/gsm8k.py [--targets 446 171 117] [--variant gather]

The papers' chain-of-thought prompt of eight worked examples (``eval/gsm8k_cot_8shot.txt``), with a
question of GSM8K after it, goes through the policy ``llmlingua`` with a target for the examples
alone.  Exits 1 where the budget is not met within a word, where a number was altered, where a word
was cut or glued and, under ``shorten: last``, where more than one example was shortened or one that
fits was.  The baseline is the prompt as sent.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import MODEL, Result, policy, records, stands_in_order
from contenders import Bench
from proxy.compress.words import read_words
from proxy.policy.schema import LLMLingua, Policy, Target
from proxy.tokens import encoding_for
from proxy.types import Component, Span

COUNT = encoding_for(MODEL).count


@dataclass(frozen=True)
class Example:
    """A worked example: where it stands in the prompt, its tokens, and what is kept of it."""

    number: int
    tokens: int
    text: str
    kept: str

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing but white space at an end."""
        return self.kept.strip() == self.text

    @property
    def is_shortened(self) -> bool:
        """Whether some of it is left and some is not."""
        return bool(self.kept.strip()) and not self.is_whole

    def dearest(self) -> int:
        """Return the tokens of the longest word in it."""
        return max(COUNT(f" {word.span.of(self.text)}") for word in read_words(self.text))


def prompt() -> str:
    """Read the eight worked examples."""
    folder = os.environ.get("LACONIC_DATA")
    if not folder:
        sys.exit("LACONIC_DATA: found nothing, wanted the folder that holds eval/")
    return (Path(folder) / "eval" / "gsm8k_cot_8shot.txt").read_text("utf-8").rstrip()


def chosen(shorten: str, variant: str, target: int) -> Policy:
    """Return the shipped policy with what is tried here."""
    found = policy("llmlingua")
    method = LLMLingua.model_validate(
        {**found.method.model_dump(), "shorten": shorten, "variant": variant}
    )
    return found.model_copy(update={"method": method}).with_context(Target(target_tokens=target))


def examples(text: str, result: Result) -> list[Example]:
    """Return the examples of a prompt, each with the characters that were kept of it."""
    edits = result.compressed.edits
    kept = [piece for edit in edits for piece in edit.pieces if isinstance(piece, Span)]
    kept = kept if edits else [Span(0, len(text))]
    found: list[Example] = []
    begin = 0
    for number, one in enumerate(text.split("\n\n"), 1):
        end = begin + len(one)
        left = "".join(text[max(a, begin) : max(begin, min(b, end))] for a, b in kept)
        found.append(Example(number, COUNT(one), one, left))
        begin = end + 2
    return found


def faults(found: Sequence[Example], result: Result, target: int, shorten: str) -> Iterator[str]:
    """Yield what the issue promises and does not hold."""
    after = result.compressed.outcome.components[Component.CONTEXT].after
    whole = [one for one in found if one.is_whole]
    shortened = [one for one in found if one.is_shortened]
    if after > target:
        yield f"{after - target} tokens over the target"
    if target - after >= max((one.dearest() for one in shortened), default=1):
        yield f"{target - after} tokens below the target, more than any word"
    if not stands_in_order(result.text().split(), texts_of(found)):
        yield "a word that the prompt does not have in that place"
    if shorten != "last":
        return
    if len(shortened) > 1:
        yield f"{len(shortened)} examples shortened, wanted one at most"
    room = target - sum(one.tokens for one in whole)
    if any(one.tokens < room for one in shortened):
        yield "the example that was shortened would have fitted whole"
    if any(not one.kept.strip() and one.tokens < room - 2 for one in found) and not shortened:
        yield "an example that fits was left out"


def texts_of(found: Sequence[Example]) -> list[str]:
    """Return the words of the examples and of the question after them, in order."""
    return [*(word for one in found for word in one.text.split()), *asked().split()]


def asked() -> str:
    """Return a question of the test set, as the examples are written."""
    return f"Question: {records('gsm8k_test')[0]['question']}\nLet's think step by step"


def numbers_altered(found: Sequence[Example]) -> int:
    """Count kept words with a digit that do not stand in their example, in order."""
    return sum(
        not stands_in_order(numbers(one.kept), numbers(one.text))
        for one in found
        if one.kept.strip()
    )


def numbers(text: str) -> list[str]:
    """Return what stands between white space and holds a digit."""
    return [word for word in text.split() if any(character.isdigit() for character in word)]


def main() -> int:
    """Print a line per target; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--targets", type=int, nargs="+", default=[446, 171, 117])
    parser.add_argument("--variant", default="gather", choices=["gather", "exact"])
    parser.add_argument("--language-model", default="embedded")
    options = parser.parse_args()
    text, pipeline = prompt(), Bench(options.language_model)
    messages = [{"role": "user", "content": f"{text}\n\n{asked()}"}]
    failed = False
    for shorten in ("last", "all"):
        for target in options.targets:
            result = pipeline.run(messages, chosen(shorten, options.variant, target))
            found = examples(text, result)
            altered = numbers_altered(found)
            wrong = list(faults(found, result, target, shorten))
            count = result.compressed.outcome.components[Component.CONTEXT]
            print(
                f"shorten {shorten:4}  target {target:4}  tokens {count.before} -> {count.after}"
                f"  whole {[one.number for one in found if one.is_whole]}"
                f"  shortened {[one.number for one in found if one.is_shortened]}"
                f"  numbers {sum(len(numbers(one.kept)) for one in found)}"
                f" of {sum(len(numbers(one.text)) for one in found)}, altered {altered}"
                f"{''.join(f'  WRONG: {one}' for one in wrong)}",
                flush=True,
            )
            failed = failed or bool(wrong) or altered > 0
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
