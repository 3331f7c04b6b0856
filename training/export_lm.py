"""Write a trained language model in the form that travels in the package.

    python training/export_lm.py runs/tiny/model --data FOLDER

What changes: every matrix becomes int8 rows with one float32 scale per row, as the encoder's do
(``convert_encoder.py``); norms stay float32, the tokenizer as it is.  ``MODEL_CARD.md`` is written
from the run's own history and from what is measured here, on the same text for each arithmetic.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from convert_encoder import quantised
from lm_bands import bands
from lm_data import Sources, read, shards
from proxy.scorers.arithmetic import FP32, Arithmetic, Runtime
from proxy.scorers.causal_lm import CausalLM, Passage
from proxy.scorers.language_models import FORMAT, load_causal_lm

OUT = Path(__file__).parent.parent / "proxy" / "scorers" / "models" / "laconic-tiny"
SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
)
CARD = Path(__file__).parent / "model_card.md"
SHORT = """It knows common words, spelling, the turns of English and the look of code.
It knows few facts.
Rare words, names and numbers are rated by their spelling more than by what the text says.
The same command on a GPU improves it in place: `training/README.md`.
"""
"""What is said of a model that saw less than half of that."""

LICENCES = {
    "pd": "public domain",
    "mit": "MIT",
    "apache": "Apache-2.0",
    "bsd": "BSD",
    "cc0": "CC0",
    "ccby": "CC-BY",
    "ccbysa": "CC-BY-SA",
    "mitapache": "MIT or Apache-2.0",
    "ewt": "",
}
"""How the last words of a source's name spell its licence."""


def main() -> None:
    """Read the command line, export, measure, write the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder that train_lm.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of valid*.jsonl.zst")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--texts", type=int, default=150, help="held-out texts to measure on")
    args = parser.parse_args()
    run = json.loads((args.model / "run.json").read_text(encoding="utf-8"))
    written = export(args.model, args.out, tokens_seen(run))
    print(f"{args.out}: {written / 1e6:.1f} MB")
    calibrate(args.out, args.data)
    texts = [
        record.text[:2000]
        for path in shards(args.data, "valid")
        for record in islice(read(path, Sources()), args.texts)
    ]
    measured = [measure(load_causal_lm(str(args.model), runtime=FP32), texts)]
    measured.extend(
        measure(load_causal_lm(str(args.out), runtime=Runtime(precision)), texts)
        for precision in Arithmetic
    )
    card = written_card(args.out, run, measured, written)
    (args.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(card)


def tokens_seen(run: Mapping[str, Any]) -> int:
    """Count the tokens that a model saw, those before its last run included."""
    return int(run["plan"].get("tokens_before", 0) + run["history"][-1]["tokens"])


def export(source: Path, out: Path, tokens: int) -> int:
    """Convert the model in ``source``, which saw ``tokens``; return the bytes written."""
    theirs = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if theirs.get("model_type") != "llama" or not theirs.get("tie_word_embeddings"):
        raise SystemExit(f"{source}: wanted a Llama with tied embeddings")
    blob = save(converted(load_file(source / "model.safetensors")))
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes(blob)
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")
    weights = hashlib.sha256(blob).hexdigest()
    tokenizer = (out / "tokenizer.json").read_bytes()
    config = {
        "format": FORMAT,
        "name": out.name,
        "revision": hashlib.sha256(weights.encode() + tokenizer).hexdigest()[:12],
        "weights_sha256": weights,
        "tokens": tokens,
        "window": theirs["max_position_embeddings"] - 1,
        "llama": {key: theirs[key] for key in SHAPE if key in theirs},
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return len(blob)


def calibrate(out: Path, data: Path) -> None:
    """Measure the bands of ordinary text and add them to ``config.json``."""
    model = load_causal_lm(str(out))
    records = (record for path in shards(data, "valid") for record in read(path, Sources()))
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config["bands"] = {kind: asdict(band) for kind, band in bands(model, records).items()}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def converted(source: Mapping[str, Any]) -> dict[str, Any]:
    """Quantise the matrices, keep the norms; the head is the embedding and not written twice."""
    found: dict[str, Any] = {}
    for name, tensor in source.items():
        if tensor.ndim == 2 and name != "lm_head.weight":
            found |= quantised(name.removesuffix(".weight"), tensor.astype(np.float32))
        elif tensor.ndim == 1:
            found[name] = tensor.astype(np.float32)
    return found


def measure(model: CausalLM, texts: Sequence[str]) -> dict[str, Any]:
    """Score texts one by one: mean nats per token, and tokens per second of one thread."""
    model.self_information([Passage(texts[0])])
    began, nats, tokens = time.process_time(), 0.0, 0
    for text in texts:
        found = model.self_information([Passage(text)])[0]
        nats += float(found.nats.sum(dtype=np.float64))
        tokens += len(found.nats)
    return {
        "nats": nats / tokens,
        "tokens": tokens,
        "per_s": tokens / (time.process_time() - began),
    }


def licence(source: str) -> str:
    """Spell out the licence that ends a source's name.

    >>> licence("code_python_mit_bsd_apache")
    'MIT, BSD, Apache-2.0'
    """
    words: list[str] = []
    for word in reversed(source.split("_")):
        if word not in LICENCES:
            break
        words.insert(0, LICENCES[word])
    return ", ".join(word for word in words if word)


def written_card(
    out: Path, run: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], size: int
) -> str:
    """Tell what the model is, what it saw, what it scores."""
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    plan, last, seen = run["plan"], run["history"][-1], tokens_seen(run)
    shape = config["llama"]
    table = shape["vocab_size"] * shape["hidden_size"]
    inner = parameters(shape)
    rows = "\n".join(
        f"| {source} | {licence(source)} | {found['nats_per_token']:.2f} "
        f"| {found['bits_per_byte']:.2f} | {found['tokens']:,} |"
        for source, found in last["valid"].items()
    )
    names = ("trained weights, float32", *(f"these weights, {p}" for p in Arithmetic))
    speeds = "\n".join(
        f"| {name} | {found['nats']:.3f} | {found['per_s']:,.0f} |"
        for name, found in zip(names, measured, strict=True)
    )
    return CARD.read_text(encoding="utf-8").format(
        name=config["name"],
        layers=shape["num_hidden_layers"],
        width=shape["hidden_size"],
        heads=shape["num_attention_heads"],
        inner=inner / 1e6,
        table=table / 1e6,
        words=shape["vocab_size"],
        window=config["window"],
        size=size / 1e6,
        tokens=seen / 1e6,
        sitting=last["tokens"] / 1e6,
        share=100 * seen / (20 * (inner + table)),
        minutes=last["minutes"],
        device=run.get("device", "one CPU thread"),
        throughput=last["tokens_per_s"],
        steps=last["step"],
        plan=plan,
        verdict=SHORT if seen < 10 * (inner + table) else "",
        mean=last["valid_nats_mean"],
        sources=rows,
        measured=measured[0]["tokens"],
        speeds=speeds,
    )


def parameters(shape: Mapping[str, int]) -> int:
    """Count the parameters besides the embedding."""
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    keys = shape["num_key_value_heads"] * width // shape["num_attention_heads"]
    per_layer = 2 * width * width + 2 * width * keys + 3 * width * shape["intermediate_size"]
    return layers * (per_layer + 2 * width) + width


if __name__ == "__main__":
    main()
