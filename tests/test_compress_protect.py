import re

import pytest
from driving import examples
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress.protect import PATTERNS, Protection, protected_spans
from proxy.types import Span


def protected(text):
    return [span.of(text) for span in protected_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://a.b/c?d=e#f.", ["https://a.b/c?d=e#f"]),
        ("mail ann.b+c@example.co.uk, now", ["ann.b+c@example.co.uk"]),
        ("in /usr/lib/x.so, or ~/a/b", ["/usr/lib/x.so", "~/a/b"]),
        (r"at C:\Temp\a.txt there", [r"C:\Temp\a.txt"]),
        ("id 123e4567-e89b-12d3-a456-426614174000 ok", ["123e4567-e89b-12d3-a456-426614174000"]),
        ("it cost $1,299.95 then", ["$1,299.95 then"]),
        ("about 3.5 kg. Then", ["3.5 kg"]),
        ("on 2024-01-05 at", ["2024", "01", "05 at"]),
        ("run `a b. c` now", ["`a b. c`"]),
        ("```\na\n\nb\n``` end", ["```\na\n\nb\n```"]),
        ("``` never closed", ["``` never closed"]),
        ("as [12] and [3, 4] say", ["[12]", "[3, 4]"]),
        ("<b>x</b> {name} [NAME]", ["<b>", "</b>", "{name}", "[NAME]"]),
        ('he said "No. Never." then', ['"No. Never."']),
        ("er sagte «Nein. Nie.» dann", ["«Nein. Nie.»"]),
        ("他说「不。」走", ["「不。」"]),
        ("“It rained. Twice.”", ["“It rained. Twice.”"]),
        ("see https://a.b/X, or X", ["https://a.b/X"]),
        ("nothing here", []),
    ],
)
def test_what_must_not_be_cut(text, expected):
    assert protected(text) == expected


@examples(300)
@given(st.one_of(st.text(max_size=60), st.text('`"“”«»「」[]<>{}/.:@a1 \n\\$%,-', max_size=60)))
def test_spans_are_in_order_disjoint_and_not_empty(text):
    spans = protected_spans(text)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(span.start < span.end <= len(text) for span in spans)


@examples(100)
@given(st.lists(st.integers(0, 40), max_size=10, unique=True).map(sorted), st.integers(0, 41))
def test_the_look_up_agrees_with_its_slow_twin(edges, position):
    spans = [Span(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    expected = any(span.start < position < span.end for span in spans)
    assert Protection(spans).cuts(position) is expected


MIXED = st.lists(
    st.sampled_from(
        [*'a14-/@.`"“”«»「」[]<>é \n', "://", ":\\", "```", "123e4567-", "-e89b-", "426614174000"]
    ),
    max_size=25,
).map("".join)


@examples(300)
@given(MIXED)
def test_what_is_not_searched_for_is_not_there(text):
    """A text is searched only for what it has a sign of: that finds what a full search does."""
    everything = re.compile("|".join(pattern for _, pattern in PATTERNS), re.DOTALL)
    found = [match.group().rstrip(" \n.,;:!?") for match in everything.finditer(text)]
    assert [span.of(text).rstrip(" \n.,;:!?") for span in protected_spans(text)] == found
