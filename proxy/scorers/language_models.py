"""Where causal language models come from: files of our own form, the hub, a folder of its kind.

A file of ours is what ``training/export_lm.py`` writes: matrices as int8 rows with one float32
scale each, and beside them the bands of usual text.  Wherever it comes from, a model is brought
into the arithmetic asked for: int8 layers in place of float ones, bfloat16 on a GPU.  Of a file of
ours the body is our own, too (:mod:`proxy.scorers.llama`), except in plain float32.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from proxy.compress.ports import Band
from proxy.errors import PolicyError
from proxy.scorers import EMBEDDED, LANGUAGE_MODEL
from proxy.scorers.arithmetic import (
    FP32,
    Arithmetic,
    Int8Linear,
    Runtime,
    automatic,
    one_thread,
    placed,
)
from proxy.scorers.causal_lm import CausalLM
from proxy.scorers.encoder import plain
from proxy.scorers.hub import first_line
from proxy.scorers.llama import LeanLlama, Rows, joined_rows, joined_weights
from proxy.scorers.weights import digest, mapped
from proxy.types import Kind

FORMAT: Final = 1
LONGEST_WINDOW: Final = 2048  # tokens, where a model would hold more: cost grows with the square


def load_causal_lm(name: str = EMBEDDED, runtime: Runtime | None = None) -> CausalLM:
    """Load the ``embedded`` model, one that ``training/export_lm.py`` wrote, or any other by name.

    Without a word it is computed on a GPU where there is one, in int8 on a processor that does it
    exactly and fast, in float32 elsewhere.  No code of the model's own is run, and only safetensors
    weights are read.  Raises PolicyError where there is no such model or none that can be used.
    """
    one_thread()
    chosen = runtime or automatic()
    folder = LANGUAGE_MODEL if name == EMBEDDED else Path(name)
    if _exported(folder):
        return _from_export(folder, chosen)
    return _from_hub(name, chosen)


def _exported(folder: Path) -> bool:
    """Tell whether a folder is of our own form."""
    try:
        return "llama" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _from_export(folder: Path, runtime: Runtime) -> CausalLM:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["format"] != FORMAT:
        raise PolicyError(f"model {folder}: found format {config['format']}, wanted {FORMAT}")
    tensors = mapped(folder, config["weights_sha256"])
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except OSError as error:
        raise PolicyError(f"model {folder}: {error.strerror or error}") from error
    rows = {
        name.removesuffix(".rows"): (tensor, tensors[f"{name.removesuffix('.rows')}.scales"])
        for name, tensor in tensors.items()
        if name.endswith(".rows")
    }
    rows["lm_head"] = rows["model.embed_tokens"]
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**config["llama"]))
    weights = {f"{name}.weight": (r.float() * s) for name, (r, s) in rows.items()}
    norms = {name: tensor for name, tensor in tensors.items() if name.endswith("norm.weight")}
    model.load_state_dict(weights | norms, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    prepared = _prepared(model, runtime, rows)
    if runtime.arithmetic is Arithmetic.INT8:
        prepared.model = LeanLlama(
            prepared.model, lambda names: joined_rows([rows[name] for name in names])
        )
    elif runtime != FP32:
        prepared.model = LeanLlama(
            prepared.model,
            lambda names: joined_weights([prepared.get_submodule(name).weight for name in names]),
        )
    return CausalLM(
        prepared,
        plain(tokenizer),
        int(config["llama"]["bos_token_id"]),
        window=int(config["window"]),
        bands=_bands(config),
        revision=f"{config['name']}@{config['revision']}{_calibration(config)}/{runtime.name}",
        runtime=runtime,
    )


def _bands(config: Mapping[str, Any]) -> Mapping[Kind, Band]:
    """Read the bands that were measured at export; an older file may lack some of their fields."""
    return MappingProxyType(
        {Kind(kind): _band(told) for kind, told in config.get("bands", {}).items()}
    )


def _band(told: Mapping[str, Any]) -> Band:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
    return Band(**fields)


def _calibration(config: Mapping[str, Any]) -> str:
    """Name the bands: equal scores in other bands make another compression."""
    if not config.get("bands"):
        return ""
    told = json.dumps(config["bands"], sort_keys=True)
    return f".{hashlib.sha256(told.encode()).hexdigest()[:6]}"


def _from_hub(name: str, runtime: Runtime) -> CausalLM:
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise PolicyError(f"scorer {name!r}: cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise PolicyError(f"scorer {name!r}: its tokenizer gives no offsets, wanted a fast one")
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise PolicyError(f"scorer {name!r}: found no position_ids in its forward pass")
    bos = _bos(tokenizer, model.config)
    if bos is None:
        raise PolicyError(f"scorer {name!r}: found neither BOS nor EOS, wanted one to begin with")
    revision = f"{name}@{digest(model)}/{runtime.name}"
    return CausalLM(
        _prepared(model, runtime, {}),
        plain(tokenizer.backend_tokenizer),
        bos,
        window=_window(model.config),
        revision=revision,
        runtime=runtime,
    )


def _bos(tokenizer: Any, config: Any) -> int | None:
    """Return BOS or, as GPT-2 and Qwen were trained, what ends the document before."""
    asked = (tokenizer.bos_token_id, config.bos_token_id, tokenizer.eos_token_id)
    return next((number for number in asked if number is not None), None)


def _window(config: Any) -> int:
    """Return how many tokens are read at once, BOS not counted."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None) or LONGEST_WINDOW
    return min(int(limit), LONGEST_WINDOW) - 1


def _prepared(model: Any, runtime: Runtime, stored: Mapping[str, Rows]) -> Any:
    """Bring a float32 model into the arithmetic asked for, and to its device."""
    model.eval().requires_grad_(False)
    if runtime.arithmetic is Arithmetic.INT8:
        _use_int8(model, stored)
    return placed(model, runtime)


class _Int8(nn.Module):
    """A linear layer in integer products, in place of one in float32."""

    def __init__(self, rows: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._linear = Int8Linear(rows.T, scales.flatten(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: x (..., in) gives (..., out)."""
        return self._linear(x.flatten(0, -2)).view(*x.shape[:-1], -1)


def _use_int8(model: Any, stored: Mapping[str, Rows]) -> None:
    """Replace every linear layer; one without stored rows is quantised by its largest weights."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    }
    for name, module in layers.items():
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        rows, scales = stored.get(name) or _quantised(weight)
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, _Int8(rows, scales, module.bias))


def _quantised(weight: Tensor) -> Rows:
    scales = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    return (weight / scales).round_().to(torch.int8), scales
