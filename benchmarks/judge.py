"""What compression did to an answer's likelihood, when many compressed prompts share one original.

The figures are those of ``laconic eval`` (proxy/scorers/evaluate.py), which reads both prompts each
time; here the original is read once, and one pass over a prompt gives both its figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from proxy.scorers.causal_lm import CausalLM
from proxy.scorers.evaluate import read_prompt


@dataclass(frozen=True)
class Verdict:
    """Nats per token of the answer."""

    nll_difference: float  # how much less likely the answer became
    kl: float  # KL(compressed || original), along the answer


@dataclass
class Judge:
    """A causal LM that reads an answer after prompts.

    What it made of the last original, and of the prompts compressed from it, is remembered.
    """

    model: CausalLM
    _original: tuple[str, str, Tensor] | None = field(default=None, repr=False)
    _verdicts: dict[str, Verdict] = field(default_factory=dict, repr=False)

    def compare(self, original: str, compressed: str, answer: str) -> Verdict:
        """Compare two prompts by how the model takes the answer after each."""
        if self._original is None or self._original[:2] != (original, answer):
            self._original = original, answer, self._foretold(original, answer)
            self._verdicts.clear()
        if compressed not in self._verdicts:
            self._verdicts[compressed] = self._judged(self._original[2], compressed, answer)
        return self._verdicts[compressed]

    def _judged(self, old: Tensor, compressed: str, answer: str) -> Verdict:
        new = self._foretold(compressed, answer)
        ids = torch.from_numpy(self.model.tokenise(answer).ids)[:, None]
        lost = old.gather(1, ids) - new.gather(1, ids)
        divergence = (new.exp() * (new - old)).sum(dim=-1).clamp_min(0)
        return Verdict(float(lost.mean()), float(divergence.mean()))

    def _foretold(self, prompt: str, answer: str) -> Tensor:
        """Return log p of every token at each place of the answer: (n, vocabulary), float64.

        A prompt that the model's window does not hold is read from its end.
        """
        ids = self.model.tokenise(answer).ids
        prefix, _ = read_prompt(self.model, prompt, len(ids))
        return torch.cat(list(self.model.log_probabilities(prefix, ids))).double()
