"""How fast the model reads, as measured."""

from __future__ import annotations

import math

_HALF_LIFE_TOKENS = 4096.0


class Pace:
    """Seconds per token of one thread, smoothed: after 4,096 more tokens the past weighs half."""

    def __init__(self, s_per_token: float = 1 / 3000) -> None:
        """Start from a guess; the first measurement replaces it."""
        self._s_per_token = s_per_token
        self._measured = False

    @property
    def s_per_token(self) -> float:
        """The smoothed pace."""
        return self._s_per_token

    def measured(self, tokens: int, seconds: float) -> None:
        """Take in that ``tokens`` were read in ``seconds``."""
        if tokens <= 0:
            return
        weight = 1 - math.exp2(-tokens / _HALF_LIFE_TOKENS) if self._measured else 1.0
        self._s_per_token += (seconds / tokens - self._s_per_token) * weight
        self._measured = True
