"""Our count beside the upstream's."""

from dataclasses import replace

from test_ledger import ENTRY, wrote

from proxy.ledger import Between
from proxy.ledger.drift import Drift, Spread, drifts
from proxy.types import Mode

PLAIN = replace(ENTRY, tokens_after=1000, tokens_saved=0, first_saved=0, repeat_saved=0)


def test_where_nothing_was_edited_the_difference_is_the_overhead():
    samples = [("m", apart, 0) for apart in (7, 9, 8, 40)]
    assert drifts(samples) == [Drift("m", Spread(4, 8.5, 7.75, 16.75), None, None)]


def test_edits_explain_nothing_of_it_where_both_differ_by_the_same():
    (found,) = drifts([("m", 7, 0), ("m", 9, 0), ("m", 8, 1)])
    assert found.edited == Spread(1, 8.0, 8.0, 8.0)
    assert found.unexplained == 0.0


def test_the_model_with_most_exchanges_comes_first():
    assert [found.model for found in drifts([(None, 1, 0), ("m", 1, 0), ("m", 1, 1)])] == [
        "m",
        None,
    ]


def test_what_was_sent_is_what_is_compared(tmp_path):
    """Edited: 400 sent; audited, or answered by an error: not what the upstream counted."""
    ledger = wrote(
        tmp_path / "ledger.sqlite3",
        ENTRY,
        replace(PLAIN, prompt_tokens=1010),
        replace(ENTRY, mode=Mode.AUDIT, prompt_tokens=1012),
        replace(ENTRY, resent=True, prompt_tokens=1014),
        replace(ENTRY, status=400, prompt_tokens=5),
        replace(ENTRY, prompt_tokens=None),
    )
    assert ledger.drift() == [
        Drift("gpt-5", Spread(3, 12.0, 11.0, 13.0), Spread(1, 10.0, 10.0, 10.0), -2.0)
    ]
    assert ledger.drift(Between("2027-01-01")) == []
