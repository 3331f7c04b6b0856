"""What exchanges cost and what was saved is worth, in dollars.

A token left out for the first time would have been paid for as a fresh one (``w``); left out again
it would have been read from the provider's cache (``r``); one that was sent before in another form
is paid for as fresh where it would have been read.  So

    value = first_saved * w + repeat_saved * r - busted_tokens * (w - r)

``w`` is the price of a written token where the provider reports that it charged for writing its
cache, else that of an input token.  Prices are those of the day and of the prompt's size.  They
come from the package genai-prices, by the host that the request went to and the model that it
named, or from the operator's own list; where neither knows, there are tokens and no dollars.
No price is guessed: a model of the same name behind an unknown host has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import PolicyError
from proxy.policy import PriceSpec
from proxy.policy.explain import nearest

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

MILLION: Final = 1_000_000
_DIGITS: Final = 6  # of a dollar: what a single token costs shows


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens, and where they are from."""

    input: Decimal
    cache_read: Decimal
    cache_write: Decimal
    output: Decimal
    source: str

    def fresh(self, *, written: bool) -> Decimal:
        """Return the price of a token that no cache held."""
        return self.cache_write if written else self.input


@dataclass(frozen=True, slots=True)
class Sold:
    """What a price hangs on: what was asked for, of whom, when, and how long the prompt was."""

    route: str | None = None
    upstream: str | None = None
    host: str | None = None
    model: str | None = None
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    prompt_tokens: int = 0


class Prices:
    """The operator's own prices, then the list prices; the package is loaded when one is wanted."""

    def __init__(self, own: Sequence[PriceSpec] = ()) -> None:
        """Raise PolicyError where a provider is named that the package does not know."""
        self._own = own
        self._models: dict[tuple[str | None, str | None, str], ModelInfo | None] = {}
        self._known: dict[tuple[int, int], tuple[ModelPrice, Price | None]] = {}
        for number, spec in enumerate(own):
            if spec.provider is not None:
                _require_provider(f"routes.yaml: prices[{number}].provider", spec.provider)

    def of(self, sold: Sold) -> Price | None:
        """Return what tokens cost in an exchange; None where that is not known."""
        spec = next((spec for spec in self._own if _fits(spec, sold)), None)
        if spec is None:
            return self._listed(None, sold)
        if spec.provider is not None:
            return self._listed(spec.provider, sold)
        return _own_price(spec)

    @property
    def hang_on_routes(self) -> bool:
        """Whether a price may be another by route or by upstream, where all else is the same."""
        return any(spec.route is not None or spec.upstream is not None for spec in self._own)

    def steady(self, sold: Sold, until: datetime) -> bool:
        """Tell whether the price is the same from that moment to another."""
        days = (
            sold.at.astimezone(UTC).date().isoformat(),
            until.astimezone(UTC).date().isoformat(),
        )
        if any(spec.since is not None and days[0] < spec.since <= days[1] for spec in self._own):
            return False
        spec = next((spec for spec in self._own if _fits(spec, sold)), None)
        if spec is not None and spec.provider is None:
            return True
        model = self._find(None if spec is None else spec.provider, sold)
        return model is None or _is_steady(model, sold.at, until)

    def _listed(self, provider: str | None, sold: Sold) -> Price | None:
        model = self._find(provider, sold)
        if model is None:
            return None
        prices = model.get_prices(sold.at)
        key = (id(prices), sold.prompt_tokens)  # kept beside it, so that the id stays its own
        if key not in self._known:
            self._known[key] = prices, _list_price(prices, sold.prompt_tokens, model.id)
        return self._known[key][1]

    def _find(self, provider: str | None, sold: Sold) -> ModelInfo | None:
        if not sold.model or (provider is None and not sold.host):
            return None
        asked = (provider, None if provider else sold.host, sold.model)
        if asked not in self._models:
            self._models[asked] = _model(*asked)
        return self._models[asked]


def _is_steady(model: ModelInfo, since: datetime, until: datetime) -> bool:
    """Tell whether a model's price is the same all the time: one from a day on is for good."""
    from genai_prices.types import StartDateConstraint  # noqa: PLC0415 - loaded by now

    if not isinstance(model.prices, list):
        return True
    days = all(isinstance(each.constraint, StartDateConstraint | None) for each in model.prices)
    return days and model.get_prices(since) is model.get_prices(until)


def _fits(spec: PriceSpec, sold: Sold) -> bool:
    return (
        _matches(spec.route, sold.route)
        and _matches(spec.upstream, sold.upstream)
        and _matches(spec.model, sold.model)
        and (spec.since is None or sold.at.astimezone(UTC).date().isoformat() >= spec.since)
    )


def _matches(glob: str | None, name: str | None) -> bool:
    return glob is None or (name is not None and fnmatchcase(name, glob))


def _own_price(spec: PriceSpec) -> Price | None:
    if spec.input is None or spec.output is None:
        return None
    fresh, output = Decimal(str(spec.input)), Decimal(str(spec.output))
    read = fresh if spec.cache_read is None else Decimal(str(spec.cache_read))
    write = fresh if spec.cache_write is None else Decimal(str(spec.cache_write))
    return Price(fresh, read, write, output, "routes.yaml")


def _require_provider(where: str, name: str) -> None:
    from genai_prices.data_snapshot import find_provider_by_id, get_snapshot  # noqa: PLC0415

    providers = get_snapshot().providers
    if find_provider_by_id(providers, name) is None:
        known = [provider.id for provider in providers]
        wanted = f"a provider of genai-prices such as openai{nearest(name, known)}"
        raise PolicyError(f"{where}: found {name!r}, wanted {wanted}")


def _model(provider: str | None, host: str | None, model: str) -> ModelInfo | None:
    """Find a model in the list; a third of a second the first time, which loads it."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    url = None if host is None else f"https://{host}/"
    try:
        return get_snapshot().find_provider_model(model, None, provider, url)[1]
    except LookupError:
        return None


def list_size() -> tuple[int, int]:
    """Return how many providers and models the list knows.  Raises ImportError without it."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    providers = get_snapshot().providers
    return len(providers), sum(len(provider.models) for provider in providers)


def _list_price(prices: ModelPrice, prompt_tokens: int, model: str) -> Price | None:
    """Return a list's prices for a prompt; None where its text has none.

    Where no price is listed for reading or writing a cache, such tokens cost what others do; where
    none is for what comes out, nothing does (embeddings).
    """
    fresh, output = (_at(price, prompt_tokens) for price in (prices.input_mtok, prices.output_mtok))
    if fresh is None:
        return None
    read, write = (
        _at(price, prompt_tokens) for price in (prices.cache_read_mtok, prices.cache_write_mtok)
    )
    return Price(
        input=fresh,
        cache_read=fresh if read is None else read,
        cache_write=fresh if write is None else write,
        output=output or Decimal(0),
        source=f"genai-prices, {model}",
    )


def _at(price: Decimal | TieredPrices | None, prompt_tokens: int) -> Decimal | None:
    """Return the price for a prompt of so many tokens: the highest tier that it is above."""
    if price is None or isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
    return reached[-1] if reached else price.base


# -- the reckoning --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Amounts:
    """Tokens by what they cost or would have cost, over exchanges of one price.

    ``prompt`` and its parts are those of what was answered: ``paid`` exchanges, ``by_estimate`` of
    them where the upstream did not say all of it.  ``written`` says whether writing was charged.
    """

    paid: int = 0
    by_estimate: int = 0
    prompt: int = 0
    cached: int = 0
    cache_written: int = 0
    completion: int = 0
    first: int = 0
    repeat: int = 0
    busted: int = 0
    audit_first: int = 0
    audit_repeat: int = 0
    written: bool = False


class Account(StrEnum):
    """What a line is summed up under."""

    SPENT = "spent"
    FIRST = "first"
    REPEAT = "repeat"
    BUSTED = "busted"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a reckoning: tokens at dollars per million of them."""

    account: Account
    text: str
    tokens: int
    per_million: Decimal

    @property
    def dollars(self) -> Decimal:
        """What the line comes to."""
        return self.tokens * self.per_million / MILLION


def lines(amounts: Amounts, price: Price) -> tuple[Line, ...]:
    """Return the reckoning, line by line; lines of no tokens are left out."""
    fresh = price.fresh(written=amounts.written)
    uncached = amounts.prompt - amounts.cached - amounts.cache_written
    found = (
        Line(Account.SPENT, "prompt, fresh", uncached, price.input),
        Line(Account.SPENT, "prompt, read from the cache", amounts.cached, price.cache_read),
        Line(
            Account.SPENT, "prompt, written to the cache", amounts.cache_written, price.cache_write
        ),
        Line(Account.SPENT, "completion", amounts.completion, price.output),
        Line(Account.FIRST, "left out for the first time", amounts.first, fresh),
        Line(Account.REPEAT, "left out again", amounts.repeat, price.cache_read),
        Line(
            Account.BUSTED, "sent before in another form", amounts.busted, price.cache_read - fresh
        ),
        Line(Account.AUDIT, "would be left out, first", amounts.audit_first, fresh),
        Line(Account.AUDIT, "would be left out again", amounts.audit_repeat, price.cache_read),
    )
    return tuple(line for line in found if line.tokens)


@dataclass(frozen=True, slots=True)
class Money:
    """Dollars over exchanges, those without a price left out.

    ``spent`` is what the upstream charges at list prices, ``audit`` what would have been saved.
    """

    spent: Decimal = Decimal(0)
    first: Decimal = Decimal(0)
    repeat: Decimal = Decimal(0)
    busted: Decimal = Decimal(0)  # never above zero
    audit: Decimal = Decimal(0)
    priced: int = 0  # exchanges
    by_estimate: int = 0  # of these, where the upstream did not report all that it charges for
    unpriced: int = 0  # exchanges that cost something, nobody knows what

    @property
    def value(self) -> Decimal:
        """What compression was worth, net of what the provider's cache would have saved."""
        return self.first + self.repeat + self.busted

    def __add__(self, other: Money) -> Money:
        """Add figure by figure."""
        return Money(
            self.spent + other.spent,
            self.first + other.first,
            self.repeat + other.repeat,
            self.busted + other.busted,
            self.audit + other.audit,
            self.priced + other.priced,
            self.by_estimate + other.by_estimate,
            self.unpriced + other.unpriced,
        )

    def record(self) -> dict[str, Any]:
        """Return JSON values; dollars are null where no exchange has a price."""
        dollars = {
            "spent_usd": self.spent,
            "value_usd": self.value,
            "first_usd": self.first,
            "repeat_usd": self.repeat,
            "busted_usd": self.busted,
            "audit_usd": self.audit,
        }
        told = {
            name: round(float(d), _DIGITS) if self.priced else None for name, d in dollars.items()
        }
        return told | {
            "priced": self.priced,
            "priced_by_estimate": self.by_estimate,
            "unpriced": self.unpriced,
        }


def reckoned(amounts: Amounts, price: Price | None) -> Money:
    """Return what amounts come to; without a price only how many exchanges have none.

    The same as what :func:`lines` add up to, sooner: reports do this for every hour.
    """
    if price is None:
        return Money(unpriced=amounts.paid)
    fresh, read = price.fresh(written=amounts.written), price.cache_read
    uncached = amounts.prompt - amounts.cached - amounts.cache_written
    spent = (
        uncached * price.input
        + amounts.cached * read
        + amounts.cache_written * price.cache_write
        + amounts.completion * price.output
    )
    return Money(
        spent / MILLION,
        amounts.first * fresh / MILLION,
        amounts.repeat * read / MILLION,
        amounts.busted * (read - fresh) / MILLION,
        (amounts.audit_first * fresh + amounts.audit_repeat * read) / MILLION,
        amounts.paid,
        amounts.by_estimate,
    )
