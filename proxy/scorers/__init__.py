"""Models that rate text: the only floor where torch lives, and only once a model is loaded.

Importing this package loads no torch; :func:`load_scorer` does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.scorers.ensemble import Classifier, Ensemble, Models, Reader
from proxy.scorers.pooling import Scorer, Steps

__all__ = ["EMBEDDED", "Models", "Scorer", "Steps", "load_models", "load_scorer"]

EMBEDDED: Final = "embedded"
"""The models that travel in the package."""

AUTO: Final = "auto"
"""The backend that suits the machine."""

INT8: Final = "int8"

CUDA: Final = "cuda"
"""The backend that reads on a GPU."""

LANGUAGE_MODEL: Final = Path(__file__).parent / "models" / "laconic-tiny"
"""The embedded causal LM."""


def load_scorer(name: str = EMBEDDED, backend: str = AUTO) -> Scorer:
    """Load the ``embedded`` encoder, any other by hub name or local folder.

    Raises PolicyError where there is no such model, none that can be used, or none that this
    backend can compute.
    """
    from proxy.scorers.arithmetic import chosen, through_transformers  # noqa: PLC0415 - torch loads

    if name == EMBEDDED:
        from proxy.scorers.encoder import EmbeddedEncoder  # noqa: PLC0415

        return EmbeddedEncoder(runtime=chosen(backend))
    if backend == INT8:
        raise PolicyError(
            f"LACONIC_BACKEND: found int8 for model {name!r}, which is read in float32 or on a GPU,"
            " wanted fp32, cuda or auto"
        )
    from proxy.scorers.hub import HubEncoder  # noqa: PLC0415 - transformers loads here

    return HubEncoder(name, through_transformers(backend))


def load_models(
    encoder: str, language_model: str, classifier: str | None, backend: str = AUTO
) -> Models:
    """Load the encoder; the causal LM and the token classifier load when a method first asks.

    Raises PolicyError where there is no such encoder; the others raise it when they are asked.
    """
    return Ensemble(
        load_scorer(encoder, backend),
        reader=lambda: _load_reader(language_model, backend),
        classifier=lambda: _load_classifier(classifier, backend),
        names=f"{_told(language_model)}/{backend}+{classifier}",
    )


def _told(language_model: str) -> str:
    """Name a language model that has not been loaded: its folder's weights and bands count too."""
    folder = LANGUAGE_MODEL if language_model == EMBEDDED else Path(language_model)
    try:
        told = (folder / "config.json").read_bytes()
    except OSError:
        return language_model
    return f"{language_model}@{hashlib.sha256(told).hexdigest()[:12]}"


def _load_reader(name: str, backend: str) -> Reader:
    from proxy.scorers.arithmetic import chosen  # noqa: PLC0415 - torch loads here
    from proxy.scorers.language_models import load_causal_lm  # noqa: PLC0415 - transformers loads here
    from proxy.scorers.passages import PassageReader  # noqa: PLC0415

    return PassageReader(load_causal_lm(name, chosen(backend)))


def _load_classifier(name: str | None, backend: str) -> Classifier:
    if name is None:
        raise PolicyError(
            "LACONIC_CLASSIFIER: found nothing, wanted a token classifier for method llmlingua2,"
            " by name or folder"
        )
    from proxy.scorers.arithmetic import through_transformers  # noqa: PLC0415 - torch loads here
    from proxy.scorers.classifier import TokenClassifier  # noqa: PLC0415 - transformers loads here

    return TokenClassifier(name, through_transformers(backend))
