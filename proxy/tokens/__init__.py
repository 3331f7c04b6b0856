"""Tokens as the upstream counts them, offline from the first request."""

from __future__ import annotations

from proxy.tokens.encoding import Encoding
from proxy.tokens.models import encoding_for, preload

__all__ = ["Encoding", "encoding_for", "preload"]
