"""Words that carry little by themselves, by language: articles, forms of "to be", linking words.

Short lists of our own.  Negations, words of scope and words of time and place that change what is
said (not, only, before, without) are left out on purpose: they are never dropped (law 4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

LEAST_SHARE = 0.15
"""A text is in a language if this share of its words, or more, is in the language's list."""

_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

_ENGLISH = """
    a an the this that these those i me my mine we us our ours you your yours he him his she her
    hers it its they them their theirs myself yourself himself herself itself ourselves themselves
    am is are was were be been being have has had having do does did doing will would shall should
    may might can could of at by for with about into onto from to in on upon as than then there
    here so such too very just also quite rather really even still yet already and or but because
    while where when which who whom whose what how why both each some any all other own same
    it's that's there's i'm you're we're they're he's she's i've we've you've they've
"""
_GERMAN = """
    der die das den dem des ein eine einer eines einem einen dieser diese dieses diesem diesen
    jener jene jenes ich mich mir mein meine wir uns unser unsere du dich dir dein deine er ihn ihm
    sein seine seiner seinem seinen sie ihr ihre ihrer ihrem ihren es man sich selbst bin bist ist
    sind seid war waren wurde wurden werden wird worden sei wäre habe hast hat haben hatte hatten
    kann können konnte soll sollte will wollte würde möchte darf mag und oder aber denn weil dass
    daß als wie wo was wer welche welcher welches von zu zum zur mit bei aus auf an am im in ins
    für um über unter durch gegen so auch noch schon sehr ja doch eben mal dann da hier dort also
    etwa dabei damit dafür davon dazu
"""
_SPANISH = """
    el la los las lo un una unos unas este esta estos estas ese esa esos esas aquel aquella yo me
    mi mis nosotros nos nuestro nuestra tú te tu tus usted ustedes él ella ellos ellas se su sus le
    les es son era eran fue fueron ser sido siendo está están estaba estaban estar ha han había
    habían haber he hay tiene tienen tenía puede pueden podía de del a al en con por para y e o u
    pero que qué como cómo cuando donde quien quién cual cuál porque pues así también muy ya aún
    más tan tanto entre sobre desde hasta esto eso ello
"""
_FRENCH = """
    le la les un une des du de d l ce cet cette ces je me m mon ma mes nous notre nos tu te t ton ta
    tes vous votre vos il elle on ils elles lui leur leurs se s son sa ses eux est sont était
    étaient être été étant suis es sommes a ont avait avaient avoir eu ai as avons avez fut furent
    peut peuvent pouvait à au aux en dans par pour avec et ou mais que qu qui quoi dont où quand
    comme comment pourquoi car donc ainsi aussi très déjà encore plus tout tous toute toutes y c
    j cela ceci ça
"""

STOP_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "en": frozenset(_ENGLISH.split()),
        "de": frozenset(_GERMAN.split()),
        "es": frozenset(_SPANISH.split()),
        "fr": frozenset(_FRENCH.split()),
    }
)


_JOINING = {
    "en": """
    at of by for with about into onto from to in on upon as than and or but because while where when
    who whom whose what how why both each some any all other own same
    """,
    "de": """
    und oder aber denn weil dass daß als wie wo was wer welche welcher welches von zu zum zur mit
    bei aus auf an am im in ins für um über unter durch gegen
    """,
    "es": """
    de del a al en con por para y e o u pero que qué como cómo cuando donde quien quién cual cuál
    porque pues tan tanto entre sobre desde hasta
    """,
    "fr": """
    de des du d à au aux en dans par pour avec et ou mais que qu qui quoi dont où quand comme
    comment pourquoi car donc tout tous toute toutes
    """,
}
LIGHT_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        language: words - frozenset(_JOINING[language].split())
        for language, words in STOP_WORDS.items()
    }
)
"""Stop words less those that join what they stand between, and those that ask, count or compare."""


def letters_of(text: str) -> list[str]:
    """Return the words of letters in a text, folded; digits and marks are none."""
    return [word.casefold().replace("’", "'") for word in _LETTERS.findall(text)]


def stop_words_of(text: str, languages: Sequence[str]) -> frozenset[str]:
    """Return the stop words of the language that ``text`` seems to be in; none where it is unclear.

    >>> sorted(stop_words_of("Der Hund ist im Haus", ["en", "de"]) & {"im", "the", "ist"})
    ['im', 'ist']
    >>> stop_words_of("lorem ipsum dolor", ["en", "de"])
    frozenset()
    """
    language = _language_of(text, languages)
    return STOP_WORDS[language] if language else frozenset()


def light_words_of(text: str) -> frozenset[str]:
    """Return the light words of the language that ``text`` seems to be in.

    >>> sorted(light_words_of("It was a house at the end of it") & {"a", "at", "of", "was"})
    ['a', 'was']
    """
    language = _language_of(text, tuple(LIGHT_WORDS))
    return LIGHT_WORDS[language] if language else frozenset()


def _language_of(text: str, languages: Sequence[str]) -> str | None:
    words = letters_of(text)
    hits = {language: sum(w in STOP_WORDS[language] for w in words) for language in languages}
    best = max(languages, key=lambda language: hits[language])
    return best if words and hits[best] >= LEAST_SHARE * len(words) else None
