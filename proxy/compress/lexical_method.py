r"""The lexical method: stop words and white space, no model; the honest baseline.

Words that carry little by themselves go, by short lists for the language that a document seems to
be in.  Negations and words of scope stay (law 4), and so does a word that bears punctuation, so
that sentences still end.  Without a target everything droppable goes; with one, the commonest
first, as far as is needed.  White space: a run of blanks becomes one, blank lines become one.

``letters`` also drops vowels inside long words, where that saves tokens (it seldom does: a
tokenizer knows words, not consonants), and ``abbreviations`` writes a repeated name by its
initials.  Both rewrite the text, so they are off in shipped policies.

A worked example.  "The  lighthouse at the pier\n\n\nwas lit." -> "lighthouse pier\n\nlit."
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

from proxy.compress.abbreviations import Place, abbreviated, find_names, is_named
from proxy.compress.companions import Company, Kept, keep_components
from proxy.compress.guarded import Scene, Steps, guarded, result_of
from proxy.compress.layout import Material, Rendered, document_texts, render_spans
from proxy.compress.ports import Encoding, ScoreRequest, Scores
from proxy.compress.result import TurnResult
from proxy.compress.stop_words import stop_words_of
from proxy.compress.words import RIGID_KINDS, Wording, fit_words, read_wording, word_spans
from proxy.policy.schema import Lexical, Policy, Target
from proxy.types import Address, Component, Piece, Reason, Span

LONG_WORD = 7
"""Letters from which a word may lose its inner vowels."""
NO_TARGET = Target(rate=1e-9)
"""Lays a component out, and is never met: everything that may be dropped is."""

_VOWELS = frozenset("aeiou")


def compress_turn(scene: Scene) -> Steps:
    """Compress one turn by its stop words and white space."""
    return guarded(replace(scene, policy=_laid_out(scene.policy)), _compress)


def _laid_out(policy: Policy) -> Policy:
    """Return the policy with the context open, where it names no target at all."""
    components = policy.components
    if not all(getattr(components, component.value).keeps_all for component in Component):
        return policy
    return policy.with_context(NO_TARGET)


def _compress(scene: Scene, material: Material) -> Generator[ScoreRequest, Scores, TurnResult]:
    yield from ()  # no model is asked
    method = cast("Lexical", scene.policy.method)
    wording = read_wording(material, scene.encoding)
    names = _names(wording, scene.encoding) if method.abbreviations else {}
    idle = frozenset(_stop_words(wording, method)) if method.stop_words else frozenset[int]()
    forced = [i for i in range(len(wording.words)) if i not in idle or _named(wording, i, names)]
    render = renderer(method, names)
    kept = keep_components(
        scene, wording, forced, lambda company: _without(company, wording), render
    )
    return result_of(wording, kept.words, scene, kept.reason, render)


Names: TypeAlias = Mapping[Address, Sequence[Place]]
"""Per leaf, where names stand that are abbreviated."""


def _names(wording: Wording, encoding: Encoding) -> dict[Address, list[Place]]:
    """Find the names of each leaf, where words may be dropped."""
    material = wording.material
    open_spans: dict[Address, list[Span]] = {}
    for number in material.layouts:
        segment = material.turn.segments[number]
        if segment.kind not in RIGID_KINDS:
            open_spans.setdefault(segment.address, []).append(segment.span)
    return {a: find_names(material.texts[a], spans, encoding) for a, spans in open_spans.items()}


def _named(wording: Wording, number: int, names: Names) -> bool:
    """Whether a word is part of a name that is abbreviated."""
    places = names.get(wording.material.address(wording.unit[number]), ())
    return is_named(wording.words[number].span, places)


# -- stop words ---------------------------------------------------------------------------------


def _stop_words(wording: Wording, method: Lexical) -> Iterator[int]:
    """Yield the words that may go, document by document."""
    material = wording.material
    for units, text in zip(material.documents, document_texts(material), strict=True):
        stops = stop_words_of(text, method.languages)
        for i in wording.of_units(units):
            word = wording.words[i]
            if not (word.scope or word.protected) and is_idle(wording.text(i), stops):
                yield i


def is_idle(word: str, stops: Collection[str]) -> bool:
    """Whether a word is nothing but a stop word: none that bears punctuation.

    >>> [is_idle(word, {"the", "it"}) for word in ("The", "it.", "lighthouse")]
    [True, False, False]
    """
    return word.casefold().replace("’", "'") in stops


def _without(company: Company, wording: Wording) -> Kept:
    """Drop stop words, the commonest first, until the component's target is met."""
    asked: Target = getattr(company.scene.policy.components, company.component.value)
    if asked == NO_TARGET:
        return Kept(company.complete(()))
    common = Counter(wording.text(i).casefold() for i in company.free)
    ranked = sorted(company.free, key=lambda i: (common[wording.text(i).casefold()], i))
    target = company.target()
    kept = fit_words(company.free, ranked, wording.costs, company.measure, target)
    over = company.measure(kept) > target
    return Kept(company.complete(kept), Reason.FORCED_OVER_BUDGET if over else None)


# -- rendering ----------------------------------------------------------------------------------


def renderer(
    method: Lexical, names: Names
) -> Callable[[Wording, Collection[int], Encoding], Rendered]:
    """Return what makes edits of a selection of words, shortened as the method says."""

    def render(wording: Wording, kept: Collection[int], encoding: Encoding) -> Rendered:
        spans = word_spans(wording, kept)
        shorter: dict[int, list[Piece]] = {}
        for number, mine in spans.items():
            segment = wording.material.turn.segments[number]
            if segment.kind not in RIGID_KINDS:
                text, places = wording.material.texts[segment.address], names.get(segment.address)
                less = _shortened(wording, number, mine, method, encoding)
                shorter[number] = list(abbreviated(less, text, segment.address, places or ()))
        return render_spans(wording.material, {**spans, **shorter}, encoding)

    return render


def _shortened(
    wording: Wording, segment: int, spans: Sequence[Span], method: Lexical, encoding: Encoding
) -> Iterator[Span]:
    """Yield a segment's spans with less white space in them, and fewer letters."""
    text = wording.material.texts[wording.material.turn.segments[segment].address]
    plain = _plain_words(wording, segment) if method.letters else frozenset[Span]()
    for span in spans:
        if span in plain:
            yield from lettered(text, span, encoding)
        elif method.white_space:
            yield from squeezed(text, span)
        else:
            yield span


def squeezed(text: str, span: Span) -> list[Span]:
    r"""Return what is left of a stretch of white space; any other stretch stays.

    Indentation stays: it may mean something.

    >>> text = "a   b \n\n \n  c"
    >>> ["".join(s.of(text) for s in squeezed(text, Span(*ends))) for ends in ((1, 4), (5, 12))]
    [' ', '\n\n  ']
    """
    if not span.of(text).isspace():
        return [span]
    first, last = text.find("\n", *span), text.rfind("\n", *span)
    if first < 0:
        return [Span(span.start, span.start + 1)]
    return (
        [Span(last, span.end)]
        if first == last
        else [
            Span(first, first + 1),
            Span(last, span.end),
        ]
    )


def lettered(text: str, span: Span, encoding: Encoding) -> list[Span]:
    """Return a word's letters without its inner vowels, where that saves a token."""
    word = span.of(text)
    if len(word) < LONG_WORD or not (word.isascii() and word.isalpha()):
        return [span]
    inner = range(1, len(word) - 1)
    left = [i for i in range(len(word)) if i not in inner or word[i].lower() not in _VOWELS]
    short = "".join(word[i] for i in left)
    if encoding.count(f" {short}") >= encoding.count(f" {word}"):
        return [span]
    return [Span(span.start + i, span.start + i + 1) for i in left]


def _plain_words(wording: Wording, segment: int) -> frozenset[Span]:
    """Return the words of a segment that hold nothing to protect."""
    units = wording.material.units
    return frozenset(
        word.span
        for word, unit in zip(wording.words, wording.unit, strict=True)
        if units[unit].segment == segment and not (word.protected or word.scope)
    )
