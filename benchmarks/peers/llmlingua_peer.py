"""The reference implementation of LLMLingua behind a pipe; runs in its own environment.

    .peers/llmlingua/bin/python benchmarks/peers/llmlingua_peer.py MODEL_FOLDER THREADS

A JSON object per line, in and out.  First of all it says what it is made of; then it answers each
request ``{"instruction", "documents", "question", "rate" or "target_tokens", "aligned", "long"}``
with ``{"text", "context", "seconds", "processor_seconds", "read_tokens"}`` or ``{"error"}``.  The
seconds are those of ``compress_prompt`` alone, on the clock and of this process's own computing;
``read_tokens`` is how many tokens went through the model meanwhile.

``long`` is LongLLMLingua, as the package's README calls it: the question steers the choice of
documents and of words; the documents stay in their order.  ``aligned`` mends one thing of the
reference from outside: there, ``loss[j]`` is the surprise of token j + 1, and it decides about
token j.  With it, each token is kept by its own surprise.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import torch
from llmlingua import PromptCompressor

FORCED = 10_000.0
"""A surprise that the reference leaves out of its thresholds: what it has no surprise for."""
LONG = {
    "condition_in_question": "after_condition",
    "condition_compare": True,
    "dynamic_context_compression_ratio": 0.3,
    "rank_method": "longllmlingua",
    "reorder_context": "original",
}
"""What its README passes for LongLLMLingua; its ``sort`` would change the documents' order."""
PARTS = ("llmlingua", "transformers", "torch")


class Peer(PromptCompressor):  # type: ignore[misc]
    """The reference; it counts what its model reads, and is aligned where it is told to be."""

    def __init__(self, model: str) -> None:
        """Load a model from a folder or by name, in float32 on the CPU."""
        super().__init__(model, device_map="cpu", model_config={"trust_remote_code": False})
        self.aligned = False
        self.read_tokens = 0
        self.model.register_forward_pre_hook(self._count)

    def _count(self, _: Any, given: tuple[torch.Tensor, ...]) -> None:
        self.read_tokens += given[0].shape[1]

    def get_compressed_input(self, loss: torch.Tensor, *given: Any, **named: Any) -> Any:
        """Choose what to keep.  loss (n - 1,) begins with token 1's; aligned, (n,) with token 0's.

        What comes back begins with the surprise of the second token kept, as it does unaligned.
        """
        if not self.aligned:
            return super().get_compressed_input(loss, *given, **named)
        own = torch.cat([loss.new_full((1,), FORCED), loss])
        found = list(super().get_compressed_input(own, *given, **named))
        found[4] = found[4][1:]
        return tuple(found)

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Compress one prompt."""
        self.aligned, self.read_tokens = asked["aligned"], 0
        budget = (
            {"rate": asked["rate"]} if "rate" in asked else {"target_token": asked["target_tokens"]}
        )
        started, before = time.perf_counter(), time.process_time()
        found = self.compress_prompt(
            asked["documents"],
            instruction=asked["instruction"],
            question=asked["question"],
            **budget,
            **(LONG if asked["long"] else {}),
        )
        seconds, processor = time.perf_counter() - started, time.process_time() - before
        text = found["compressed_prompt"]
        return {
            "text": text,
            "context": _between(text, asked["instruction"], asked["question"]),
            "seconds": seconds,
            "processor_seconds": processor,
            "read_tokens": self.read_tokens,
        }


def _between(text: str, instruction: str, question: str) -> str:
    """Return a compressed prompt without the parts that are put around it as they are."""
    if instruction:
        text = text.removeprefix(instruction)
    if question:
        text = text.removesuffix(question)
    return text.strip("\n")


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(int(sys.argv[2]))
    peer = Peer(sys.argv[1])
    _say({name: version(name) for name in PARTS})
    for line in sys.stdin:
        try:
            found = peer.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to hear of it
            found = {"error": f"{type(error).__name__}: {error}"}
        _say(found)


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
