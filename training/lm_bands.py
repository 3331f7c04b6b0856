"""What ordinary text looks like to a language model: bands of surprise, per kind.

A stretch of text whose mean surprise, length of tokens or share of symbols lies outside the band of
its kind is of another kind than the model knows (another script, base64, minified code), and what
the model says about single words of it means little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch

import numpy as np

from lm_data import Record
from proxy.compress.bands import symbol_share
from proxy.compress.ports import STRETCH, Band
from proxy.scorers.causal_lm import CausalLM, Passage
from proxy.tagging.kinds import line_kind
from proxy.types import Kind

KINDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.CODE: ("code_*",),
    Kind.JSON: ("json_*",),
    Kind.TABLE: ("wiki_tables*",),
    Kind.DEMO: ("gsm8k*", "instr_*"),
    Kind.PROSE: ("books_*", "openstax_*", "wiki*", "tech_docs_*", "dialog_*", "qa_*", "abstract*"),
}
"""Which sources show which kind; the first pattern that fits decides."""

PER_KIND = 200
TAILS = (0.5, 99.5)  # per cent: one stretch in a hundred of ordinary text is outside


def kind_of(source: str) -> Kind | None:
    """Return the kind that a source shows.

    >>> kind_of("wiki_tables_ccbysa"), kind_of("wikisent_ccbysa"), kind_of("weather")
    (<Kind.TABLE: 'table'>, <Kind.PROSE: 'prose'>, None)
    """
    fitting = (
        kind for kind, patterns in KINDS.items() if any(fnmatch(source, p) for p in patterns)
    )
    return next(fitting, None)


def stretches(records: Iterable[Record]) -> dict[Kind, list[str]]:
    """Take up to four stretches of each document, up to PER_KIND of a kind.

    Short documents are taken whole; those below a quarter of a stretch are left out, and so is code
    or a table that stands in prose.
    """
    found: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for record in records:
        kind = kind_of(record.source)
        if kind is None or len(record.text) < STRETCH // 4:
            continue
        cut = _cut(record.text, PER_KIND - len(found[kind]))
        found[kind].extend(t for t in cut if kind is not Kind.PROSE or _is_plain(t))
    return found


def _is_plain(text: str) -> bool:
    """Whether no line of a stretch is code or a table's."""
    kinds = {line_kind(line.strip()) for line in text.splitlines()}
    return kinds <= {Kind.PROSE, Kind.LIST}


def _cut(text: str, limit: int) -> Iterator[str]:
    """Cut up to four stretches, evenly spread: long documents are many stretches."""
    count = min(limit, 4, max(1, len(text) // STRETCH))
    for number in range(count):
        start = number * len(text) // count
        yield text[start : start + STRETCH]


def bands(model: CausalLM, records: Iterable[Record]) -> dict[Kind, Band]:
    """Measure the band of each kind that has at least twenty stretches."""
    return {
        kind: _band(model, texts) for kind, texts in stretches(records).items() if len(texts) >= 20
    }


def _band(model: CausalLM, texts: list[str]) -> Band:
    scored = model.self_information([Passage(text) for text in texts])
    nats = [found.mean_nats for found in scored]
    lengths = [len(text) / len(found.nats) for text, found in zip(texts, scored, strict=True)]
    symbols = [symbol_share(text) for text in texts]
    return Band(_tails(nats), _tails(lengths), _tails(symbols), STRETCH)


def _tails(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, TAILS)
    return round(float(low), 3), round(float(high), 3)
