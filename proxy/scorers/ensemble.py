"""The models together: an encoder that is always there, and two that load when first asked.

Most policies need the encoder alone; a causal LM or a token classifier costs memory and seconds of
loading, so they wait for the first method that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from threading import Lock
from typing import Protocol

from proxy.compress.ports import (
    Document,
    DocumentVectors,
    KeepProbabilities,
    Passage,
    QuestionVectors,
    SelfInformation,
)
from proxy.scorers.pooling import ALONE, Scorer, Steps, Together


class Asked(Enum):
    """What a text is asked for."""

    DOCUMENT = auto()
    QUESTION = auto()
    PASSAGE = auto()
    CLASSIFIED = auto()


class Models(Protocol):
    """What the engine drives: every model behind one face.

    ``revision`` names models, weights and numeric backend: equal revisions give equal scores.
    """

    @property
    def revision(self) -> str:
        """Models, weights and numeric backend."""

    def together(self, asked: Asked) -> Together:
        """Tokens of texts that are asked for so and are well read in one call."""

    def documents_steps(self, documents: Sequence[Document]) -> Steps[list[DocumentVectors]]:
        """Embed documents; those given together are read in as few calls as may be."""

    def questions_steps(self, questions: Sequence[str]) -> Steps[list[QuestionVectors]]:
        """Embed questions, one window per step."""

    def passages_steps(self, passages: Sequence[Passage]) -> Steps[list[SelfInformation]]:
        """Rate passages with a causal LM; those given together are read in as few calls."""

    def classified_steps(self, texts: Sequence[str]) -> Steps[list[KeepProbabilities]]:
        """Rate texts with a token classifier, likewise."""

    def estimate_tokens(self, text: str) -> int:
        """Guess the tokens of ``text``, without tokenising."""


class Reader(Protocol):
    """Rates passages: :class:`proxy.scorers.passages.PassageReader`."""

    @property
    def together(self) -> Together:
        """Tokens of passages that are well read in one call."""

    def steps(self, passages: Sequence[Passage]) -> Steps[list[SelfInformation]]:
        """Rate passages."""


class Classifier(Protocol):
    """Rates tokens: :class:`proxy.scorers.classifier.TokenClassifier`."""

    @property
    def together(self) -> Together:
        """Tokens of texts that are well read in one call."""

    def steps(self, texts: Sequence[str]) -> Steps[list[KeepProbabilities]]:
        """Rate texts."""


class Ensemble:
    """An encoder with a causal LM and a token classifier behind it."""

    def __init__(
        self,
        encoder: Scorer,
        *,
        reader: Callable[[], Reader],
        classifier: Callable[[], Classifier],
        names: str = "",
    ) -> None:
        """Load ``reader`` and ``classifier`` on first use; ``names`` tells which they will be."""
        self._encoder = encoder
        self._load_reader, self._load_classifier = reader, classifier
        self._reader: Reader | None = None
        self._classifier: Classifier | None = None
        self._loading = Lock()
        self.revision = f"{encoder.revision}+{names}" if names else encoder.revision

    def _reading(self) -> Reader:
        with self._loading:
            self._reader = self._reader or self._load_reader()
            return self._reader

    def _classifying(self) -> Classifier:
        with self._loading:
            self._classifier = self._classifier or self._load_classifier()
            return self._classifier

    def together(self, asked: Asked) -> Together:
        """Tokens that are well read in one call; a model not yet loaded reads one text alone."""
        models = {
            Asked.DOCUMENT: self._encoder,
            Asked.PASSAGE: self._reader,
            Asked.CLASSIFIED: self._classifier,
        }
        model = models.get(asked)
        return ALONE if model is None else model.together

    def documents_steps(self, documents: Sequence[Document]) -> Steps[list[DocumentVectors]]:
        """Embed documents; those given together are read in as few calls as may be."""
        return self._encoder.documents_steps(documents)

    def questions_steps(self, questions: Sequence[str]) -> Steps[list[QuestionVectors]]:
        """Embed questions, one window per step."""
        found: list[QuestionVectors] = []
        for question in questions:
            vectors = yield from self._encoder.question_steps(question)
            found.append(vectors)
        return found

    def passages_steps(self, passages: Sequence[Passage]) -> Steps[list[SelfInformation]]:
        """Rate passages with the causal LM; those given together are read in as few calls."""
        return (yield from self._reading().steps(passages))

    def classified_steps(self, texts: Sequence[str]) -> Steps[list[KeepProbabilities]]:
        """Rate texts with the token classifier, likewise."""
        return (yield from self._classifying().steps(texts))

    def estimate_tokens(self, text: str) -> int:
        """Guess the tokens of ``text``, without tokenising."""
        return self._encoder.estimate_tokens(text)
