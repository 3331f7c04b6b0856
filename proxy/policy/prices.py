"""What tokens cost where the list prices do not say: ``prices`` in ``routes.yaml``."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, model_validator

from proxy.policy.upstreams import STRICT

_DATE: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
_DATE_WANTED: Final = "a date such as 2026-03-01"


def _date(text: str) -> str:
    if not _DATE.fullmatch(text):
        raise ValueError(f"found {text[:40]!r}, wanted {_DATE_WANTED}")
    return text


Day: TypeAlias = Annotated[
    str, AfterValidator(_date), Field(json_schema_extra={"$comment": _DATE_WANTED})
]
Dollars: TypeAlias = Annotated[float, Field(ge=0)]


class PriceSpec(BaseModel):
    """What some requests cost; every condition given must hold, and the first that fits counts."""

    model_config = STRICT

    route: str | None = None
    """Glob over the route's name, as the ledger has it."""
    upstream: str | None = None
    """Glob over the upstream's name; that of the settings has none."""
    model: str | None = None
    """Glob over the request's ``model``: ``llama*``."""
    since: Day | None = None
    """The day, in UTC, from which on it holds; from ever if left out."""
    provider: str | None = None
    """Whose list prices hold, by genai-prices' name: ``openai``; in place of prices."""
    input: Dollars | None = None
    """Dollars per million prompt tokens."""
    cache_read: Dollars | None = None
    """The same for tokens read from the provider's cache; as ``input`` if left out."""
    cache_write: Dollars | None = None
    """The same for tokens that the provider reports as written to it; as ``input`` if left out."""
    output: Dollars | None = None
    """Dollars per million completion tokens."""

    @model_validator(mode="after")
    def _either_a_list_or_prices(self) -> Self:
        own = {self.input, self.cache_read, self.cache_write, self.output} - {None}
        if self.provider is not None and own:
            raise ValueError("found provider and prices, wanted one of the two")
        if self.provider is None and (self.input is None or self.output is None):
            raise ValueError("found no price, wanted provider, or input and output")
        return self
