"""The encoder that travels in the package: loads in a second, needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from proxy.compress.ports import Vector
from proxy.errors import PolicyError
from proxy.scorers.arithmetic import Arithmetic, Runtime, automatic, one_thread
from proxy.scorers.bert import Bert, Shape
from proxy.scorers.pooling import (
    ALONE,
    Ids,
    LateEncoder,
    States,
    Sums,
    Together,
    Tokens,
    Window,
)
from proxy.scorers.recorded import Recorded
from proxy.scorers.shapes import Frame, Padded, read_all, reads_alike, sum_all, together
from proxy.scorers.weights import mapped

MODELS: Final = Path(__file__).parent / "models"
FORMAT: Final = 1
TOGETHER: Final = Together(0, 384)  # with more, activations leave the processor's cache


class EmbeddedEncoder(LateEncoder):
    """A converted encoder (``training/convert_encoder.py``), by default the shipped one.

    Any number of threads may read at once: weights are never written after loading.
    """

    words: int  # of its vocabulary
    passes: Recorded  # of batches: ids and what of them is read, (b, n) each, to states (b, n, d)

    def __init__(
        self, folder: Path = MODELS / "all-minilm-l6-v2", runtime: Runtime | None = None
    ) -> None:
        """Load and verify the model in ``folder``; raises PolicyError where it is not whole.

        ``runtime`` is the best that this machine offers, where none is named.
        """
        one_thread()
        self.runtime = runtime or automatic()
        config = _config(folder)
        weights = mapped(folder, config["weights_sha256"])
        self._bert = Bert(Shape(**config["shape"]), weights, self.runtime)
        self.passes = Recorded(
            lambda ids, read: self._bert.padded(Padded(ids, read)),
            on_gpu=self.runtime.device.type == "cuda",
        )
        self._tokenizer = plain(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self._frame = Frame(config["special"]["head"], config["special"]["tail"])
        self.unknown = config["special"]["unknown"]
        self.width = self._bert.shape.width
        self.words = self._bert.shape.words
        self._longest = config["window"]
        self.window = self._longest - len(self._frame)
        self.revision = f"{config['name']}@{config['revision']}/{self.runtime.name}"
        self.together = self._tried()

    def tokenise(self, text: str) -> Tokens:
        """Tokenise; ``[SEP]`` and its like in the text are the letters they are made of."""
        return self.tokenise_all([text])[0]

    def tokenise_all(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise several texts, on as many cores as there are."""
        # encode() would hold the interpreter's lock for as long as it takes: streams would wait.
        return [
            Tokens(
                np.fromiter(found.ids, np.int64),
                np.fromiter(map(itemgetter(0), found.offsets), np.int64),
            )
            for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]

    def read(self, ids: Ids) -> States:
        """Run one window between its special tokens, and leave those out of what comes back."""
        (states,) = self._run([ids], lambda final, middle: torch.cat((final, middle), dim=-1))
        return States(states[:, : self.width], states[:, self.width :])

    def read_together(self, windows: Sequence[Ids]) -> list[Vector]:
        """Run windows in one call; each gets the final states that it gets alone (law 9).

        In int8 they lie under each other, and no row depends on another; else shapes are fixed.
        """
        return self._run(windows, lambda final, _: final)

    def sums(self, windows: Sequence[Window]) -> list[Sums]:
        """Run windows, and sum final states where they are computed; bits are those of alone."""
        if not self.runtime.shape_tokens:
            return super().sums(windows)
        return sum_all(
            self._frame.with_ranges(windows),
            self.runtime,
            self._longest,
            lambda given: self.passes(*given)[0],
        )

    def _run(
        self, windows: Sequence[Ids], wanted: Callable[[Tensor, Tensor], Tensor]
    ) -> list[Vector]:
        """Return what is wanted of each window's final and middle states, by token: (n, ...)."""
        whole = self._frame.around(windows)
        if self.runtime.shape_tokens:
            found = read_all(
                whole, self.runtime, self._longest, lambda given: wanted(*self.passes(*given))
            )
        else:
            states = wanted(*self._bert([torch.from_numpy(ids) for ids in whole])).numpy()
            found = np.split(states, np.cumsum([len(ids) for ids in whole])[:-1])
        return self._frame.taken_off(found)

    def _tried(self) -> Together:
        """Return how much is well read in one call."""
        if self.runtime.shape_tokens:
            return together(
                self.runtime, self.whole_sums, self.words, self.window, len(self._frame)
            )
        exact = self.runtime.arithmetic is Arithmetic.INT8
        short = [min(length, self.window) for length in (1, 2, 7, 30, 65)]
        alike = exact and reads_alike(self.read_together, short, 1, self.words)
        return TOGETHER if alike else ALONE


def plain(tokenizer: Tokenizer) -> Tokenizer:
    """Let a tokenizer read any text whole, and as text."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # caller text never becomes a special token
    return tokenizer


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"model {folder}: {error.strerror or error}") from error
    if config["format"] != FORMAT:
        raise PolicyError(f"model {folder}: found format {config['format']}, wanted {FORMAT}")
    return config
