"""What was sent before, by what was sent."""

from proxy.compress.result import SentTurn
from proxy.gateway.history import History, Seen
from proxy.types import Address, Count, LeafEdit, Span

ALL, SOME, LESS = (
    (),
    (LeafEdit(Address(1, 0), (Span(0, 9),)),),
    (LeafEdit(Address(1, 0), (Span(0, 5),)),),
)


def turn(name, edits=SOME, closing=""):
    """A turn of 100 tokens, 40 with edits; its closing message has 7."""
    kept = Count(100, 40 if edits else 100)
    return SentTurn(name.encode(), closing.encode(), edits, kept, 7 * bool(closing))


def noted(*requests, edited=True):
    history = History()
    return [history.note("gpt-4o", request, edited=edited) for request in requests]


def test_a_conversation_that_grows_finds_all_of_it_unchanged():
    first = [turn("a")]
    second = [turn("a", closing="one"), turn("b")]
    third = [turn("a", closing="one"), turn("b", closing="two"), turn("c", ALL)]
    assert noted(first, second, third) == [
        Seen(),
        Seen(unchanged=40),
        Seen(unchanged=40 + 7 + 40),
    ]


def test_what_goes_as_it_came_is_counted_whole():
    request = [turn("a")]
    assert noted(request, request, edited=False)[1] == Seen(unchanged=100, again=True)


def test_from_the_first_turn_in_another_form_on_all_is_busted():
    first = [turn("a"), turn("b"), turn("c")]
    second = [turn("a"), turn("b", LESS), turn("c", closing="two"), turn("d")]
    assert noted(first, second)[1] == Seen(unchanged=40, busted=80)


def test_a_turn_that_is_restored_is_busted_whole():
    assert noted([turn("a")], [turn("a", ALL, "one"), turn("b")])[1] == Seen(busted=100)


def test_a_form_that_was_sent_before_the_last_is_still_known():
    first, other = [turn("a")], [turn("a", LESS)]
    assert noted(first, other, first)[1:] == [
        Seen(busted=40, again=True),
        Seen(unchanged=40, again=True),
    ]


def test_another_start_makes_everything_after_it_new():
    assert noted([turn("a"), turn("b")], [turn("x"), turn("b")])[1] == Seen()


def test_another_answer_in_between_makes_what_follows_new():
    first = [turn("a", closing="one"), turn("b")]
    second = [turn("a", closing="two"), turn("b")]
    assert noted(first, second)[1] == Seen(unchanged=40)


def test_scopes_share_nothing():
    history = History()
    history.note("gpt-4o", [turn("a")], edited=True)
    assert history.note("gpt-5", [turn("a")], edited=True) == Seen()


def test_what_is_forgotten_counts_as_never_sent():
    history = History(limit=4)
    for name in ("a", "b", "c"):
        history.note("gpt-4o", [turn(name)], edited=True)
    assert history.note("gpt-4o", [turn("a")], edited=True) == Seen()
    assert history.note("gpt-4o", [], edited=True) == Seen()
