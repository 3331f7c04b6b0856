"""Text for the small language model: reading, filtering, and blocks of tokens.

A data folder holds ``train*.jsonl.zst`` and ``valid*.jsonl.zst``, one ``{"source", "text"}`` per
line.  Each file is turned into token numbers once and kept beside the run as a flat array: BOS,
document, BOS, document.  A training block is BOS and the next ``length`` numbers from wherever the
block begins, because the scorer also reads texts from the middle of something.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray
from tokenizers import Tokenizer

Ids = NDArray[np.uint16]

BOS = "<|bos|>"
_AT_ONCE = 256  # documents


@dataclass(frozen=True, slots=True)
class Record:
    """One document."""

    source: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sources:
    """Which sources are read: patterns as in file names, ``wiki*``; none in ``only`` means all."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def take(self, source: str) -> bool:
        """Tell whether documents of ``source`` are read."""
        wanted = not self.only or any(fnmatch(source, pattern) for pattern in self.only)
        return wanted and not any(fnmatch(source, pattern) for pattern in self.without)


def bos_of(tokenizer: Tokenizer) -> int:
    """Return the number of BOS; raises SystemExit where the tokenizer has none."""
    number = tokenizer.token_to_id(BOS)
    if number is None:
        raise SystemExit(f"tokenizer: no {BOS}")
    return int(number)


def shards(folder: Path, split: str) -> list[Path]:
    """Return the files of a split (``train`` or ``valid``), in order.

    Raises SystemExit where there are none.
    """
    found = sorted(folder.glob(f"{split}*.jsonl.zst"))
    if not found:
        raise SystemExit(f"{folder}: no {split}*.jsonl.zst")
    return found


def read(path: Path, sources: Sources) -> Iterator[Record]:
    """Read the documents of one file that ``sources`` takes."""
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        for line in io.TextIOWrapper(plain, encoding="utf-8"):
            record = json.loads(line)
            if sources.take(record["source"]):
                yield Record(record["source"], record["text"])


def encoded(path: Path, tokenizer: Tokenizer, sources: Sources, cache: Path) -> Ids:
    """Return the token numbers of a file, from ``cache`` where it has them already.

    Documents follow each other, each behind a BOS; the array is a memory map.
    """
    key = hashlib.sha256(f"{path.name} {path.stat().st_size} {sources}".encode())
    key.update(tokenizer.to_str().encode())
    kept = cache / f"{path.name.partition('.')[0]}-{key.hexdigest()[:12]}.u16"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(".part")
        with fresh.open("wb") as out:
            for documents in _in_lots(read(path, sources)):
                out.write(_numbers([record.text for record in documents], tokenizer).tobytes())
        fresh.rename(kept)
    return np.memmap(kept, dtype=np.uint16, mode="r")


def _in_lots(records: Iterator[Record]) -> Iterator[list[Record]]:
    while lot := list(islice(records, _AT_ONCE)):
        yield lot


def _numbers(texts: Sequence[str], tokenizer: Tokenizer) -> Ids:
    """Encode documents, a BOS before each."""
    bos = bos_of(tokenizer)
    flat: list[int] = []
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        flat.append(bos)
        flat.extend(encoding.ids)
    return np.array(flat, dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Training blocks: a fixed order for a seed, so that a run can be taken up at any step."""

    parts: Sequence[Ids] = field(repr=False)
    bos: int
    length: int  # tokens predicted per block
    seed: int
    _epoch: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Tokens of one epoch."""
        return sum(len(part) for part in self.parts)

    def batch(self, step: int, size: int) -> NDArray[np.int64]:
        """Return the blocks of ``step``: (size, length + 1), BOS first.

        Every epoch cuts the parts at another phase and shuffles the blocks anew; a batch that
        would cross the end of an epoch starts the next.
        """
        steps = max(1, len(self._shuffled(0)) // size)
        epoch, within = divmod(step, steps)
        rows = self._shuffled(epoch)
        chosen = np.arange(within * size, (within + 1) * size) % len(rows)
        return np.stack([self._block(part, start) for part, start in rows[chosen]])

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        """List every block of an epoch in its order: (n, 2), part and first token.

        The first epoch, whose size the steps are counted by, is kept, and so is the latest.
        """
        if epoch not in self._epoch:
            for old in self._epoch.keys() - {0}:
                del self._epoch[old]
            starts = self._starts(epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(len(starts))
            self._epoch[epoch] = starts[order]
        return self._epoch[epoch]

    def _starts(self, epoch: int) -> NDArray[np.int64]:
        """List the blocks of an epoch as they lie: (n, 2)."""
        phase = int(np.random.default_rng([self.seed, epoch, 1]).integers(self.length))
        rows = [
            np.stack([np.full(count, number), phase + np.arange(count) * self.length], axis=1)
            for number, part in enumerate(self.parts)
            if (count := (len(part) - self.length) // self.length) > 0
        ]
        if not rows:
            raise SystemExit(f"no block of {self.length} tokens in the data")
        return np.concatenate(rows)

    def _block(self, part: int, start: int) -> NDArray[np.int64]:
        row = np.empty(self.length + 1, dtype=np.int64)
        row[0] = self.bos
        row[1:] = self.parts[part][start : start + self.length]
        return row


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out text of one source: blocks as in training, and how many bytes a token has."""

    source: str
    blocks: NDArray[np.int64] = field(repr=False)  # (n, length + 1)
    bytes_per_token: float


def held_out(
    folder: Path, tokenizer: Tokenizer, sources: Sources, *, length: int, tokens: int
) -> list[Held]:
    """Cut up to ``tokens`` tokens of each source of the valid split into blocks, most text first.

    A source with less than one block of text is left out.
    """
    texts: dict[str, list[str]] = {}
    for path in shards(folder, "valid"):
        for record in read(path, sources):
            texts.setdefault(record.source, []).append(record.text)
    bos = bos_of(tokenizer)
    found = []
    for source, documents in sorted(texts.items(), key=lambda item: -sum(map(len, item[1]))):
        numbers = _numbers(documents, tokenizer).astype(np.int64)
        rows = min(len(numbers), tokens) // length
        if rows:
            body = numbers[: rows * length].reshape(rows, length)
            blocks = np.concatenate([np.full((rows, 1), bos), body], axis=1)
            size = sum(len(text.encode()) for text in documents)
            found.append(Held(source, blocks, size / len(numbers)))
    return found
