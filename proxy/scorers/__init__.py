"""Models that rate text: the only floor where torch lives, and only once a model is loaded.

Importing this package loads no torch; :func:`load_scorer` does.
"""

from __future__ import annotations

from proxy.scorers.pooling import Scorer, Steps

__all__ = ["EMBEDDED", "Scorer", "Steps", "load_scorer"]

EMBEDDED = "embedded"
"""The sentence encoder that travels in the package."""


def load_scorer(name: str = EMBEDDED) -> Scorer:
    """Load the ``embedded`` encoder, any other by hub name or local folder.

    Raises PolicyError where there is no such model, or none that can be used.
    """
    if name == EMBEDDED:
        from proxy.scorers.encoder import EmbeddedEncoder  # noqa: PLC0415 - torch loads here

        return EmbeddedEncoder()
    from proxy.scorers.hub import HubEncoder  # noqa: PLC0415 - torch and transformers load here

    return HubEncoder(name)
