"""Fine-tune the encoder's last layers on which units answer a question.

    python training/train_encoder.py --data FOLDER --out runs/encoder
    python training/train_encoder.py --out runs/encoder --write runs/encoder/half --share 0.5

The loss is that of ``train_relevance.py``, contrastive over the units of a case (InfoNCE, arXiv
1807.03748), with vectors made as the proxy makes them: the mean of a unit's, a document's, a
question's own token states.  What is trained is what lies above the layer that asks are recognised
by (two thirds down), so that nothing else need be trained anew.

The first command lays the cases out (minutes of one core, kept as ``cases.npz``), trains, and
writes ``layers.safetensors``.  Runs on one GPU or, slowly, a CPU.  The second writes an encoder in
the package's form whose last layers are so far on the way from the shipped ones to the trained
ones (weight-space ensembles, arXiv 2109.01903).  ``benchmarks/learnt_encoder.py`` compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from safetensors.numpy import load_file, save, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from convert_encoder import quantised

if TYPE_CHECKING:  # a machine that only trains needs no proxy
    from proxy.compress.ports import Document
    from proxy.scorers.encoder import EmbeddedEncoder
    from proxy.scorers.pooling import Tokens
    from relevance_data import Case

Ids = NDArray[np.int32]
Weights = Mapping[str, NDArray[np.float32]]

SHIPPED = Path(__file__).parent.parent / "proxy" / "scorers" / "models" / "all-minilm-l6-v2"
DOCUMENTS = 12
"""Most documents of a case: those that answer, and others in the order of the data."""
SCALE = 20.0
"""Factor a of the cosines; as ``train_relevance.py`` begins with."""
PARTS = {
    "attended": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "norm2": "output.LayerNorm",
}
"""Our names of a layer's parts, and transformers'."""


@dataclass(frozen=True, slots=True)
class Laid:
    """One case as tokens.  Row 0 of ``rows`` is the question, the others are documents."""

    source: str
    held_out: bool
    rows: tuple[Ids, ...] = field(repr=False)  # each (n,), special tokens included
    owner: tuple[Ids, ...] = field(repr=False)  # per document (n,): a token's unit, -1 for none
    unit_row: Ids = field(repr=False)  # (units,) the document that each unit stands in
    answers: NDArray[np.bool_] = field(repr=False)  # (units,)


def lay_out(cases: Iterable[Case], encoder: EmbeddedEncoder) -> Iterator[Laid]:
    """Tokenise cases; documents longer than a window are left out, and cases without answer."""
    special = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))["special"]
    frame = partial(_framed, head=special["head"], tail=special["tail"])
    for case in cases:
        asked = encoder.tokenise(case.question).ids[: encoder.window]
        laid = _Laying(frame, len(special["head"]), [frame(asked)])
        for document, answers, in_frame in _chosen(case):
            tokens = encoder.tokenise(document.text)
            if 0 < len(tokens.ids) <= encoder.window:
                laid.add(document, tokens, answers, in_frame)
        if any(laid.answers):
            yield laid.of(case)


def _chosen(case: Case) -> Sequence[tuple[Document, Sequence[bool], Sequence[bool]]]:
    """List up to DOCUMENTS of a case, those that answer first, with what is said of their units."""
    found, first = [], 0
    for document in case.documents:
        last = first + len(document.units)
        found.append((document, case.answers[first:last], case.frame[first:last]))
        first = last
    return sorted(found, key=lambda each: not any(each[1]))[:DOCUMENTS]


@dataclass(slots=True)
class _Laying:
    """A case as it is put together."""

    frame: Callable[[NDArray[np.int64]], Ids]
    ahead: int  # special tokens before a text's own
    rows: list[Ids]
    owner: list[Ids] = field(default_factory=list)
    unit_row: list[int] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)

    def add(
        self,
        document: Document,
        tokens: Tokens,
        answers: Sequence[bool],
        in_frame: Sequence[bool],
    ) -> None:
        """Add a document; units of the frame, or without a token, are none."""
        row = self.frame(tokens.ids)
        owner = np.full(len(row), -1, dtype=np.int32)
        for span, answer, is_frame in zip(document.units, answers, in_frame, strict=True):
            low, high = np.searchsorted(tokens.starts, (span.start, span.end))
            if not is_frame and low < high:
                owner[self.ahead + low : self.ahead + high] = len(self.unit_row)
                self.unit_row.append(len(self.owner))
                self.answers.append(answer)
        self.rows.append(row)
        self.owner.append(owner)

    def of(self, case: Case) -> Laid:
        """Return the whole."""
        return Laid(
            case.source,
            case.held_out,
            tuple(self.rows),
            tuple(self.owner),
            np.array(self.unit_row, dtype=np.int32),
            np.array(self.answers),
        )


def _framed(ids: NDArray[np.int64], *, head: list[int], tail: list[int]) -> Ids:
    return np.array([*head, *ids.tolist(), *tail], dtype=np.int32)


def save_cases(cases: Sequence[Laid], path: Path) -> None:
    """Keep laid-out cases for another run."""
    rows = [row for case in cases for row in case.rows]
    owners = [owner for case in cases for owner in case.owner]
    np.savez_compressed(
        path,
        ids=np.concatenate(rows),
        lengths=np.array([len(row) for row in rows], dtype=np.int32),
        owners=np.concatenate(owners),
        counts=np.array([len(case.rows) for case in cases], dtype=np.int32),
        units=np.array([len(case.answers) for case in cases], dtype=np.int32),
        unit_rows=np.concatenate([case.unit_row for case in cases]),
        answers=np.concatenate([case.answers for case in cases]),
        sources=np.array([case.source for case in cases]),
        held_out=np.array([case.held_out for case in cases]),
    )


def load_cases(path: Path) -> list[Laid]:
    """Read what :func:`save_cases` wrote."""
    with np.load(path) as kept:
        found = {name: kept[name] for name in kept.files}
    rows = np.split(found["ids"], np.cumsum(found["lengths"])[:-1])
    units = np.split(found["unit_rows"], np.cumsum(found["units"])[:-1])
    answers = np.split(found["answers"], np.cumsum(found["units"])[:-1])
    cases, row, owner = [], 0, 0
    for number, count in enumerate(found["counts"].tolist()):
        mine = rows[row : row + count]
        owners = []
        for each in mine[1:]:
            owners.append(found["owners"][owner : owner + len(each)])
            owner += len(each)
        row += count
        cases.append(
            Laid(
                str(found["sources"][number]),
                bool(found["held_out"][number]),
                tuple(mine),
                tuple(owners),
                units[number],
                answers[number],
            )
        )
    return cases


def read_bert(folder: Path) -> BertModel:
    """Build the encoder of ``folder`` as transformers has it, its rows widened to float32."""
    shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))["shape"]
    ours = widened(load_file(folder / "model.safetensors"))
    config = BertConfig(
        vocab_size=shape["words"],
        hidden_size=shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["inner"],
        max_position_embeddings=shape["positions"],
        layer_norm_eps=shape["epsilon"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertModel(config, add_pooling_layer=False)
    theirs = {
        "embeddings.word_embeddings.weight": ours["words.weight"],
        "embeddings.position_embeddings.weight": ours["positions.weight"],
        "embeddings.token_type_embeddings.weight": np.zeros((2, shape["width"]), np.float32),
        "embeddings.LayerNorm.weight": ours["norm.weight"],
        "embeddings.LayerNorm.bias": ours["norm.bias"],
    }
    for number in range(shape["layers"]):
        theirs |= to_bert(ours, number)
    state = {name: torch.from_numpy(array) for name, array in theirs.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any("position_ids" not in name for name in missing):
        raise SystemExit(f"{folder}: found no {missing}, cannot place {unexpected}")
    return model


def widened(stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Turn int8 rows and their scales into matrices; the rest stays as it is."""
    found = {}
    for name, array in stored.items():
        if name.endswith(".rows"):
            bare = name.removesuffix(".rows")
            found[f"{bare}.weight"] = array.astype(np.float32) * stored[f"{bare}.scales"]
        elif not name.endswith(".scales"):
            found[name] = array
    return found


def to_bert(ours: Weights, number: int) -> dict[str, NDArray[np.float32]]:
    """Name a layer's weights as transformers does."""
    mine, theirs = f"layers.{number}", f"encoder.layer.{number}"
    found = {}
    for kind in ("weight", "bias"):
        parts = np.split(ours[f"{mine}.qkv.{kind}"], 3)
        for name, part in zip(("query", "key", "value"), parts, strict=True):
            found[f"{theirs}.attention.self.{name}.{kind}"] = part
        for part_name, their_name in PARTS.items():
            found[f"{theirs}.{their_name}.{kind}"] = ours[f"{mine}.{part_name}.{kind}"]
    return found


def from_bert(theirs: Weights, number: int) -> dict[str, NDArray[np.float32]]:
    """Name a layer's weights as we do: the inverse of :func:`to_bert`."""
    mine, prefix = f"layers.{number}", f"encoder.layer.{number}"
    found = {}
    for kind in ("weight", "bias"):
        asked = [
            theirs[f"{prefix}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")
        ]
        found[f"{mine}.qkv.{kind}"] = np.concatenate(asked)
        for part_name, their_name in PARTS.items():
            found[f"{mine}.{part_name}.{kind}"] = theirs[f"{prefix}.{their_name}.{kind}"]
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """Several cases side by side, padded; units are numbered through all of them."""

    ids: Tensor = field(repr=False)  # (rows, n)
    mask: Tensor = field(repr=False)  # (rows, n) 1 where a token is
    inside: Tensor = field(repr=False)  # (rows, n) 1 where it is no special token
    owner: Tensor = field(repr=False)  # (rows, n) the unit, or `units` for none
    unit_row: Tensor = field(repr=False)  # (units,)
    question_row: Tensor = field(repr=False)  # (units,)
    case: Tensor = field(repr=False)  # (units,)
    answers: Tensor = field(repr=False)  # (units,) bool
    cases: int

    @classmethod
    def of(cls, cases: Sequence[Laid], device: torch.device) -> Batch:
        """Put cases together."""
        rows = [row for case in cases for row in case.rows]
        units = sum(len(case.answers) for case in cases)
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        owner = np.full((len(rows), longest), units, dtype=np.int64)
        unit_row, question_row, numbers = [], [], []
        row = unit = 0
        for number, case in enumerate(cases):
            for place, tokens in enumerate(case.rows):
                ids[row + place, : len(tokens)] = tokens
                mask[row + place, : len(tokens)] = 1
            for place, mine in enumerate(case.owner, 1):
                known = owner[row + place, : len(mine)]
                known[mine >= 0] = mine[mine >= 0] + unit
            unit_row.append(case.unit_row.astype(np.int64) + row + 1)
            question_row.append(np.full(len(case.answers), row))
            numbers.append(np.full(len(case.answers), number))
            row += len(case.rows)
            unit += len(case.answers)
        inside = mask.copy()
        inside[:, 0] = 0
        inside[np.arange(len(rows)), mask.sum(axis=1) - 1] = 0
        there = partial(_placed, device)
        return cls(
            ids=there(ids),
            mask=there(mask),
            inside=there(inside),
            owner=there(owner),
            unit_row=there(np.concatenate(unit_row)),
            question_row=there(np.concatenate(question_row)),
            case=there(np.concatenate(numbers)),
            answers=there(np.concatenate([case.answers for case in cases])),
            cases=len(cases),
        )


def _placed(device: torch.device, array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array).to(device)


def loss_of(model: BertModel, batch: Batch) -> Tensor:
    """Return -log(sum over answering units e^(a s) / sum over all e^(a s)), per case: (cases,).

    s is the mean of cos(unit, question) and cos(document, question).
    """
    states = model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state.float()
    d = states.shape[-1]
    wholes = F.normalize((states * batch.inside[..., None]).sum(1), dim=-1)  # (rows, d)
    units = torch.zeros(len(batch.unit_row) + 1, d, device=states.device)
    units = units.index_add(0, batch.owner.flatten(), states.flatten(0, 1))[:-1]
    asked = wholes[batch.question_row]
    cosines = (F.normalize(units, dim=-1) * asked).sum(1) + (wholes[batch.unit_row] * asked).sum(1)
    scores = SCALE * cosines / 2  # (units,)
    every = _logsumexp(scores, batch.case, batch.cases)
    right = _logsumexp(scores[batch.answers], batch.case[batch.answers], batch.cases)
    return every - right


def _logsumexp(scores: Tensor, case: Tensor, cases: int) -> Tensor:
    """Sum e^s over each case, and take the logarithm: |s| is at most a, so nothing overflows."""
    return torch.zeros(cases, device=scores.device).index_add(0, case, scores.exp()).log()


def trained_layers(model: BertModel) -> list[int]:
    """List the layers above the one two thirds down."""
    layers = len(model.encoder.layer)
    return list(range(-(-2 * layers // 3), layers))


def train(
    model: BertModel,
    cases: Sequence[Laid],
    device: torch.device,
    *,
    epochs: int,
    rate: float,
    seed: int,
    batch: int = 16,
) -> None:
    """Train the last layers, the rate on one cycle (arXiv 1708.07120)."""
    model.requires_grad_(False)
    for number in trained_layers(model):
        model.encoder.layer[number].requires_grad_(True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    steps = epochs * (len(cases) // batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        numbers = order.permutation(len(cases))
        for start in range(0, len(cases) - batch + 1, batch):
            chosen = Batch.of([cases[i] for i in numbers[start : start + batch]], device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss_of(model, chosen).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            cycle.step()


@torch.no_grad()
def losses(model: BertModel, cases: Sequence[Laid], device: torch.device) -> dict[str, float]:
    """Return the mean loss per source."""
    found: dict[str, list[float]] = {}
    for start in range(0, len(cases), 16):
        some = cases[start : start + 16]
        for case, loss in zip(some, loss_of(model, Batch.of(some, device)).tolist(), strict=True):
            found.setdefault(case.source, []).append(loss)
    return {source: float(np.mean(each)) for source, each in sorted(found.items())}


def write(layers: Weights, share: float, out: Path) -> None:
    """Write the shipped encoder with ``share`` of the way to ``layers`` gone, int8 again."""
    stored = load_file(SHIPPED / "model.safetensors")
    ours = widened(stored)
    for name, tuned in layers.items():
        between = ((1 - share) * ours[name] + share * tuned).astype(np.float32)
        bare, _, kind = name.rpartition(".")
        if kind == "weight" and between.ndim == 2:
            stored |= quantised(bare, between)
        else:
            stored[name] = between
    blob = save(stored)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes(blob)
    shutil.copyfile(SHIPPED / "tokenizer.json", out / "tokenizer.json")
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(blob).hexdigest()
    config |= {"name": out.name, "weights_sha256": digest, "revision": digest[:12]}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line; train, or write an encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, help="folder that holds relevance/; where cases.npz is, not needed")
    add("--out", type=Path, required=True)
    add("--epochs", type=int, default=2)
    add("--rate", type=float, default=3e-5)
    add("--seed", type=int, default=0)
    add("--prepare", action="store_true", help="lay the cases out and stop")
    add("--write", type=Path, metavar="FOLDER", help="write an encoder from layers.safetensors")
    add("--share", type=float, default=1.0, help="of the way to the trained layers")
    args = parser.parse_args()
    if args.write:
        write(load_file(args.out / "layers.safetensors"), args.share, args.write)
        return
    kept = args.out / "cases.npz"
    if not kept.exists():
        if args.data is None:
            raise SystemExit(f"{kept}: not there, wanted it or --data")
        args.out.mkdir(parents=True, exist_ok=True)
        from proxy.scorers.encoder import EmbeddedEncoder  # noqa: PLC0415 - not needed to train
        from relevance_data import read_cases  # noqa: PLC0415 - likewise

        save_cases(list(lay_out(read_cases(args.data), EmbeddedEncoder())), kept)
    if args.prepare:
        return
    run(load_cases(kept), args)


def run(cases: Sequence[Laid], args: argparse.Namespace) -> None:
    """Train, tell the loss per source before and after, write ``layers.safetensors``."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    shown, held = ([case for case in cases if case.held_out is out] for out in (False, True))
    model = read_bert(SHIPPED).to(device)  # type: ignore[arg-type]
    before, began = losses(model, held, device), time.perf_counter()
    train(model, shown, device, epochs=args.epochs, rate=args.rate, seed=args.seed)
    seconds = time.perf_counter() - began
    after = losses(model, held, device)
    state = {name: tensor.float().cpu().numpy() for name, tensor in model.state_dict().items()}
    found: dict[str, NDArray[np.float32]] = {}
    for number in trained_layers(model):
        found |= from_bert(state, number)
    save_file(
        {name: np.ascontiguousarray(a) for name, a in found.items()},
        args.out / "layers.safetensors",
    )
    told = {"before": before, "after": after, "cases": len(shown), "seconds": round(seconds, 1)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
