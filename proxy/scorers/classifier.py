"""Token classifiers that say how likely each token is kept (LLMLingua-2), by name or folder.

Any ``AutoModelForTokenClassification`` checkpoint with two labels will do; the published
``microsoft/llmlingua-2-*`` load by name.  Each window stands between the special tokens that its
own tokenizer asks for, and is read alone and unpadded or, on a GPU, in a batch of a fixed shape: so
a probability depends on its window and on nothing that shares the batch (law 9).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from transformers import AutoModelForTokenClassification

from proxy.compress.ports import KeepProbabilities, Vector
from proxy.errors import PolicyError
from proxy.scorers.arithmetic import FP32, Runtime
from proxy.scorers.hub import HubModel
from proxy.scorers.pooling import Ids, Steps, drain, encodable, grouped, stretches, windows

_SENTENCE_END: Final = re.compile(r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？｡؟।॥۔\n]")
_KEPT: Final = re.compile(r"keep|kept|preserve|retain|label_1$|^1$", re.IGNORECASE)


class TokenClassifier:
    """A token classifier from the hub or a folder.  Any number of threads may read at once."""

    def __init__(self, name: str, runtime: Runtime = FP32) -> None:
        """Load the model; raises PolicyError where it is missing, unreachable or unusable."""
        self._hub = HubModel(name, AutoModelForTokenClassification, runtime)
        self._label = _kept_label(name, self._hub.config.id2label)
        self.window, self.revision = self._hub.window, self._hub.revision
        self.together = self._hub.together(self._read)

    def classify(self, texts: Sequence[str]) -> list[KeepProbabilities]:
        """Rate the tokens of each text by itself."""
        return [drain(self.steps([text]))[0] for text in texts]

    def steps(self, texts: Sequence[str]) -> Steps[list[KeepProbabilities]]:
        """Rate the tokens of texts, windows of several read in one call, a call per step.

        Windows end where sentences do, as far as they can; lone surrogates are read as U+FFFD.
        """
        found = [_Found([], []) for _ in texts]
        pairs = zip(found, texts, strict=True)
        asked = (part for into, text in pairs for part in self._windows(into, text))
        for taken in grouped(asked, lambda part: len(part.ids), self.together.most):
            kept = self._read([part.ids for part in taken])
            for part, each in zip(taken, kept, strict=True):
                part.into.keep.append(each)
            yield sum(len(part.ids) for part in taken)
        return [_joined(each.keep, each.spans) for each in found]

    def _windows(self, found: _Found, text: str) -> Iterator[_Window]:
        """Cut a text into windows, a stretch at a time, and note where its tokens lie."""
        ends = [match.end() for match in _SENTENCE_END.finditer(text)]
        for begin, stop in stretches(len(text), ends):
            ids, offsets = self._tokenise(encodable(text[begin:stop]))
            cuts = np.searchsorted(offsets[:, 0] + begin, ends)  # the token after each sentence
            found.spans.append(offsets + begin)
            for start, end in windows(len(ids), cuts.tolist(), self.window):
                yield _Window(found, ids[start:end])

    def _tokenise(self, text: str) -> tuple[Ids, Ids]:
        """Return ids (n,) and offsets (n, 2); blanks at a token's edges are not its own."""
        ids, offsets = self._hub.tokenise(text)
        trimmed = [_trimmed(text, start, end) for start, end in offsets.tolist()]
        return ids, np.array(trimmed, dtype=np.int64).reshape(-1, 2)

    def _read(self, windows: Sequence[Ids]) -> list[Vector]:
        """Return the probability (n,) that each token of a window is kept."""
        return self._hub.read(
            windows, lambda output: output.logits.float().softmax(dim=-1)[..., self._label]
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found of a text, a window after the other, and where its tokens lie."""

    keep: list[Vector]
    spans: list[Ids]


@dataclass(frozen=True, slots=True)
class _Window:
    """Tokens that are read at once, and what they are found for."""

    into: _Found
    ids: Ids


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Give the blanks that a token carries to nobody: SentencePiece's word mark stands for one."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _kept_label(name: str, labels: dict[int, str]) -> int:
    """Return the label that means "keep": by its name, or the second of two, as published."""
    if len(labels) != 2:
        raise PolicyError(f"scorer {name!r}: found {len(labels)} labels, wanted 2: drop and keep")
    named = [number for number, label in labels.items() if _KEPT.search(label)]
    return int(named[0]) if len(named) == 1 else 1


def _joined(keep: Sequence[Vector], spans: Sequence[Ids]) -> KeepProbabilities:
    offsets = np.concatenate([np.zeros((0, 2), dtype=np.int64), *spans]).astype(np.int32)
    arrays = (
        np.concatenate([np.zeros(0, dtype=np.float32), *keep]),
        offsets[:, 0].copy(),
        offsets[:, 1].copy(),
    )
    for array in arrays:
        array.flags.writeable = False
    return KeepProbabilities(*arrays)
