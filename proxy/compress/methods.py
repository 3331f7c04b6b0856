"""The methods by the names that policies give them (``proxy.policy.schema.Method``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from proxy.compress import (
    cascade,
    lexical_method,
    llmlingua,
    llmlingua2,
    longllmlingua,
    selective_context,
)
from proxy.compress.guarded import Scene, Steps

METHODS: Final[Mapping[str, Callable[[Scene], Steps]]] = MappingProxyType(
    {
        "cascade": cascade.compress_turn,
        "lexical": lexical_method.compress_turn,
        "llmlingua": llmlingua.compress_turn,
        "llmlingua2": llmlingua2.compress_turn,
        "longllmlingua": longllmlingua.compress_turn,
        "selective_context": selective_context.compress_turn,
    }
)
"""Each takes a turn and what surrounds it, asks for scores, and returns the turn's result."""
