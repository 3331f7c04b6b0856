"""What compression did to an answer, under a second model: KL divergence and answer likelihood.

The aim of prompt compression (LLMLingua, 2310.05736) is a small KL(P(. | compressed) || P(. |
original)) over the answer.  Read along a given answer y, with x the original and x' the compressed
prompt:

    KL  = 1/n sum_t sum_v P(v | x', y_<t) (log P(v | x', y_<t) - log P(v | x, y_<t))
    NLL = -1/n sum_t log P(y_t | prompt, y_<t)

both in nats per token of the answer.  A prompt longer than the model's window less the answer is
read from its end on, and the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from proxy.errors import CallerError
from proxy.scorers.causal_lm import CausalLM, Prefix
from proxy.scorers.pooling import Ids


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How a model takes an answer after a prompt; ``cropped`` where it could not hold them both."""

    nats: float  # mean over tokens
    tokens: int
    cropped: bool


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far the next-token distributions of two prompts lie apart, along one continuation."""

    nats: float  # mean over tokens, >= 0
    tokens: int
    cropped: bool


def answer_nll(model: CausalLM, prompt: str, answer: str) -> Likelihood:
    """Return the mean negative log-likelihood of ``answer`` after ``prompt``.

    Raises CallerError where the answer is empty, or longer than half the model's window.
    """
    ids = _answer_ids(model, answer)
    prefix, cropped = read_prompt(model, prompt, len(ids))
    nats, _ = model.extend(prefix, ids)
    return Likelihood(float(nats.mean(dtype=np.float64)), len(ids), cropped)


def kl(model: CausalLM, prompt_a: str, prompt_b: str, continuation: str) -> Divergence:
    """Return KL(P(. | b) || P(. | a)): ``a`` the original prompt, ``b`` the compressed one.

    Only a chunk of positions is held as logits at a time.  Raises CallerError where the
    continuation is empty, or longer than half the model's window.
    """
    ids = _answer_ids(model, continuation)
    original, cropped_a = read_prompt(model, prompt_a, len(ids))
    compressed, cropped_b = read_prompt(model, prompt_b, len(ids))
    chunks = zip(
        model.log_probabilities(compressed, ids),
        model.log_probabilities(original, ids),
        strict=True,
    )
    total = sum(_divergence(p, q) for p, q in chunks)
    return Divergence(total / len(ids), len(ids), cropped_a or cropped_b)


def read_prompt(model: CausalLM, prompt: str, answer: int) -> tuple[Prefix, bool]:
    """Read a prompt before ``answer`` tokens, from its end where the window does not hold both.

    Returns the state behind it, and whether it was too long.
    """
    ids = model.tokenise(prompt).ids
    room = model.window - answer
    _, prefix = model.extend(model.start(), ids[max(0, len(ids) - room) :])
    return prefix, len(ids) > room


def _divergence(p: Tensor, q: Tensor) -> float:
    """Sum KL(p || q) over positions; both are log-probabilities (n, vocabulary)."""
    p, q = p.double(), q.double()
    return float((p.exp() * (p - q)).sum(dim=-1).clamp_min(0).sum())


def _answer_ids(model: CausalLM, answer: str) -> Ids:
    ids = model.tokenise(answer).ids
    if not 0 < len(ids) <= model.window // 2:
        raise CallerError(
            f"answer: found {len(ids)} tokens, wanted 1 to {model.window // 2} (half the window)"
        )
    return ids
