r"""From units to words, the least that word deletion keeps or drops; and back to the text.

Theory of operation
-------------------
A *chunk* is a run without white space.  Where the script is written with spaces it is one word,
punctuation included: "don't", "3.5", "well-known" are never cut.  Chinese is cut after each
character (after each numeral), Japanese after each run of Hiragana; Thai, Khmer and Lao, which have
no mark between words, not at all.  So every word but the last of a chunk ends in a Chinese
character or in Hiragana, and leaving words out glues nothing: no number or Latin word ever meets
another without the white space that stood between.  Then words are joined that belong together:
what a protected span covers (law 4), groups of a number ("1 000 000", "twenty five"), a word with
the combining mark that opens the next.

    head  word gap  word gap  word gap  ...  tail

as in :mod:`proxy.compress.units`: every character is in exactly one of them, and the gap between
two kept words is one of the caller's own between them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from proxy.compress.layout import Material, Rendered, render_spans, strongest
from proxy.compress.ports import Encoding, SelfInformation
from proxy.compress.protect import Protection, protected_spans
from proxy.types import Address, Kind, Span

DIGITS = 4
"""Word scores are rounded before they are compared (law 9)."""
MAX_RECOUNTS = 8
"""Exact counts per budget of words; the last ones may only remove."""
MARK_TOKENS = 1
"""What the mark costs that stands where nothing is kept; the first word takes its place."""
RIGID_KINDS = frozenset({Kind.CODE, Kind.DIFF, Kind.JSON, Kind.SEARCH, Kind.TABLE})
"""Nothing is deleted inside a unit of these: code that lost a word does not run."""

Scores1D = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.  Spans are characters of that text.

    ``gap`` is what stands between it and the next word; ``protected`` says that it holds a
    protected span (a number, a URL, a quotation), ``scope`` that a negation or a word of scope is
    in it, which is never dropped by itself.
    """

    span: Span
    gap: Span
    protected: bool = False
    scope: bool = False


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# -- text -> words ------------------------------------------------------------------------------

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA = "\u3041-\u309f"
_KANA = re.compile("[\u3041-\u309f\u30a0-\u30ff]")
_NUMERALS = "〇零一二三四五六七八九十百千万萬亿億兩两"
_AFTER = r"[^\w\s(\[{<“‘«「『（《【〈]*"  # marks that go with the word before them
_CHUNK = re.compile(r"\S+")
_CHINESE = re.compile(rf"[^{_HAN}]*(?:[{_NUMERALS}]+|[{_HAN}]){_AFTER}|[^{_HAN}]+")
_JAPANESE = re.compile(rf"[^{_HIRAGANA}]*[{_HIRAGANA}]+{_AFTER}|[^{_HIRAGANA}]+")
_HAS_CJK = re.compile(f"[{_HAN}{_HIRAGANA}]")

_JOINERS = frozenset("\u200d\ufe0e\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
_GROUP = re.compile(r"\d[\d.,]*\Z")
_ENDS_A_NUMBER = re.compile(r"\d\Z")
_GROUP_AFTER = re.compile(r"\d{3}(?!\d)")
_BLANKS = re.compile(r"[^\S\n]\Z")
_NUMBER_WORDS = _listed(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    hundred hundreds thousand thousands million millions billion billions trillion dozen half
    third thirds quarter quarters
    dos tres cuatro cinco seis siete ocho nueve diez once doce quince veinte treinta cuarenta
    cincuenta sesenta setenta ochenta noventa cien ciento mil millón millones
    deux trois quatre cinq sept huit neuf dix onze douze treize quatorze quinze seize vingt vingts
    trente quarante cinquante soixante cent cents mille milliers
    zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig hundert tausend
    """
)

_SCOPE = _listed(
    """
    not no non never none nor neither nothing nobody nowhere cannot without unless except only must
    before after if
    nicht kein keine keiner keinem keinen keines nie niemals niemand nichts ohne außer nur wenn
    falls muss müssen vor nach bevor nachdem mindestens höchstens weder
    ni nunca jamás nada nadie ningún ninguno ninguna sin salvo excepto solo sólo solamente si debe
    deben antes después
    ne pas jamais sans sauf seulement aucun aucune rien ni doit doivent avant après
    senza mai tranne soltanto nessuno nessuna deve prima dopo
    não nunca sem exceto apenas nem nenhum nenhuma antes depois
    niet geen nooit zonder behalve alleen tenzij tenminste moet voordat nadat
    nie bez tylko nigdy oprócz
    не ни нет без кроме только никогда если нельзя должен должна должно должны до после
    لا لم لن ليس ليست غير بدون إلا فقط قبل بعد إذا يجب دون
    नहीं न मत बिना केवल सिर्फ पहले बाद अगर यदि
    안 못 없이 없다 없는 않는 만 전에 후에
    không chưa chỉ nếu trước
    """
)
_SCOPE_PHRASES = re.compile(
    r"\b(?:at (?:least|most)|no (?:more|less|fewer) than|(?:al|por lo) menos|como (?:máximo|mucho)"
    r"|au (?:moins|plus)|à moins|al (?:meno|massimo)|pelo menos|no máximo|ten hoogste)\b",
    re.IGNORECASE,
)
_SCOPE_INSIDE = re.compile(
    r"\b[\w]+n['’]t\b|\b[nN]['’]\w|[不没沒無无非未勿莫别別仅僅只除]|ない|なく|なか|ません|않|없|못하|ไม่",
    re.IGNORECASE,
)


def read_words(text: str, within: Span | None = None) -> tuple[Word, ...]:
    """Cut ``text``, or a stretch of it, into words; the last one's gap reaches to the end.

    >>> text = "She won't pay $1 000 -- until 2030, 东京很大。"
    >>> [word.span.of(text) for word in read_words(text)]
    ['She', "won't", 'pay', '$1 000', '--', 'until', '2030,', '东', '京', '很', '大。']
    >>> [word.span.of(text) for word in read_words(text) if word.scope]
    ["won't"]
    """
    stretch = within or Span(0, len(text))
    protection = protected_spans(stretch.of(text))
    shifted = [Span(s.start + stretch.start, s.end + stretch.start) for s in protection]
    spans = list(_joined(text, _cut(text, stretch), Protection(shifted)))
    phrases = [Span(*m.span()) for m in _SCOPE_PHRASES.finditer(text, *stretch)]
    guarded, scoped = _touched(spans, shifted), _touched(spans, phrases)
    ends = [*(span.start for span in spans), stretch.end][1:]
    return tuple(
        Word(span, Span(span.end, end), i in guarded, i in scoped or is_scope(span.of(text)))
        for i, (span, end) in enumerate(zip(spans, ends, strict=True))
    )


def is_scope(word: str) -> bool:
    """Whether a word negates or bounds what is said (law 4).

    >>> [is_scope(word) for word in ("Unless", "didn't", "n'est", "note", "不")]
    [True, True, True, False, True]
    """
    parts = (_bare(part).casefold() for part in word.split())
    return any(part in _SCOPE for part in parts) or _SCOPE_INSIDE.search(word) is not None


def _bare(word: str) -> str:
    """Return a word without the punctuation around it; vowel signs are no punctuation."""
    start, end = 0, len(word)
    while start < end and not speaks(word[start]):
        start += 1
    while start < end and not speaks(word[end - 1]):
        end -= 1
    return word[start:end]


def speaks(character: str) -> bool:
    """Whether a character is a letter, a digit or a mark on one, not a symbol."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _cut(text: str, stretch: Span) -> Iterator[Span]:
    """Yield chunks, and the words of those in scripts that are written without spaces."""
    for chunk in _CHUNK.finditer(text, *stretch):
        if not _HAS_CJK.search(chunk[0]):
            yield Span(*chunk.span())
            continue
        pattern = _JAPANESE if _KANA.search(chunk[0]) else _CHINESE
        for piece in pattern.finditer(text, *chunk.span()):
            yield Span(*piece.span())


def _joined(text: str, spans: Iterator[Span], protection: Protection) -> Iterator[Span]:
    """Join words that belong together."""
    current: Span | None = None
    for span in spans:
        if current is not None and _belongs(text, current, span, protection):
            current = Span(current.start, span.end)
            continue
        if current is not None:
            yield current
        current = span
    if current is not None:
        yield current


def _belongs(text: str, word: Span, following: Span, protection: Protection) -> bool:
    if protection.cuts(following.start) or _extends(text[following.start]):
        return True
    if not _BLANKS.match(text, word.end, following.start):
        return False
    if _GROUP_AFTER.match(text, *following):
        return _GROUP.search(text, *word) is not None
    last = word.of(text).rsplit(None, 1)[-1]
    return _is_number_word(last) and _is_number_word(_bare(following.of(text)))


def _extends(character: str) -> bool:
    """Whether a character is one grapheme with what precedes it."""
    return character in _JOINERS or unicodedata.category(character)[0] == "M"


def _is_number_word(word: str) -> bool:
    """Whether a word spells a number: every part of ``twenty-five`` does."""
    return all(part in _NUMBER_WORDS for part in word.casefold().split("-"))


def _touched(spans: Sequence[Span], others: Sequence[Span]) -> set[int]:
    """Return the positions of the spans that overlap one of the others; both are in order."""
    touched: set[int] = set()
    first = 0
    for i, span in enumerate(spans):
        while first < len(others) and others[first].end <= span.start:
            first += 1
        if first < len(others) and others[first].start < span.end:
            touched.add(i)
    return touched


# -- words of a turn ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of everything selectable in a turn, in order; a word's number is its index here.

    ``unit[i]`` is the unit (``layout.Material``) that word i lies in, ``costs[i]`` the upstream
    tokens whose first character lies between the end of the word before it and its own, at least
    one.  A unit in which nothing may be deleted is one word.
    """

    material: Material
    words: tuple[Word, ...]
    unit: tuple[int, ...]
    costs: tuple[int, ...]
    _ranges: tuple[range, ...] = field(repr=False)  # unit -> its words

    def of_unit(self, number: int) -> range:
        """Return the words of a unit."""
        return self._ranges[number]

    def of_units(self, numbers: Sequence[int]) -> list[int]:
        """Return the words of some units, in the order of the units given."""
        return [i for number in numbers for i in self._ranges[number]]

    def text(self, number: int) -> str:
        """Return the caller's characters of a word."""
        return self.words[number].span.of(self.leaf(number))

    def leaf(self, number: int) -> str:
        """Return the text of the leaf that a word lies in."""
        return self.material.texts[self.material.address(self.unit[number])]

    def is_frame(self, number: int) -> bool:
        """Whether a word lies in the frame of its document (title, tags)."""
        return self.material.units[self.unit[number]].frame


def read_wording(
    material: Material, encoding: Encoding, rigid: Callable[[int], bool] | None = None
) -> Wording:
    """Cut the units of a turn into words; those for which ``rigid`` holds stay in one piece.

    By default these are the units of RIGID_KINDS, and frames (titles, labels, tags).
    """
    whole = rigid or (lambda number: is_rigid(material, number))
    words: list[Word] = []
    unit: list[int] = []
    ranges: list[range] = []
    for number, one in enumerate(material.units):
        text = material.texts[material.address(number)]
        own: tuple[Word, ...] = (Word(one.span, one.gap, protected=True),)
        if not whole(number):
            own = _of_unit(text, one.span, one.gap) or own
        ranges.append(range(len(words), len(words) + len(own)))
        words += own
        unit += [number] * len(own)
    costs = _costs(material, words, unit, encoding)
    return Wording(material, tuple(words), tuple(unit), costs, tuple(ranges))


def is_rigid(material: Material, number: int) -> bool:
    """Whether nothing may be deleted inside a unit, whatever its scores."""
    unit = material.units[number]
    return unit.frame or material.turn.segments[unit.segment].kind in RIGID_KINDS


def _of_unit(text: str, span: Span, gap: Span) -> tuple[Word, ...]:
    """Return the words of a unit; the last one's gap is the unit's."""
    words = read_words(text, span)
    return (*words[:-1], *(replace(last, gap=gap) for last in words[-1:]))


def _costs(
    material: Material, words: Sequence[Word], unit: Sequence[int], encoding: Encoding
) -> tuple[int, ...]:
    """Tokens per word: those that begin after the word before it, and before its own end."""
    costs = [0] * len(words)
    leaves: dict[Address, list[tuple[int, int | None]]] = {}
    segment = -1
    for i, word in enumerate(words):
        one = material.units[unit[i]]
        edges = leaves.setdefault(material.address(unit[i]), [])
        if one.segment != segment:
            segment = one.segment
            edges.append((material.layouts[segment].head.start, None))
        edges.append((word.span.end, i))
    for address, edges in leaves.items():
        counts = encoding.count_by(material.texts[address], [at for at, _ in edges])
        for (_, number), count in zip(edges[1:], counts, strict=True):
            if number is not None:
                costs[number] = max(1, count)
    return tuple(costs)


# -- scores -------------------------------------------------------------------------------------


def word_nats(words: Sequence[Word], rated: SelfInformation, start: int = 0) -> Scores1D:
    """Sum the self-information of each word's tokens: (n_words,), rounded.

    ``start`` is where in the words' text the rated passage begins.  White space before a word
    goes with its token; a token that spans several words (as in Chinese) counts for each of them,
    so that they stand or fall together.
    """
    totals = np.concatenate([[0.0], np.cumsum(rated.nats, dtype=np.float64)])
    begins = np.array([word.span.start - start for word in words], dtype=np.int64)
    ends = np.array([word.span.end - start for word in words], dtype=np.int64)
    first = np.searchsorted(rated.ends, begins, side="right")
    last = np.maximum(np.searchsorted(rated.starts, ends, side="left"), first)
    nats: Scores1D = np.round(totals[last] - totals[first], DIGITS)
    return nats


def nats_of(wording: Wording, rated: Mapping[int, SelfInformation]) -> Scores1D:
    """Return the self-information of each word of a turn (n,); 0 in documents that are not rated.

    ``rated`` is of documents' texts, by number.
    """
    material = wording.material
    nats: Scores1D = np.zeros(len(wording.words))
    for document, one in rated.items():
        numbers = material.documents[document]
        words = wording.of_units(numbers)
        start = material.units[numbers[0]].span.start
        nats[words] = word_nats([wording.words[i] for i in words], one, start)
    return nats


# -- words -> text ------------------------------------------------------------------------------


def word_spans(wording: Wording, kept: Collection[int]) -> dict[int, list[Span]]:
    """Return the kept spans of every laid-out segment, by segment number.

    With all words of some units kept it is what ``layout.kept_spans`` gives for these units.
    """
    material = wording.material
    spans = {index: [layout.head] for index, layout in material.layouts.items()}
    chosen = _kept_apart(wording, kept)
    skipped: dict[int, list[int]] = {}  # segment -> words since its last kept one, that one first
    for i, word in enumerate(wording.words):
        unit = material.units[wording.unit[i]]
        segment = unit.segment
        if unit.head and i == wording.of_unit(wording.unit[i])[0]:
            spans[segment].append(unit.head)
            skipped.pop(segment, None)
        since = skipped.get(segment)
        if i in chosen:
            if since is not None:
                spans[segment].append(_gap(wording, since))
            spans[segment].append(word.span)
            skipped[segment] = [i]
        elif since is not None:
            since.append(i)
    for index, layout in material.layouts.items():
        spans[index].append(layout.units[-1].gap)
    return spans


def _kept_apart(wording: Wording, kept: Collection[int]) -> set[int]:
    """Return the words that stay: one more where two numbers would read as one (law 4).

    "10 + 170" without its sign would be 10,170: the cheapest word between them stays.
    """
    chosen = set(kept)
    for before, i in pairwise(sorted(kept)):
        if i > before + 1 and _read_as_one(wording, before, i):
            chosen.add(min(range(before + 1, i), key=lambda j: (wording.costs[j], j)))
    return chosen


def _read_as_one(wording: Wording, before: int, word: int) -> bool:
    """Whether a number and a group of three digits would meet with a blank between them."""
    units = wording.material.units
    if units[wording.unit[before]].segment != units[wording.unit[word]].segment:
        return False
    numbers = _ENDS_A_NUMBER.search(wording.text(before)) and _GROUP_AFTER.match(wording.text(word))
    if not numbers:
        return False
    gap = _gap(wording, range(before, word)).of(wording.leaf(before))
    return "\n" not in gap and not gap.strip()


def _gap(wording: Wording, passed: Sequence[int]) -> Span:
    """Return what stands between two kept words: one of the caller's own gaps between them.

    The strongest between units; within a unit the one with most line breaks, then the shortest
    that is not empty.
    """
    text = wording.leaf(passed[0])
    ends = [i for i in passed if i == wording.of_unit(wording.unit[i])[-1]]
    if ends:
        gap = strongest([wording.words[i].gap for i in ends], text)
        only_units = passed[0] == ends[0] and passed[-1] == ends[-1]
        if only_units or gap.start < gap.end:
            return gap
    return max(
        (wording.words[i].gap for i in passed),
        key=lambda gap: (gap.of(text).count("\n"), gap.end > gap.start, gap.start - gap.end),
    )


def render_words(wording: Wording, kept: Collection[int], encoding: Encoding) -> Rendered:
    """Render a selection of words, and count what the turn costs with it."""
    return render_spans(wording.material, word_spans(wording, kept), encoding)


# -- budgets ------------------------------------------------------------------------------------

Measure = Callable[[Collection[int]], int]
"""Tokens of a component with a selection of words in place, in the upstream's encoding."""


def fit_words(
    kept: Collection[int],
    ranked: Sequence[int],
    costs: Sequence[int],
    measure: Measure,
    target: int,
) -> frozenset[int]:
    """Bring a selection to a budget: never above it, and below it by less than the next word.

    ``ranked`` are the words that may be dropped or added, best first.  Where the budget cannot be
    met with all of them dropped, what must be kept comes back alone.
    """
    chosen, barred = set(kept), set[int]()
    for _ in range(MAX_RECOUNTS // 2):
        room = target - measure(chosen) + (0 if chosen else MARK_TOKENS)
        if room < 0:
            gone = _worst(chosen, ranked, costs, -room)
            chosen -= gone
            barred |= gone
        elif more := _best(chosen | barred, ranked, costs, room):
            chosen |= more
        else:
            break
    while (over := measure(chosen) - target) > 0 and (gone := _worst(chosen, ranked, costs, over)):
        chosen -= gone
    return frozenset(_topped_up(chosen, ranked, measure, target))


def _worst(
    kept: Collection[int], ranked: Sequence[int], costs: Sequence[int], need: int
) -> set[int]:
    """Return the lowest kept words that cost ``need`` by estimate; at least one, if any is left."""
    gone: set[int] = set()
    for i in reversed(ranked):
        if gone and need <= 0:
            break
        if i in kept:
            gone.add(i)
            need -= costs[i]
    return gone


def _best(
    taken: Collection[int], ranked: Sequence[int], costs: Sequence[int], room: int
) -> set[int]:
    """Return the best words not taken that fit ``room`` by estimate."""
    more: set[int] = set()
    for i in ranked:
        if i not in taken and costs[i] <= room:
            more.add(i)
            room -= costs[i]
    return more


def _topped_up(kept: set[int], ranked: Sequence[int], measure: Measure, target: int) -> set[int]:
    """Add the next words one by one, counted exactly, while they fit."""
    missing = (i for i in ranked if i not in kept)
    for i in islice(missing, MAX_RECOUNTS // 2):
        if measure({*kept, i}) > target:
            break
        kept = {*kept, i}
    return kept
