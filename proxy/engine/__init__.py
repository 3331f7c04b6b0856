"""The engine: one queue in front of the model, fair between requests."""

from __future__ import annotations

from proxy.engine.engine import Engine

__all__ = ["Engine"]
