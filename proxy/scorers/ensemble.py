"""The models together: an encoder that is always there, and two that load when first asked.

Most policies need the encoder alone; a causal LM or a token classifier costs memory and seconds of
loading, so they wait for the first method that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from proxy.scorers.pooling import Scorer, Steps


class Models(Protocol):
    """What the engine drives: every model behind one face.

    ``revision`` names models, weights and numeric backend: equal revisions give equal scores.
    """

    @property
    def revision(self) -> str:
        """Models, weights and numeric backend."""

    @property
    def together(self) -> int:
        """Encoder tokens that are well read in one call; 0 where each window is read alone."""

    def documents_steps(self, documents: Sequence[Document]) -> Steps[list[DocumentVectors]]:
        """Embed documents, windows of several read in one call, a call per step."""

    def document_steps(self, document: Document) -> Steps[DocumentVectors]:
        """Embed a document, one window per step."""

    def question_steps(self, question: str) -> Steps[QuestionVectors]:
        """Embed a question, one window per step."""

    def passage_steps(self, passage: Passage) -> Steps[SelfInformation]:
        """Rate a passage with a causal LM, one window per step."""

    def classified_steps(self, text: str) -> Steps[KeepProbabilities]:
        """Rate a text with a token classifier, one window per step."""

    def estimate_tokens(self, text: str) -> int:
        """Guess the tokens of ``text``, without tokenising."""


class Reader(Protocol):
    """Rates passages: :class:`proxy.scorers.passages.PassageReader`."""

    def steps(self, passage: Passage) -> Steps[SelfInformation]:
        """Rate one passage."""


class Classifier(Protocol):
    """Rates tokens: :class:`proxy.scorers.classifier.TokenClassifier`."""

    def steps(self, text: str) -> Steps[KeepProbabilities]:
        """Rate one text."""


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

    @property
    def together(self) -> int:
        """Encoder tokens that are well read in one call; 0 where each window is read alone."""
        return self._encoder.together

    def documents_steps(self, documents: Sequence[Document]) -> Steps[list[DocumentVectors]]:
        """Embed documents, windows of several read in one call, a call per step."""
        return self._encoder.documents_steps(documents)

    def document_steps(self, document: Document) -> Steps[DocumentVectors]:
        """Embed a document, one window per step."""
        return self._encoder.document_steps(document)

    def question_steps(self, question: str) -> Steps[QuestionVectors]:
        """Embed a question, one window per step."""
        return self._encoder.question_steps(question)

    def passage_steps(self, passage: Passage) -> Steps[SelfInformation]:
        """Rate a passage with the causal LM, one window per step."""
        return (yield from self._reading().steps(passage))

    def classified_steps(self, text: str) -> Steps[KeepProbabilities]:
        """Rate a text with the token classifier, one window per step."""
        return (yield from self._classifying().steps(text))

    def estimate_tokens(self, text: str) -> int:
        """Guess the tokens of ``text``, without tokenising."""
        return self._encoder.estimate_tokens(text)
