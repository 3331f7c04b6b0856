"""Any other sentence encoder, by hub name or local folder, through transformers.

On a processor each window is read alone, in float32; on a GPU in batches of fixed shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from proxy.compress.ports import Vector
from proxy.errors import PolicyError
from proxy.scorers.arithmetic import FP32, Runtime, one_thread, placed
from proxy.scorers.pooling import Ids, LateEncoder, States, Tokens
from proxy.scorers.shapes import Padded, framed, read_all, together

_PROBE: Final = "a"
_LONGEST: Final = 512  # where a model names no limit, or an absurd one


def load_from_hub(name: str, kind: Any) -> tuple[Any, Any, Any]:
    """Return config, fast tokenizer and float32 model of a transformers ``Auto`` class.

    Raises PolicyError where the model is missing, unreachable or unusable.
    """
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


def without_specials(tokenizer: Any, ids: Ids) -> Ids:
    """Return ``ids`` (n,) of a text with special tokens made unknown.

    Some SentencePiece vocabularies hold ``</s>`` as an ordinary piece as well.
    """
    unknown = tokenizer.unk_token_id
    if unknown is not None:
        ids[np.isin(ids, sorted({*tokenizer.all_special_ids} - {unknown}))] = unknown
    return ids


class HubEncoder(LateEncoder):
    """A sentence encoder from the hub or a folder, read by late pooling.

    No code of the model's own is run (``trust_remote_code`` is off), and only safetensors weights
    are read.
    """

    def __init__(self, name: str, runtime: Runtime = FP32) -> None:
        """Load the model; raises PolicyError where it is missing, unreachable or unusable."""
        config, self._tokenizer, model = load_from_hub(name, AutoModel)
        if getattr(config, "is_encoder_decoder", False):
            raise PolicyError(f"scorer {name!r}: found an encoder-decoder, wanted an encoder")
        self._head, self._tail = special_ids(self._tokenizer)
        self.unknown = self._tokenizer.unk_token_id
        self.width = int(config.hidden_size)
        self._middle = -(-2 * int(config.num_hidden_layers) // 3)
        self._longest = window(self._tokenizer, config)
        self.window = self._longest - len(self._head) - len(self._tail)
        self.revision = f"{name}@{digest(model)}/{runtime.name}"
        self._runtime = runtime
        self._model = placed(model, runtime)
        self.together = together(runtime, self.read_together, len(self._tokenizer), self.window)

    def tokenise(self, text: str) -> Tokens:
        """Tokenise; special tokens spelt out in the text are the letters they are made of."""
        found = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        starts = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)[:, 0]
        ids = without_specials(self._tokenizer, np.array(found["input_ids"], dtype=np.int64))
        return Tokens(ids, np.maximum.accumulate(starts))

    def read(self, ids: Ids) -> States:
        """Run one window between its special tokens, and leave those out of what comes back."""
        (states,) = self._run([ids], [-1, self._middle])
        return States(states[:, : self.width], states[:, self.width :])

    def read_together(self, windows: Sequence[Ids]) -> list[Vector]:
        """Run windows in batches of fixed shapes, or one by one; return their final states."""
        return self._run(windows, [-1])

    @torch.inference_mode()
    def _run(self, windows: Sequence[Ids], layers: Sequence[int]) -> list[Vector]:
        """Return each window's states in some layers, side by side: (n, layers * d)."""
        whole = [framed(self._head, ids, self._tail) for ids in windows]

        def run(given: Padded) -> Tensor:
            mask = given.read.long()
            states = self._model(
                input_ids=given.ids, attention_mask=mask, output_hidden_states=True
            ).hidden_states
            return torch.cat([states[layer] for layer in layers], dim=-1)

        found = read_all(whole, self._runtime, self._longest, run)
        begin = len(self._head)
        return [each[begin : begin + len(ids)] for each, ids in zip(found, windows, strict=True)]


def special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that the model wants before and after a text."""
    bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    full = tokenizer(_PROBE)["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:start], full[start + len(bare) :]


def window(tokenizer: Any, config: Any) -> int:
    """Return the longest input in tokens, special ones counted."""
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", _LONGEST)]
    # RoBERTa's positions start after the padding id, so two of its 514 are never used.
    offset = 2 if config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0
    return min(int(limits[0]), int(limits[1]) - offset, _LONGEST)


def digest(model: Any) -> str:
    """Name the weights by their content: a folder or a branch name says nothing about them."""
    hashed = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        hashed.update(key.encode())
        hashed.update(
            tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b""
        )
    return hashed.hexdigest()[:12]


def first_line(error: Exception) -> str:
    """Say what a library's error says, without its further lines."""
    return str(error).strip().partition("\n")[0]
