"""The encoder that travels in the package: loads in a second, needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer

from proxy.errors import PolicyError
from proxy.scorers.arithmetic import Arithmetic, backend_name, best, one_thread
from proxy.scorers.bert import Bert, Shape
from proxy.scorers.pooling import Ids, LateEncoder, States, Tokens
from proxy.scorers.weights import mapped

MODELS: Final = Path(__file__).parent / "models"
FORMAT: Final = 1
TOGETHER: Final = 384  # tokens in one call: with more, activations leave the processor's cache


class EmbeddedEncoder(LateEncoder):
    """A converted encoder (``training/convert_encoder.py``), by default the shipped one.

    Any number of threads may read at once: weights are never written after loading.
    """

    words: int  # of its vocabulary

    def __init__(
        self, folder: Path = MODELS / "all-minilm-l6-v2", arithmetic: Arithmetic | None = None
    ) -> None:
        """Load and verify the model in ``folder``; raises PolicyError where it is not whole.

        ``arithmetic`` is the best that this processor offers, where none is named.
        """
        one_thread()
        chosen = arithmetic or best()
        config = _config(folder)
        weights = mapped(folder, config["weights_sha256"])
        self._bert = Bert(Shape(**config["shape"]), weights, chosen)
        self._tokenizer = _plain_tokenizer(folder / "tokenizer.json")
        self._head, self._tail = config["special"]["head"], config["special"]["tail"]
        self.unknown = config["special"]["unknown"]
        self.width = self._bert.shape.width
        self.words = self._bert.shape.words
        self.window = config["window"] - len(self._head) - len(self._tail)
        self.revision = f"{config['name']}@{config['revision']}/{backend_name(chosen)}"
        self.together = TOGETHER if chosen is Arithmetic.INT8 and self._reads_alike() else 0

    def tokenise(self, text: str) -> Tokens:
        """Tokenise; ``[SEP]`` and its like in the text are the letters they are made of."""
        # encode() would hold the interpreter's lock for as long as it takes: streams would wait.
        (found,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        starts = np.array(found.offsets, dtype=np.int64).reshape(-1, 2)[:, 0]
        return Tokens(np.array(found.ids, dtype=np.int64), starts)

    def read(self, ids: Ids) -> States:
        """Run one window between its special tokens, and leave those out of what comes back."""
        return self.read_together([ids])[0]

    def read_together(self, windows: Sequence[Ids]) -> list[States]:
        """Run windows under each other; with int8 that gives each the bits it gets alone."""
        framed = [torch.tensor([*self._head, *ids.tolist(), *self._tail]) for ids in windows]
        final, middle = (states.numpy() for states in self._bert(framed))
        starts = np.cumsum([0, *map(len, framed)]) + len(self._head)
        kept = [slice(start, start + len(ids)) for start, ids in zip(starts, windows, strict=False)]
        return [States(final[part], middle[part]) for part in kept]

    def _reads_alike(self) -> bool:
        """Try whether windows read together get the bits that they get alone.

        Integer products do; this asks the rest (norms, GELU) of this processor.
        """
        draw = np.random.default_rng(0)
        lengths = [min(length, self.window) for length in (1, 2, 7, 30, 65)]
        found = [draw.integers(self.words, size=length) for length in lengths]
        together = self.read_together(found)
        return all(
            np.array_equal(each.final, alone.final) and np.array_equal(each.middle, alone.middle)
            for each, alone in zip(together, map(self.read, found), strict=True)
        )


def _plain_tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
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
