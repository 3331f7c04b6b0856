"""Any other sentence encoder, by hub name or local folder, through transformers.

On a processor each window is read alone, in float32; on a GPU in batches of fixed shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from proxy.compress.ports import Vector
from proxy.errors import PolicyError
from proxy.scorers.arithmetic import FP32, Runtime, one_thread, placed
from proxy.scorers.pooling import Ids, LateEncoder, States, Sums, Together, Tokens, Window
from proxy.scorers.shapes import Frame, Padded, Read, read_all, sum_all, together
from proxy.scorers.weights import digest

_PROBE: Final = "a"
_LONGEST: Final = 512  # where a model names no limit, or an absurd one


class HubModel:
    """A model of a transformers ``Auto`` class, with its tokenizer, that reads windows of texts.

    No code of the model's own is run (``trust_remote_code`` is off), and only safetensors weights
    are read.  Any number of threads may read at once: weights are never written after loading.
    """

    def __init__(self, name: str, kind: Any, runtime: Runtime) -> None:
        """Load the model; raises PolicyError where it is missing, unreachable or unusable."""
        self.config, self.tokenizer, model = _loaded(name, kind)
        self.frame = special_ids(self.tokenizer)
        self.window = window(self.tokenizer, self.config) - len(self.frame)
        self.revision = f"{name}@{digest(model)}/{runtime.name}"
        self.runtime = runtime
        self._model = placed(model, runtime)

    def tokenise(self, text: str) -> tuple[Ids, Ids]:
        """Return ids (n,) and the characters that each covers (n, 2).

        Special tokens spelt out in the text are the letters they are made of, or unknown: some
        SentencePiece vocabularies hold ``</s>`` as a piece like any other.
        """
        found = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids = np.array(found["input_ids"], dtype=np.int64)
        unknown = self.tokenizer.unk_token_id
        if unknown is not None:
            ids[np.isin(ids, sorted({*self.tokenizer.all_special_ids} - {unknown}))] = unknown
        return ids, np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)

    def read(
        self, windows: Sequence[Ids], wanted: Callable[[Any], Tensor], **options: Any
    ) -> list[Vector]:
        """Run windows, alone or in fixed shapes; return what is wanted of each: (n, ...).

        ``wanted`` makes (b, n, ...) of the model's output, ``options`` are the model's.
        """
        run = self._running(wanted, options)
        whole = self.frame.around(windows)
        return self.frame.taken_off(read_all(whole, self.runtime, self._longest, run))

    def sums(
        self, windows: Sequence[Window], wanted: Callable[[Any], Tensor], **options: Any
    ) -> list[Sums]:
        """Run windows likewise; return the sums of what is wanted over their ranges: (k, d)."""
        whole = self.frame.with_ranges(windows)
        return sum_all(whole, self.runtime, self._longest, self._running(wanted, options))

    def _running(
        self, wanted: Callable[[Any], Tensor], options: dict[str, Any]
    ) -> Callable[[Padded], Tensor]:
        @torch.inference_mode()
        def run(given: Padded) -> Tensor:
            mask = given.read.long()
            return wanted(self._model(input_ids=given.ids, attention_mask=mask, **options))

        return run

    @property
    def _longest(self) -> int:
        return self.window + len(self.frame)

    def together(self, read: Read) -> Together:
        """Return how much of what ``read`` reads goes well in one call."""
        return together(self.runtime, read, len(self.tokenizer), self.window, len(self.frame))


def _loaded(name: str, kind: Any) -> tuple[Any, Any, Any]:
    """Return config, fast tokenizer and float32 model."""
    one_thread()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(
            name, trust_remote_code=False, split_special_tokens=True
        )
        model = kind.from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        ).eval()
    except (OSError, ValueError, ImportError) as error:
        raise PolicyError(f"scorer {name!r}: cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise PolicyError(f"scorer {name!r}: its tokenizer gives no offsets, wanted a fast one")
    return config, tokenizer, model


class HubEncoder(LateEncoder):
    """A sentence encoder from the hub or a folder, read by late pooling."""

    def __init__(self, name: str, runtime: Runtime = FP32) -> None:
        """Load the model; raises PolicyError where it is missing, unreachable or unusable."""
        self._hub = HubModel(name, AutoModel, runtime)
        config = self._hub.config
        if getattr(config, "is_encoder_decoder", False):
            raise PolicyError(f"scorer {name!r}: found an encoder-decoder, wanted an encoder")
        self.unknown = self._hub.tokenizer.unk_token_id
        self.width = int(config.hidden_size)
        self._middle = -(-2 * int(config.num_hidden_layers) // 3)
        self.window, self.revision = self._hub.window, self._hub.revision
        self.together = self._hub.together(self.whole_sums)

    def tokenise(self, text: str) -> Tokens:
        """Tokenise; special tokens spelt out in the text are the letters they are made of."""
        ids, offsets = self._hub.tokenise(text)
        return Tokens(ids, np.maximum.accumulate(offsets[:, 0]))

    def read(self, ids: Ids) -> States:
        """Run one window between its special tokens, and leave those out of what comes back."""
        (states,) = self._layers([ids], -1, self._middle)
        return States(states[:, : self.width], states[:, self.width :])

    def read_together(self, windows: Sequence[Ids]) -> list[Vector]:
        """Run windows in batches of fixed shapes, or one by one; return their final states."""
        return self._layers(windows, -1)

    def sums(self, windows: Sequence[Window]) -> list[Sums]:
        """Run windows, and sum final states where they are computed; bits are those of alone."""
        if not self._hub.runtime.shape_tokens:
            return super().sums(windows)
        return self._hub.sums(
            windows, lambda output: output.hidden_states[-1], output_hidden_states=True
        )

    def _layers(self, windows: Sequence[Ids], *layers: int) -> list[Vector]:
        """Return each window's states in some layers, side by side: (n, layers * d)."""

        def wanted(output: Any) -> Tensor:
            return torch.cat([output.hidden_states[layer] for layer in layers], dim=-1)

        return self._hub.read(windows, wanted, output_hidden_states=True)


def special_ids(tokenizer: Any) -> Frame:
    """Return the special tokens that the model wants before and after a text."""
    bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    full = tokenizer(_PROBE)["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return Frame(full[:start], full[start + len(bare) :])


def window(tokenizer: Any, config: Any) -> int:
    """Return the longest input in tokens, special ones counted."""
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", _LONGEST)]
    # RoBERTa's positions start after the padding id, so two of its 514 are never used.
    offset = 2 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0
    return min(int(limits[0]), int(limits[1]) - offset, _LONGEST)


def first_line(error: Exception) -> str:
    """Say what a library's error says, without its further lines."""
    return str(error).strip().partition("\n")[0]
