"""What was sent before, by what was sent."""

import sqlite3
import stat
import threading
from contextlib import ExitStack
from contextlib import closing as closed

import pytest

from proxy.compress.result import SentTurn
from proxy.errors import PolicyError
from proxy.gateway.history import History, Seen
from proxy.memo import Sent
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


# -- several processes ----------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path):
    """The histories of two processes that share a file."""
    with ExitStack() as stack:
        files = [stack.enter_context(closed(Sent(tmp_path / "sent"))) for _ in range(2)]
        yield [History(shared=file) for file in files]


def test_what_one_process_sent_the_other_knows(shared):
    one, other = shared
    first = [turn("a")]
    second = [turn("a", closing="one"), turn("b")]
    third = [turn("a", LESS, closing="one"), turn("b", closing="two"), turn("c")]
    assert one.note("gpt-4o", first, edited=True) == Seen()
    assert other.note("gpt-4o", first, edited=True) == Seen(unchanged=40, again=True)
    assert other.note("gpt-4o", second, edited=True) == Seen(unchanged=40)
    assert one.note("gpt-4o", second, edited=True) == Seen(unchanged=40 + 7 + 40, again=True)
    assert one.note("gpt-4o", third, edited=True) == Seen(busted=40 + 7 + 40)


def test_a_turn_that_is_recorded_after_the_next_one_is_new_all_the_same(shared):
    """Its own process may still be writing it down when the next turn has ended elsewhere."""
    one, other = shared
    assert not one.note("m", [turn("a", closing="one"), turn("b")], edited=True).again
    assert not other.note("m", [turn("a")], edited=True).again
    assert one.note("m", [turn("a")], edited=True).again


def test_the_file_is_for_its_owner_and_names_no_text(shared, tmp_path):
    shared[0].note("gpt-4o sk-canary", [turn("canary")], edited=True)
    assert stat.S_IMODE((tmp_path / "sent").stat().st_mode) == 0o600
    assert b"canary" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_file_that_cannot_be_asked_makes_everything_new_and_is_told(tmp_path):
    told = []
    sent = Sent(tmp_path / "sent", warn=told.append)
    assert sent.meet([b"a"]) == [False]
    sent.close()
    history = History(shared=sent)
    assert history.note("m", [turn("a")], edited=True) == Seen()
    assert history.note("m", [turn("a")], edited=True).again  # this process knows its own
    assert told == [f"{tmp_path / 'sent'}: Cannot operate on a closed database."]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"none/sent: .*, wanted a file that can be written"):
        Sent(tmp_path / "none" / "sent")


def test_the_file_is_bounded_and_what_is_asked_for_is_renewed(tmp_path):
    with closed(Sent(tmp_path / "sent", limit=500)) as sent:
        assert sent.meet([b"old", b"kept"]) == [False, False]
        for number in range(4):
            sent.meet([f"{number} {n}".encode() for n in range(400)])
            assert sent.meet([b"kept"]) == [True]
        assert sent.meet([b"old"]) == [False]
        with closed(sqlite3.connect(tmp_path / "sent")) as database:
            assert database.execute("SELECT count(*) FROM sent").fetchone()[0] < 1600


def test_of_two_that_meet_a_digest_at_once_one_is_the_first(tmp_path):
    digests = [str(n).encode() for n in range(200)]
    found = []

    def meet():
        with closed(Sent(tmp_path / "sent")) as sent:
            found.extend((digest, *sent.meet([digest])) for digest in digests)

    threads = [threading.Thread(target=meet) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(digest for digest, met in found if not met) == sorted(digests)
    assert len(found) == 600
