"""What tokens cost, and what was saved is worth."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import ENTRY, wrote

from proxy.errors import PolicyError
from proxy.ledger import Between, Group, Ledger, Money, Price, Prices, Sold
from proxy.ledger.economics import Account, Amounts, Line, lines, list_size, reckoned
from proxy.policy import PriceSpec
from proxy.types import Mode, Reason

OPENAI = "api.openai.com"
NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
TEN = Price(Decimal(10), Decimal(1), Decimal(12), Decimal(40), "a test")


def price(model, host=OPENAI, at=NOON, tokens=1_000, own=(), **where):
    found = Prices(own).of(Sold(model=model, host=host, at=at, prompt_tokens=tokens, **where))
    return found and tuple(
        map(str, (found.input, found.cache_read, found.cache_write, found.output))
    )


# -- prices ---------------------------------------------------------------------------------------


def test_a_listed_price_is_the_providers():
    assert price("gpt-4o") == ("2.5", "1.25", "2.5", "10")


def test_a_price_is_that_of_the_day():
    before, after = datetime(2026, 8, 20, 23, tzinfo=UTC), datetime(2026, 8, 21, 1, tzinfo=UTC)
    assert price("gpt-5.6", at=before) == ("5", "0.5", "6.25", "30")
    assert price("gpt-5.6", at=after) == ("4", "0.4", "5", "20")


def test_a_price_is_that_of_the_hour():
    cheap, dear = (datetime(2025, 3, 1, hour, tzinfo=UTC) for hour in (20, 10))
    assert price("deepseek-chat", "api.deepseek.com", cheap) != price(
        "deepseek-chat", "api.deepseek.com", dear
    )


@pytest.mark.parametrize(("tokens", "fresh"), [(272_000, "4"), (272_001, "8")])
def test_a_long_prompt_has_the_price_of_its_tier(tokens, fresh):
    assert price("gpt-5.6", tokens=tokens)[0] == fresh


@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("gpt-4o", "127.0.0.1"),  # the name alone says nothing of who serves it
        ("gpt-4o", "gateway.example"),
        ("gpt-4o", None),
        ("no-such-model", OPENAI),
        (None, OPENAI),
        ("", OPENAI),
    ],
)
def test_no_price_is_guessed(model, host):
    assert price(model, host) is None


def test_the_operators_price_goes_first():
    own = [
        PriceSpec(model="llama*", input=0.2, cache_read=0.02, output=0.8),
        PriceSpec(upstream="local", input=0, output=0),
        PriceSpec(route="eval", provider="openai"),
    ]
    assert price("llama-3", own=own) == ("0.2", "0.02", "0.2", "0.8")
    assert price("any", own=own, upstream="local") == ("0.0",) * 4
    assert price("gpt-4o", None, own=own, route="eval") == ("2.5", "1.25", "2.5", "10")
    assert price("gpt-4o", own=own) == ("2.5", "1.25", "2.5", "10")
    assert price("other", None, own=own, route="eval") is None


def test_the_operators_price_holds_from_its_day_on():
    own = [PriceSpec(since="2026-09-01", input=2, output=4), PriceSpec(input=1, output=2)]
    eve = datetime(2026, 8, 31, 23, 59, tzinfo=UTC)
    assert (price("x", at=NOON, own=own)[0], price("x", at=eve, own=own)[0]) == ("2.0", "1.0")


def test_a_provider_that_there_is_not_is_refused():
    with pytest.raises(
        PolicyError, match=r"prices\[0\].provider: found 'opnai'.*did you mean opena"
    ):
        Prices([PriceSpec(provider="opnai")])


def test_the_list_is_in_the_package():
    providers, models = list_size()
    assert providers > 20
    assert models > 500


# -- the reckoning --------------------------------------------------------------------------------


def test_first_savings_cost_a_fresh_token_repeated_ones_a_cache_read():
    amounts = Amounts(
        paid=1, prompt=900, cached=400, completion=50, first=500, repeat=300, busted=20
    )
    assert lines(amounts, TEN) == (
        Line(Account.SPENT, "prompt, fresh", 500, Decimal(10)),
        Line(Account.SPENT, "prompt, read from the cache", 400, Decimal(1)),
        Line(Account.SPENT, "completion", 50, Decimal(40)),
        Line(Account.FIRST, "left out for the first time", 500, Decimal(10)),
        Line(Account.REPEAT, "left out again", 300, Decimal(1)),
        Line(Account.BUSTED, "sent before in another form", 20, Decimal(-9)),
    )
    assert reckoned(amounts, TEN) == Money(
        spent=Decimal("0.0074"),
        first=Decimal("0.005"),
        repeat=Decimal("0.0003"),
        busted=Decimal("-0.00018"),
        priced=1,
    )


def test_a_fresh_token_costs_a_write_where_writing_is_charged():
    amounts = Amounts(paid=1, prompt=100, cache_written=90, first=10, busted=10, written=True)
    assert [(line.account, line.per_million) for line in lines(amounts, TEN)] == [
        (Account.SPENT, 10),
        (Account.SPENT, 12),
        (Account.FIRST, 12),
        (Account.BUSTED, -11),
    ]


AMOUNTS = st.builds(
    Amounts,
    paid=st.integers(0, 9),
    by_estimate=st.integers(0, 9),
    written=st.booleans(),
    **{
        name: st.integers(0, 10**12)
        for name in (
            *("prompt", "cached", "cache_written", "completion", "first", "repeat", "busted"),
            *("audit_first", "audit_repeat"),
        )
    },
)


@given(AMOUNTS)
def test_what_is_reckoned_is_what_its_lines_add_up_to(amounts):
    by = dict.fromkeys(Account, Decimal(0))
    for line in lines(amounts, TEN):
        by[line.account] += line.dollars
    assert reckoned(amounts, TEN) == Money(*by.values(), amounts.paid, amounts.by_estimate)


@given(st.tuples(*[st.integers(0, 10**9)] * 3), st.booleans())
def test_value_is_the_formula(tokens, written):
    first, repeat, busted = tokens
    amounts = Amounts(first=first, repeat=repeat, busted=busted, written=written)
    w, r = TEN.fresh(written=written), TEN.cache_read
    assert reckoned(amounts, TEN).value * 10**6 == first * w + repeat * r - busted * (w - r)


def test_without_a_price_there_are_no_dollars():
    money = reckoned(Amounts(paid=3, prompt=10, first=5), None)
    assert money == Money(unpriced=3)
    assert {name: value for name, value in money.record().items() if value is not None} == {
        "priced": 0,
        "priced_by_estimate": 0,
        "unpriced": 3,
    }


# -- in the ledger --------------------------------------------------------------------------------

PAID = replace(
    ENTRY,
    model="gpt-4o",
    upstream_host=OPENAI,
    cached_tokens=128,
    busted_tokens=40,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


def test_a_report_has_dollars_beside_tokens(path):
    total = wrote(path, PAID, replace(PAID, model="private")).total(prices=Prices())
    spent = (410 - 128) * Decimal("2.5") + 128 * Decimal("1.25") + 30 * Decimal(10)
    assert total.money == Money(
        spent=spent / 10**6,
        first=500 * Decimal("2.5") / 10**6,
        repeat=100 * Decimal("1.25") / 10**6,
        busted=-41 * Decimal("1.25") / 10**6,  # 40 of 400 that the upstream counted as 410
        priced=1,
        unpriced=1,
    )
    assert total.record()["value_usd"] == 0.001324
    assert json.dumps(total.record())


def test_prices_of_the_day_are_summed_up_each_by_itself(path):
    days = ["2026-08-20T10:00:00.000+00:00", "2026-08-21T10:00:00.000+00:00"]
    ledger = wrote(path, *(replace(PAID, model="gpt-5.6", started_at=day) for day in days))
    rows = ledger.rows(Group.DAY, prices=Prices())
    assert [row.money.first for row in rows] == [Decimal("0.0025"), Decimal("0.002")]
    assert ledger.total(prices=Prices()).money.first == Decimal("0.0045")
    part = ledger.total(Between("2026-08-21T09:45:00", "2026-08-21T10:15:00"), Prices())
    assert part.money.first == Decimal("0.002")


def test_prices_by_the_hour_are_summed_up_part_of_a_day_by_part(path):
    hours = [f"2026-03-01T{hour}:10:00.000+00:00" for hour in ("00", "10", "20")]
    sold = replace(PAID, model="deepseek-chat", upstream_host="api.deepseek.com")
    total = wrote(path, *(replace(sold, started_at=hour) for hour in hours)).total(prices=Prices())
    fresh = [
        Decimal(
            price("deepseek-chat", "api.deepseek.com", datetime(2026, 3, 1, hour, tzinfo=UTC))[0]
        )
        for hour in (0, 10, 20)
    ]
    assert len(set(fresh)) > 1
    assert total.money.first == 500 * sum(fresh) / 10**6


def test_what_the_upstream_did_not_report_is_by_our_own_count(path):
    silent = replace(PAID, prompt_tokens=None, cached_tokens=None, unchanged_tokens=1_300)
    money = wrote(path, replace(silent, tokens_after=2_000)).total(prices=Prices()).money
    cached = 1_280  # whole steps of 128
    spent = (2_000 - cached) * Decimal("2.5") + cached * Decimal("1.25") + 30 * Decimal(10)
    assert (money.spent * 10**6, money.by_estimate) == (spent, 1)


@pytest.mark.parametrize(("unchanged", "cached"), [(None, 0), (1_023, 0), (1_024, 1_024)])
def test_a_cache_holds_no_short_beginnings(path, unchanged, cached):
    silent = replace(PAID, cached_tokens=None, unchanged_tokens=unchanged, prompt_tokens=2_000)
    found = wrote(path, silent).reckoning("req_1", Prices())
    assert found.amounts.cached == cached


def test_what_was_answered_by_an_error_costs_and_saves_nothing(path):
    total = wrote(path, replace(PAID, status=500, prompt_tokens=None)).total(prices=Prices())
    assert (total.money, total.first_saved, total.tokens_saved) == (Money(), 0, 0)


def test_an_audit_tells_what_would_have_been_saved(path):
    audited = replace(PAID, mode=Mode.AUDIT, reason=Reason.AUDIT, prompt_tokens=1_010)
    money = wrote(path, audited).total(prices=Prices()).money
    assert money.audit == (500 * Decimal("2.5") + 100 * Decimal("1.25")) / 10**6
    assert money.first == money.repeat == 0


def test_one_exchange_is_reckoned_as_the_report_does(path):
    ledger = wrote(path, PAID)
    found = ledger.reckoning("req_1", Prices())
    assert found.money == ledger.total(prices=Prices()).money
    assert found.columns["request_id"] == "req_1"
    assert found.price.source == "genai-prices, gpt-4o"
    assert ledger.reckoning("req_2", Prices()) is None
    assert Ledger(path).reckoning("req_1", Prices()).lines == found.lines
