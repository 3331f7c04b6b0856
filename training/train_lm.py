"""Train the small language model that rates how surprising a word is.

    python training/train_lm.py --data FOLDER --tokenizer runs/tokenizer --out runs/tiny

A Llama in transformers format, tied embeddings, trained by cosine schedule for ``--minutes``,
``--tokens`` or ``--epochs``, whichever comes first.  The same command takes up an interrupted run
from its last checkpoint.  On a CPU and on one GPU alike; on a GPU with more tokens per step.
``--begin-with FOLDER`` begins with the weights of an exported model in place of random ones.

Theory of operation.  Matrices inside the blocks are trained by Muon (orthogonalised momentum),
which learns more from a token than AdamW does; the embedding and the norms by AdamW.  The loss is
taken in chunks of positions, its gradient in the same pass, so that no array of positions x
vocabulary is ever held.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lm_data import BOS, Blocks, Held, Sources, bos_of, encoded, held_out, shards

SIZES = {
    "tiny": {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 1024},
    "small": {"hidden_size": 384, "num_hidden_layers": 10, "intermediate_size": 1280},
}
"""About 6 and 20 million parameters besides the embedding."""

HEAD = 64  # width of an attention head
CHUNK = {"cpu": 256, "cuda": 8192}  # positions whose logits exist at once
NOTED_S = 1.0  # how often the loss is told beside the bar
HELD_TOKENS = {"brief": 1024, "full": 16_384}  # per source


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does; written beside its checkpoints."""

    size: str
    length: int  # tokens per block
    step_tokens: int
    minutes: float  # of training, over all its sittings; infinite where tokens decide
    tokens: int
    rate: float  # Muon's, the peak
    embedding_rate: float  # AdamW's
    warm: float  # share of the run that the rate climbs for
    checkpoint_minutes: float
    seed: int
    dtype: str
    compiled: bool
    tokens_before: int = 0  # that the weights had seen which the run began with


@dataclass(slots=True)
class Progressed:
    """How far a run is."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of training steps, evaluation left out
    history: list[dict[str, Any]] = field(default_factory=list)

    def share(self, plan: Plan) -> float:
        """Return the share of the plan that is done, by time or tokens, whichever is further."""
        return max(self.seconds / (60 * plan.minutes), self.tokens / plan.tokens)


def main() -> None:
    """Read the command line and train."""
    args = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() and not args.cpu else "cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high")
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    begun = args.begin_with and read_export(args.begin_with, tokenizer)
    sources = Sources(tuple(args.only), tuple(args.without))
    files = shards(args.data, "train")[: args.shards]
    parts = [encoded(path, tokenizer, sources, args.out / "tokens") for path in files]
    blocks = Blocks(parts, bos_of(tokenizer), args.length, args.seed)
    plan = planned(args, blocks, device, begun.tokens if begun else 0)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    (args.out / "plan.json").write_text(json.dumps(asdict(plan), indent=2) + "\n")
    held = held_out(args.data, tokenizer, sources, length=plan.length, tokens=HELD_TOKENS["full"])
    run = Run(plan, blocks, held, args.out, device, tokenizer.get_vocab_size())
    if begun:
        run.begin_with(begun)
    run.train()


def arguments() -> argparse.Namespace:
    """Define and read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of train*/valid*.jsonl.zst")
    add("--tokenizer", type=Path, required=True, help="folder of tokenizer.json")
    add("--out", type=Path, required=True, help="checkpoints, cached tokens, the final model")
    add("--size", choices=SIZES, default="tiny")
    add("--begin-with", type=Path, help="folder of an exported model of that size and tokenizer")
    add("--minutes", type=float, default=math.inf)
    add("--tokens", type=float, default=math.inf)
    add("--epochs", type=float, default=4.0)
    add("--length", type=int, default=512, help="tokens per block")
    add("--step-tokens", type=int, help="default 4096 on a CPU, 65536 on a GPU")
    add("--rate", type=float, default=0.02, help="peak learning rate of the matrices")
    add("--embedding-rate", type=float, default=0.004, help="of the embedding and the norms")
    add("--warm", type=float, default=0.02, help="share of the run")
    add("--checkpoint-minutes", type=float, default=5.0)
    add("--seed", type=int, default=0)
    add("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    add("--compile", action="store_true", help="torch.compile: pays on a GPU")
    add("--threads", type=int, help="of the CPU")
    add("--cpu", action="store_true", help="even where there is a GPU")
    add("--shards", type=int, help="read only so many training files")
    add("--only", nargs="*", default=[], metavar="PATTERN", help="sources to read")
    add("--without", nargs="*", default=[], metavar="PATTERN", help="sources to leave out")
    return parser.parse_args()


def planned(
    args: argparse.Namespace, blocks: Blocks, device: torch.device, tokens_before: int
) -> Plan:
    """Fill in what the command line leaves open."""
    step_tokens = args.step_tokens or (65_536 if device.type == "cuda" else 4096)
    return Plan(
        size=args.size,
        length=args.length,
        step_tokens=step_tokens,
        minutes=args.minutes,
        tokens=int(min(args.tokens, args.epochs * blocks.tokens)),
        rate=args.rate,
        embedding_rate=args.embedding_rate,
        warm=args.warm,
        checkpoint_minutes=args.checkpoint_minutes,
        seed=args.seed,
        dtype=args.dtype,
        compiled=args.compile,
        tokens_before=tokens_before,
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """Weights to begin with, and the tokens that they saw."""

    weights: dict[str, Tensor] = field(repr=False)
    tokens: int


def read_export(folder: Path, tokenizer: Tokenizer) -> Begun:
    """Read the weights that ``export_lm.py`` wrote, out of their int8 rows.

    Raises SystemExit where ``tokenizer`` is not theirs: the numbers would mean other words.
    """
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if theirs.get_vocab() != tokenizer.get_vocab():
        raise SystemExit(f"{folder}: found another tokenizer, wanted that of --tokenizer")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = load_file(folder / "model.safetensors")
    weights = {name: tensor for name, tensor in stored.items() if tensor.ndim == 1}
    for name in [name for name in stored if name.endswith(".rows")]:
        matrix = name.removesuffix(".rows")
        weights.pop(f"{matrix}.scales", None)
        weights[f"{matrix}.weight"] = stored[name].float() * stored[f"{matrix}.scales"].view(-1, 1)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return Begun(weights, int(config.get("tokens", 0)))


def new_model(size: str, words: int, positions: int) -> LlamaForCausalLM:
    """Build a model with random weights; BOS is token 0."""
    shape: dict[str, Any] = dict(SIZES[size])
    config = LlamaConfig(
        **shape,
        vocab_size=words,
        num_attention_heads=shape["hidden_size"] // HEAD,
        num_key_value_heads=shape["hidden_size"] // HEAD,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.02,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


SlopeOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class ChunkedLoss(torch.autograd.Function):
    """Mean surprisal of ``targets``: -(1/n) sum log softmax(h W^T)[target].

    The gradients (softmax - one-hot) W and (softmax - one-hot)^T h are made chunk by chunk in the
    forward pass: three products per chunk and nothing kept of size n x vocabulary.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, targets: Tensor, slope_of: SlopeOf
    ) -> Tensor:
        """Return the loss: states (n, d), table (vocabulary, d), targets (n,)."""
        d_states, d_table = torch.empty_like(states), torch.zeros_like(table, dtype=torch.float32)
        loss, n, chunk = (
            torch.zeros((), device=states.device),
            len(states),
            CHUNK[states.device.type],
        )
        weights = table.to(states.dtype)
        for start in range(0, n, chunk):
            rows, wanted = states[start : start + chunk], targets[start : start + chunk, None]
            slope, nats = slope_of(rows @ weights.T, wanted)
            loss += nats
            d_states[start : start + chunk] = slope @ weights
            d_table += slope.T @ rows
        ctx.save_for_backward(d_states.div_(n), d_table.div_(n))
        return loss / n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Scale the gradients made on the way forward."""
        d_states, d_table = ctx.saved_tensors
        return d_states * grads[0].to(d_states.dtype), d_table * grads[0], None, None


def slope_of(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(logits) - one-hot(wanted), and the summed surprise, () float32.

    logits (n, vocabulary) of any floating type, which the slope has too; wanted (n, 1).  One pass
    over the logits when compiled, which is most of what a small model's step costs on a GPU.
    """
    precise = logits.float()
    total = torch.logsumexp(precise, dim=1, keepdim=True)
    nats = (total - precise.gather(1, wanted)).sum()
    hot = torch.arange(logits.shape[1], device=logits.device) == wanted
    slope = (precise - total).exp_().sub_(hot.float())
    return slope.to(logits.dtype), nats


class Run:
    """One training run: model, optimisers, and where it stands."""

    def __init__(
        self,
        plan: Plan,
        blocks: Blocks,
        held: Sequence[Held],
        out: Path,
        device: torch.device,
        words: int,
    ) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.blocks, self.held, self.out, self.device = plan, blocks, held, out, device
        self.model: Any = new_model(plan.size, words, plan.length + 1).to(device)  # type: ignore[arg-type]
        body = self.model.model
        self.body = torch.compile(body, dynamic=False) if plan.compiled else body
        self.slope_of = torch.compile(slope_of, dynamic=False) if plan.compiled else slope_of
        self.optimisers = optimisers(self.model, plan)
        self.state = Progressed()
        self.console = Console()

    def begin_with(self, begun: Begun) -> None:
        """Take weights over; raises RuntimeError where the shapes differ."""
        self.model.load_state_dict(begun.weights)

    def train(self) -> None:
        """Train until the plan is done; keep checkpoints; write the model at the end."""
        self.resume()
        kept = noted = self.state.seconds
        with self.bar() as progress:
            bar = progress.add_task("training", total=1.0, note="")
            while (share := self.state.share(self.plan)) < 1:
                began = time.perf_counter()
                loss = self.step(share)
                if self.state.seconds - noted > NOTED_S:  # reading it waits for the GPU
                    noted = self.state.seconds
                    note = self.note(float(loss))
                    progress.update(bar, completed=share, note=note)
                self.state.seconds += time.perf_counter() - began
                if self.state.seconds - kept > 60 * self.plan.checkpoint_minutes:
                    kept = self.state.seconds
                    self.record(float(loss), HELD_TOKENS["brief"])
                    self.keep()
        self.record(loss=None, tokens=HELD_TOKENS["full"])
        self.keep()
        self.finish()

    def step(self, share: float) -> Tensor:
        """Do one step; return its loss in nats per token, (), where the work may still go on."""
        self.model.train()
        batch = self.blocks.batch(self.state.step, self.plan.step_tokens // self.plan.length)
        loss = self.loss(batch, self.body, self.slope_of)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * schedule(share, self.plan.warm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.tokens += batch.shape[0] * self.plan.length
        return loss.detach()

    def loss(self, batch: NDArray[np.int64], body: Any, slope_of: SlopeOf) -> Tensor:
        """Return the mean surprisal of all tokens but the BOS that heads each block."""
        ids = torch.from_numpy(batch).to(self.device)
        dtype = getattr(torch, self.plan.dtype)
        with torch.autocast(self.device.type, dtype, enabled=self.plan.dtype != "float32"):
            states = body(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        table = self.model.get_input_embeddings().weight
        flat = states.flatten(0, 1).to(dtype)
        found: Tensor = ChunkedLoss.apply(flat, table, ids[:, 1:].flatten(), slope_of)  # type: ignore[no-untyped-call]
        return found

    @torch.inference_mode()
    def valid(self, tokens: int) -> dict[str, dict[str, float]]:
        """Measure the loss per source, on up to ``tokens`` tokens of each.

        Batches come in many sizes here: compiling for each would take longer than it saves.
        """
        self.model.eval()
        found = {}
        for held in self.held:
            rows = held.blocks[: max(1, tokens // self.plan.length)]
            losses = [
                self.loss(part, self.model.model, slope_of) * len(part)
                for part in _batches(rows, 16)
            ]
            nats = float(sum(losses)) / len(rows)
            bits = nats / math.log(2) / held.bytes_per_token
            found[held.source] = {
                "nats_per_token": round(nats, 4),
                "bits_per_byte": round(bits, 4),
                "tokens": rows.shape[0] * self.plan.length,
            }
        return found

    def record(self, loss: float | None, tokens: int) -> None:
        """Measure, write a line to the history, say it."""
        valid = self.valid(tokens)
        nats = float(np.mean([source["nats_per_token"] for source in valid.values()]))
        line = {
            "step": self.state.step,
            "tokens": self.state.tokens,
            "minutes": round(self.state.seconds / 60, 2),
            "tokens_per_s": round(self.state.tokens / self.state.seconds),
            "train_nats": loss and round(loss, 4),
            "valid_nats_mean": round(nats, 4),
            "valid": valid,
        }
        self.state.history.append(line)
        told = {key: value for key, value in line.items() if key != "valid"}
        self.console.print_json(json.dumps(told), indent=None)

    def note(self, loss: float) -> str:
        """Say loss and throughput beside the bar."""
        state = self.state
        rate = state.tokens / state.seconds
        return f"step {state.step}  {loss:.3f} nats  {rate:,.0f} tokens/s"

    @contextmanager
    def bar(self) -> Iterator[Progress]:
        """Show progress where the output is a terminal."""
        columns = (BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            yield bar

    def keep(self) -> None:
        """Write a checkpoint; the previous one stays until this one is whole."""
        fresh = self.out / "checkpoint.part"
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "progress": asdict(self.state),
            },
            fresh,
        )
        fresh.rename(self.out / "checkpoint.pt")

    def finish(self) -> None:
        """Write the model as transformers has it, the tokenizer and the run's history with it."""
        folder = self.out / "model"
        self.model.save_pretrained(folder)
        tokenizer = Tokenizer.from_file(str(self.out / "tokenizer.json"))
        wrapped: Any = PreTrainedTokenizerFast
        wrapped(tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS).save_pretrained(folder)
        told = {
            "plan": asdict(self.plan),
            "device": device_name(self.device),
            "history": self.state.history,
        }
        (folder / "run.json").write_text(json.dumps(told, indent=1) + "\n")

    def resume(self) -> None:
        """Take up the last checkpoint where there is one."""
        kept = self.out / "checkpoint.pt"
        if not kept.exists():
            return
        found = torch.load(kept, map_location=self.device, weights_only=True)
        self.model.load_state_dict(found["model"])
        for optimiser, state in zip(self.optimisers, found["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.state = Progressed(**found["progress"])


def optimisers(model: LlamaForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    found: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=plan.embedding_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimiser in found:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return found


def device_name(device: torch.device) -> str:
    """Say what a run was trained on."""
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return "one CPU thread" if threads == 1 else f"{threads} CPU threads"


def schedule(share: float, warm: float) -> float:
    """Return the factor of the learning rate: a linear climb, then half a cosine down to 2 %.

    >>> [round(schedule(share, 0.1), 2) for share in (0.05, 0.1, 0.55, 1)]
    [0.5, 1.0, 0.51, 0.02]
    """
    if share < warm:
        return max(share, 0.001) / warm
    down = (1 + math.cos(math.pi * (share - warm) / (1 - warm))) / 2
    return 0.02 + 0.98 * down


def _batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


if __name__ == "__main__":
    main()
