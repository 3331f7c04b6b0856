"""What the reference does where its defects show, beside ours, with a model that knows the text.

The model is a Llama that has learnt one text of distinct words by heart: each word is foretold by
the one before it, with the surprise that the case says.  So it is known which words ought to be
kept; both sides are given the same weights.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from paired import table
from proxy.compress.words import is_scope
from proxy.policy.schema import Target
from proxy.tokens import encoding_for
from reference_llmlingua import Reference
from same_model import write_model

BOS, UNKNOWN = "<s>", "<unk>"


@dataclass(frozen=True)
class Known:
    """A text of distinct words, each with the nats that it is to have."""

    words: tuple[str, ...]
    nats: tuple[float, ...]

    @property
    def text(self) -> str:
        """The words, with a blank between each two."""
        return " ".join(self.words)


def known(nats: Sequence[float]) -> Known:
    """Give each figure a word that costs one upstream token."""
    return Known(tuple(islice(_vocabulary(), len(nats))), tuple(nats))


def _vocabulary() -> Iterator[str]:
    """Yield words of small letters, no two alike, each one token behind a blank."""
    encoding = encoding_for("gpt-4o")
    for word in dict.fromkeys(map("".join, _syllables())):
        if not is_scope(word) and encoding.count(f" {word}") == 1:
            yield word


def _syllables() -> Iterator[tuple[str, ...]]:
    for first in (*"bcdfghklmnprstvw", "ch", "cl", "gr", "pr", "sh", "st", "tr"):
        for vowel in "aeiou":
            for middle in ("l", "n", "r", "s", "t", "nd", "st", "ll", "m", "d", "p", "ck", "v"):
                for ending in ("", "e", "er", "ing", "ed", "s", "y", "ly", "ion", "al"):
                    yield first, vowel, middle, ending


def write_known(folder: Path, text: Known) -> Path:
    """Write the model that knows ``text``, and its tokenizer, as transformers reads them."""
    vocabulary = {word: i for i, word in enumerate((BOS, UNKNOWN, *text.words))}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 0)]
    )
    tokenizer.add_special_tokens([BOS, UNKNOWN])
    tokenizer.save(str(folder / "tokenizer.json"))
    shape = {
        "vocab_size": len(vocabulary),
        "hidden_size": len(vocabulary),
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-12,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    write_model(folder, _weights(text, len(vocabulary)), shape, BOS)
    return folder


def _weights(text: Known, size: int) -> dict[str, Tensor]:
    """Return weights under which the state is the last word, one-hot, and the head a table.

    log p(next | word) stands in row ``next``, column ``word``; the only layer adds nothing.
    """
    table_ = torch.full((size, size), -math.log(size))
    for place, nats in enumerate(text.nats):
        word = place + 2  # behind BOS and the unknown word
        before = word - 1 if place else 0
        rest = (1 - math.exp(-nats)) / (size - 1)
        table_[:, before] = math.log(rest)
        table_[word, before] = -nats
    layer = "model.layers.0"
    into = [f"{layer}.self_attn.{name}_proj.weight" for name in "qkv"]
    into += [f"{layer}.mlp.{name}_proj.weight" for name in ("gate", "up")]
    out = [f"{layer}.self_attn.o_proj.weight", f"{layer}.mlp.down_proj.weight"]
    norms = [f"{layer}.{name}_layernorm.weight" for name in ("input", "post_attention")]
    return {
        "model.embed_tokens.weight": torch.eye(size),
        "model.norm.weight": torch.full((size,), size**-0.5),
        "lm_head.weight": table_,
        **{name: torch.zeros(8, size) for name in into},
        **{name: torch.zeros(size, 8) for name in out},
        **{name: torch.ones(size) for name in norms},
    }


# -- the cases ----------------------------------------------------------------------------------

Told = Callable[[Known, Sequence[str]], str]


@dataclass(frozen=True)
class Case:
    """A text, the rate asked for, and what is told of the words that were kept."""

    name: str
    nats: tuple[float, ...]
    rate: float
    told: Told


def _rare_and_before(text: Known, kept: Sequence[str]) -> str:
    rare = {word for word, nats in zip(text.words, text.nats, strict=True) if nats > 8}
    before = {word for word, following in pairwise(text.words) if following in rare}
    return f"{len(rare.intersection(kept))} and {len(before.intersection(kept))}"


def _rate(text: Known, kept: Sequence[str]) -> str:
    return f"{len(kept) / len(text.words):.4f}"


def cases() -> list[Case]:
    """Return the cases, the same each time."""
    rng = random.Random(0)
    rare = [9.0 if i % 111 == 55 and i < 999 else 0.05 for i in range(1009)]
    halves = [0.05] * 200 + [rng.uniform(4, 6) for _ in range(200)]
    return [
        Case(
            "nine rare tokens among 1,000 predictable ones, at .1: kept, and of those before them",
            tuple(rare),
            0.1,
            _rare_and_before,
        ),
        Case("a predictable half, then a surprising one, at .5: rate", tuple(halves), 0.5, _rate),
        Case("300 tokens at .2: rate", tuple(rng.uniform(0.1, 6) for _ in range(300)), 0.2, _rate),
    ]


def measured(folder: Path, ours: Callable[[Path, str, Target], str]) -> str:
    """Run all cases; return a table of what each side keeps.

    ``ours`` compresses a text under a model, to a target.  Raises NoReference.
    """
    rows = []
    for number, case in enumerate(cases()):
        text = known(case.nats)
        model = write_known(folder / f"known-{number}", text)
        with Reference(model) as reference:
            sides = [
                reference.compress("", [text.text], "", rate=case.rate, aligned=aligned).context
                for aligned in (False, True)
            ]
        sides.append(ours(model, text.text, Target(rate=case.rate)))
        rows.append((case.name, [case.told(text, side.split()) for side in sides]))
    return table(["reference", "its alignment mended", "ours"], rows)
