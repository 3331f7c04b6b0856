"""Causal LMs as folders that transformers 4.46 and 5 read alike, in float32.

``laconic-tiny`` travels as int8 rows with a scale each; here they are multiplied out, so the
reference computes with the very numbers that ours computes with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from proxy.scorers import EMBEDDED, LANGUAGE_MODEL

BOS = "<|bos|>"


def same_for_both(name: str, out: Path) -> str:
    """Return what both sides can load: a name as it is, an exported model written out."""
    source = LANGUAGE_MODEL if name == EMBEDDED else Path(name)
    try:
        exported = "llama" in json.loads((source / "config.json").read_text("utf-8"))
    except OSError:
        return name
    return str(float_model(out, source)) if exported else name


def float_model(out: Path, source: Path = LANGUAGE_MODEL) -> Path:
    """Write an exported model to a folder under ``out`` named by its revision; return that."""
    config = json.loads((source / "config.json").read_text("utf-8"))
    folder = out / f"{config['name']}-{config['revision']}"
    if not (folder / "config.json").exists():
        tensors = load_file(source / "model.safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
        write_model(folder, multiplied_out(tensors), config["llama"], BOS)
    return folder


def gpt2_small(out: Path, source: Path = LANGUAGE_MODEL) -> Path:
    """Write a model of GPT-2 small's shape, with random weights, to ``out``; return that.

    124 million parameters; the tokenizer is that of ``source``.
    """
    config = GPT2Config()
    GPT2LMHeadModel(config).save_pretrained(out)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    _write(out / "tokenizer_config.json", _tokenizer(BOS))
    return out


def multiplied_out(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 weights: rows (out, in) int8 times scales (out, 1); norms as they are.

    >>> import torch
    >>> stored = {"a.rows": torch.tensor([[2, 4]]).char(), "a.scales": torch.tensor([[0.5]])}
    >>> multiplied_out(stored)["a.weight"].tolist()
    [[1.0, 2.0]]
    """
    weights = {name: tensor for name, tensor in tensors.items() if name.endswith("norm.weight")}
    for name, tensor in tensors.items():
        owner = name.removesuffix(".rows")
        if owner != name:
            weights[f"{owner}.weight"] = (tensor.float() * tensors[f"{owner}.scales"]).contiguous()
    return weights


def write_model(
    folder: Path, weights: Mapping[str, Tensor], shape: Mapping[str, Any], bos: str
) -> None:
    """Write a Llama's weights and configurations beside a ``tokenizer.json`` that is there."""
    config = {
        **shape,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rope_theta": shape.get("rope_parameters", {}).get("rope_theta", 10_000.0),  # before 5.0
        "torch_dtype": "float32",
    }
    save_file(dict(weights), folder / "model.safetensors", {"format": "pt"})
    _write(folder / "tokenizer_config.json", _tokenizer(bos))
    _write(folder / "config.json", config)


def _tokenizer(bos: str) -> dict[str, str]:
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": bos}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
