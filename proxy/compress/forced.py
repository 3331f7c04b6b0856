r"""What is kept of data before all else: what the ask names, and what stands out by itself.

*Named* is a row that holds an identifier of the question or of the call that a tool answers: a
number, a path, a quoted word, a name, as it stands and between word boundaries.  An identifier that
many rows hold names none.

*Striking* is an error (with its neighbours, in a log), an outlier, the first row and the last.  An
outlier has a number far from the others of its column, or a field, a type or one of few values that
hardly any other row has.  All statistics are over one segment (law 5).
"""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeAlias

import numpy as np

from proxy.compress.layout import Material
from proxy.compress.line_units import is_import
from proxy.compress.reading import DATA
from proxy.compress.relevance import Scores1D
from proxy.types import Kind, Turn

ALARM = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|PANIC|SEVERE|WARN(?:ING)?|FAIL(?:ED|URE)?"
    r"|[A-Z]\w*(?:Error|Exception)|Traceback)\b"
)
"""Marks an entry of a log that tells of trouble."""
_STATES = r"(?:err(?:or(?:ed)?)?|fail(?:ed|ure)?|fatal|critical|panic|exception|crashed|timeout)"
_FIELD = re.compile(
    rf'"(?:\w*(?:status|state|level|severity|result|outcome)\\?"\s*+:\s*+\\?"{_STATES}\\?"'
    r"|(?:errors?|exception|error_?(?:message|msg|code|type|details?)|last_error|traceback)"
    r'\\?"\s*+:\s*+(?!null|false|0\b|\\?"\\?"|\\?"(?:none|no|ok)\\?"|\[\s*\]|\{\s*\})'
    r'|(?:status|status_?code|http_status|code)\\?"\s*+:\s*+\\?"?[45]\d\d\b(?!\.))',
    re.IGNORECASE,
)
_CELL = re.compile(rf"(?:^|[,;|\t]|\s\s)\s*{_STATES}\s*(?=$|[,;|\t]|\s\s)", re.IGNORECASE)

LEAST_ROWS: Final = 20
"""Of fewer rows none is an outlier, and neither end is forced."""
FEW: Final = 0.01
"""Share of the rows that are few."""
FAR: Final = 10.0
"""Standard deviations, as the median deviation tells them, from which a number is far."""
MOST_VALUES: Final = 12
"""A column of more values than that has no rare ones."""
MOST_NAMED: Final = 0.05
"""Share of a segment's units from which an identifier that they hold names none of them."""
MOST_IDENTIFIERS: Final = 24
IDENTIFIER_CHARS: Final = 200


# -- what the ask names -------------------------------------------------------------------------

_QUOTED = re.compile(r"[\"'“‘`«]([^\"'“”‘’`«»\n]{2,80})[\"'”’`»]")
_NAME = re.compile(
    r"[^\W\d_a-z][\w'’-]+"
    r"(?: (?:(?:de|da|di|du|van|von|der|den|del|la|le|el|al|bin|of|the|and|y|e) ){0,2}"
    r"[^\W\d_a-z][\w'’-]+)+"
)
_TOKEN = re.compile(r"[^\s,;!?()\[\]{}\"'`<>=“”«»]+")
_IDENTIFIER = re.compile(r".*(?:\d|\w[_./@\\:+#-]\w|[a-z][A-Z])")


def identifiers(turn: Turn) -> tuple[str, ...]:
    """Return what the question, and the calls that a turn's results answer, name.

    >>> from proxy.types import Turn
    >>> identifiers(Turn(0, (), (), "Did Ada Abel pay for order A-7?", hints=('get {"id": 12}',)))
    ('did ada abel', 'ada abel', 'a-7', '12')
    """
    question = turn.question or ""
    told = [*_told(question)]
    for hint in () if turn.own_question else turn.hints:
        for value in _arguments(hint):
            told += [value, *_told(value)]
    found = dict.fromkeys(text.strip().lower() for text in told)
    fit = (text for text in found if 1 < len(text) <= IDENTIFIER_CHARS)
    return tuple(islice(fit, MOST_IDENTIFIERS))


def _told(text: str) -> Iterator[str]:
    yield from (match[1] for match in _QUOTED.finditer(text))
    for match in _NAME.finditer(text):
        yield match[0]
        _, _, rest = match[0].partition(" ")
        if " " in rest:  # "Did Ada Abel": a sentence's first word is none of the name
            yield rest
    for match in _TOKEN.finditer(text):
        token = match.group().rstrip(".:/\\-+*").lstrip(".:-+*")
        if _IDENTIFIER.match(token):
            yield token


def _arguments(hint: str) -> list[str]:
    """Return the plain values in the arguments of a call; all of it where they are no JSON."""
    _, _, written = hint.partition(" ")
    try:
        waiting = [json.loads(written, parse_int=str, parse_float=str)]
    except (ValueError, RecursionError):
        return [written]
    values: list[str] = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, str):
            values.append(value)
    return values


def named(material: Material, asked: Iterable[str]) -> dict[int, float]:
    """Return the units of data that hold an identifier, with how much that says: log(n / having).

    ``asked`` are in lower case.
    """
    found: dict[int, float] = defaultdict(float)
    wanted = list(asked)
    for units in _segments(material) if wanted else ():
        first = material.units[units[0]]
        text = material.texts[material.address(units[0])]
        folded = text.lower()
        folded = folded if len(folded) == len(text) else text
        starts = [material.units[i].span.start for i in units]
        end = material.units[units[-1]].span.end
        most = max(5, int(MOST_NAMED * len(units)))
        for identifier in wanted:
            having: set[int] = set()
            for place in _places(folded, identifier, first.span.start, end):
                having.add(units[bisect_right(starts, place) - 1])
                if len(having) > most:
                    break
            else:
                for unit in having:
                    found[unit] += float(np.log(1 + len(units) / len(having)))
    return dict(found)


def _places(text: str, identifier: str, start: int, end: int) -> Iterator[int]:
    """Yield where an identifier stands by itself, as it is or as JSON writes it."""
    written = json.dumps(identifier)[1:-1]
    for form in {identifier, written}:
        at = text.find(form, start, end)
        while at >= 0:
            if _stands_alone(text, at, at + len(form)):
                yield at
            at = text.find(form, at + len(form), end)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Tell whether no word, and no number, goes on before or after a stretch."""
    before, after = text[start - 2 : start], text[end : end + 2]
    first, last = text[start], text[end - 1]
    if (_is_word(before[-1:]) and _is_word(first)) or (_is_word(after[:1]) and _is_word(last)):
        return False
    fraction = first.isdigit() and before[-1:] == "." and before[:1].isdigit()
    whole = last.isdigit() and after[:1] == "." and after[1:].isdigit()
    return not fraction and not whole


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _segments(material: Material) -> Iterator[list[int]]:
    """Yield the units of each segment of data, frames left out."""
    found: dict[int, list[int]] = {}
    for number, unit in enumerate(material.units):
        if not unit.frame and material.turn.segments[unit.segment].kind in DATA:
            found.setdefault(unit.segment, []).append(number)
    yield from found.values()


# -- what stands out ----------------------------------------------------------------------------


def striking(material: Material, scores: Scores1D) -> list[int]:
    """Return what stands out of data: errors, best first, then outliers, neighbours, ends."""
    errors: list[int] = []
    others: list[int] = []
    for units in _segments(material):
        kind = material.turn.segments[material.units[units[0]].segment].kind
        texts = [material.text(number) for number in units]
        bad = [place for place, text in enumerate(texts) if _tells_of_trouble(text, kind)]
        bad = _once(texts, bad) if kind is Kind.LOG else bad
        errors += [units[place] for place in bad]
        if kind is Kind.CODE:
            others += [number for number in units if is_import(material.text(number))]
        if len(units) < LEAST_ROWS:
            continue
        near = [place + step for place in bad for step in (-1, 1)] if kind is Kind.LOG else []
        ends = [0, len(units) - 1]
        places = [*sorted(_outliers(texts, kind)), *near, *ends]
        others += [units[place] for place in places if 0 <= place < len(units)]
    errors.sort(key=lambda number: (-scores[number], number))
    return list(dict.fromkeys([*errors, *others]))


def _tells_of_trouble(text: str, kind: Kind) -> bool:
    if kind is Kind.JSON:
        return _FIELD.search(text) is not None or ALARM.search(text) is not None
    if kind is Kind.TABLE:
        return _CELL.search(text) is not None or ALARM.search(text) is not None
    return kind is Kind.LOG and ALARM.search(text) is not None


# -- repeats ------------------------------------------------------------------------------------

_TIME = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[T ]?|\d\d:\d\d:\d\d(?:[.,]\d+)?Z?")


def _once(texts: Sequence[str], places: Sequence[int]) -> list[int]:
    """Return the first of entries that differ in nothing but their time."""
    seen: dict[str, int] = {}
    for place in places:
        seen.setdefault(_TIME.sub("", texts[place]), place)
    return list(seen.values())


def repeats(material: Material) -> list[int]:
    """Return the log entries that say what one before them says, but for numbers and times."""
    seen: set[tuple[int, str]] = set()
    found: list[int] = []
    for number, said in material.sayings.items():
        key = material.units[number].segment, said
        if key in seen:
            found.append(number)
        seen.add(key)
    return found


# -- outliers -----------------------------------------------------------------------------------

Cells: TypeAlias = Mapping[str, object]
"""The fields of one row: numbers are floats."""

_MEASURE = re.compile(r"([A-Za-z_][\w.-]{0,40})[=:] ?(-?\d{1,15}(?:\.\d{1,9})?)(?![\w.:-]*\d)")
_AMOUNT = re.compile(r"[-+]?[$€£¥]? ?\d[\d,]{0,20}(?:\.\d{1,12})? ?%?")


def _outliers(texts: Sequence[str], kind: Kind) -> set[int]:
    if kind is Kind.JSON:
        return odd_rows([_json_cells(text) for text in texts])
    if kind is Kind.TABLE:
        return odd_rows(_table_cells(texts))
    if kind is Kind.LOG:
        rows: list[Cells] = [
            {name: float(number) for name, number in _MEASURE.findall(text)} for text in texts
        ]
        return _far_rows(rows)
    return set()


def odd_rows(rows: Sequence[Cells]) -> set[int]:
    """Return the rows that differ from the others.

    >>> rows = [{"n": float(i % 7), "kind": "a"} for i in range(50)]
    >>> odd_rows([*rows, {"n": 900.0, "kind": "a"}, {"n": 1.0, "kind": "a", "note": "x"}])
    {50, 51}
    """
    return _far_rows(rows) | _rare_rows(rows)


def _far_rows(rows: Sequence[Cells]) -> set[int]:
    columns: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for place, row in enumerate(rows):
        for name, value in row.items():
            if isinstance(value, float):
                places, values = columns[name]
                places.append(place)
                values.append(value)
    found: set[int] = set()
    for places, values in columns.values():
        if len(values) >= LEAST_ROWS:
            found.update(places[i] for i in _far(np.array(values)))
    return found


def _far(values: Scores1D) -> list[int]:
    """Return the places of the numbers that are far from the others; none where many are."""
    finite = np.isfinite(values)
    middle = float(np.median(values[finite])) if finite.any() else 0.0
    away = np.abs(np.where(finite, values, np.inf) - middle)
    spread = 1.4826 * float(np.median(away))
    far = np.flatnonzero(away > FAR * spread)
    return far.tolist() if len(far) <= 2 * _few(len(values)) else []


def _few(rows: int) -> int:
    return max(1, round(FEW * rows))


def _rare_rows(rows: Sequence[Cells]) -> set[int]:
    """Return the rows with a field, a type or one of few values that hardly any other has."""
    few = _few(len(rows))
    having: dict[str, dict[object, list[int]]] = defaultdict(lambda: defaultdict(list))
    kinds: dict[str, dict[object, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, row in enumerate(rows):
        for name, value in row.items():
            kinds[name][type(value)].append(place)
            if isinstance(value, str) and len(having[name]) <= MOST_VALUES:
                having[name][value].append(place)
    found: set[int] = set()
    for name, types in kinds.items():
        present = {place for places in types.values() for place in places}
        missing = set(range(len(rows))) - present if len(present) > len(rows) / 2 else present
        groups = [missing, *types.values()]
        if len(having[name]) <= MOST_VALUES:
            groups += having[name].values()
        rare = [group for group in groups if len(group) <= few]
        odd = {place for group in rare for place in group}
        if len(odd) <= 2 * few:
            found |= odd
    return found


def _json_cells(text: str) -> Cells:
    """Return the plain fields of a row, at any depth up to three."""
    for form in (text, f'"{text}"'):
        try:
            value = json.loads(form, parse_int=float)
            value = json.loads(value, parse_int=float) if form is not text else value
        except (ValueError, RecursionError):
            continue
        return dict(_flat(value, "", 3))
    return {}


def _flat(value: object, name: str, depth: int) -> Iterator[tuple[str, object]]:
    inner: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and len(value) <= 50:
        inner = enumerate(value)
    if not inner or not depth:
        yield name, value if isinstance(value, str | float | bool) else type(value)
        return
    if name:
        yield f"{name}.", type(value)
    for key, each in inner:
        yield from _flat(each, f"{name}.{key}", depth - 1)


def _table_cells(texts: Sequence[str]) -> list[Cells]:
    signs = Counter(sign for sign in "".join(texts[:20]) if sign in ",;|\t").most_common(1)
    sign = signs[0][0] if signs else ""
    return [{str(i): _cell(cell) for i, cell in enumerate(_split(text, sign))} for text in texts]


def _split(row: str, sign: str) -> Collection[str]:
    if not sign:
        return re.split(r" {2,}|\t", row)
    try:
        return next(csv.reader([row], delimiter=sign), [])
    except csv.Error:
        return row.split(sign)


def _cell(cell: str) -> object:
    bare = cell.strip()
    if not _AMOUNT.fullmatch(bare):
        return bare
    return float(re.sub(r"[^\d.+-]", "", bare))
