"""How surprising each token of a text is, under any causal language model.

Self-information of token i, in nats:  I(x_i) = -log p(x_i | BOS, prefix, x_<i).  The very first
token counts as well: it is predicted from BOS.

Theory of operation.  A text is tokenised once, with special tokens disabled, so ``<|endoftext|>``
in a caller's text is the letters it is made of.  It is read in windows that the model can hold,
each behind BOS and the prefix; a window that does not begin the text repeats the quarter of a
window before it as context, unscored.  Logits are made for a few rows at a time, so the memory
they take does not grow with the text: from the body's states by the model's head or, where a model
does more to its logits than that (a cap, a scale), by the whole model over its KV cache.

On a processor every text is read alone and unpadded: what it scores depends on nothing else, and
that, not a tolerance, is why scores do not move with the batch (law 9).  ``batch_tokens`` reads
several texts at once, padded on the right, where the rounding of sums may be trusted to the grid
that scores are rounded to.  On a GPU all texts are read in batches of a few fixed shapes
(:mod:`proxy.scorers.shapes`), also one that is alone.

:class:`Prefix` is what the model has read so far, for methods that read on from what they kept.
It is a value: reading on gives a new one, the old one stays good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from transformers import DynamicCache

from proxy.compress.ports import NO_BANDS, Band
from proxy.errors import ScorerFailed
from proxy.scorers.arithmetic import FP32, Runtime
from proxy.scorers.llama import LeanLlama
from proxy.scorers.pooling import Ids, Steps, drain, grouped
from proxy.scorers.recorded import Recorded
from proxy.scorers.shapes import batches, batches_on, together
from proxy.types import Kind

Nats: TypeAlias = NDArray[np.float32]
Offsets: TypeAlias = NDArray[np.int32]
GRID: Final = 128
"""Scores are rounded to 1/128 nat: far above the noise of float32, far below what tells words."""

_LOGITS_AT_ONCE: Final = 2_000_000  # 8 MB of float32: stays in the processor's cache
_LOGITS_ON_A_GPU: Final = 256_000_000  # 1 GB: few enough calls that none is waited for
_FEWEST_ROWS: Final = 64  # however large the vocabulary: a head is read once per so many rows


@dataclass(frozen=True, slots=True)
class LmTokens:
    """A text's tokens: ``ids``, and the characters ``[starts, ends)`` that each covers.

    Tokens that share a character (bytes of one emoji) each cover all of it.
    """

    ids: Ids = field(repr=False)  # (n,)
    starts: Offsets = field(repr=False)  # (n,)
    ends: Offsets = field(repr=False)  # (n,)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to score, and what the model is told before it (a question), unscored.

    The two are tokenised apart, so a text's tokens are the same under every prefix and scores can
    be subtracted token by token.  Of a prefix longer than half a window the end is used.
    """

    text: str = field(repr=False)
    prefix: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SelfInformation:
    """The surprise of each token, and the characters it covers; read-only arrays."""

    nats: Nats = field(repr=False)  # (n,) >= 0, rounded to 1/GRID
    starts: Offsets = field(repr=False)  # (n,)
    ends: Offsets = field(repr=False)  # (n,)

    @property
    def mean_nats(self) -> float:
        """Mean surprise per token, 0 for no tokens; its exponential is the perplexity."""
        return float(self.nats.mean(dtype=np.float64)) if len(self.nats) else 0.0


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a model has read: tokens, their positions, and the cache of all but the last.

    The last token waits: it is run with whatever follows it, so its prediction is made from the
    tokens kept by then, and no logits are stored.  Positions have gaps where tokens were dropped:
    the rest stand where they stood in the text.
    """

    ids: Ids = field(repr=False)  # (n,), BOS first
    positions: Ids = field(repr=False)  # (n,) ascending
    following: int  # the position of what is read next
    cache: DynamicCache = field(repr=False)  # of n - 1 tokens

    def __len__(self) -> int:
        """Count the tokens, BOS included."""
        return len(self.ids)

    def gather(self, kept: Sequence[int] | Ids) -> Prefix:
        """Keep the tokens at these indices, ascending; index 0 is BOS and has to be among them.

        Their states stay as they were computed: they have seen what is now dropped.  Reading goes
        on behind the place where the last token read had stood, kept or not.
        """
        chosen = np.asarray(kept, dtype=np.int64)
        if not len(chosen) or chosen[0] != 0 or np.any(np.diff(chosen) <= 0):
            raise ValueError("kept: wanted ascending indices that begin with 0")
        held = torch.from_numpy(chosen[:-1])
        cache = DynamicCache(
            [
                (
                    keys.index_select(2, held.to(keys.device)),
                    values.index_select(2, held.to(keys.device)),
                )
                for keys, values, *_ in self.cache
                if keys is not None
            ]
        )
        return Prefix(self.ids[chosen], self.positions[chosen], self.following, cache)

    def crop(self, length: int) -> Prefix:
        """Keep the first ``length`` tokens, BOS included, as if no more had been read."""
        if not 1 <= length <= len(self):
            raise ValueError(f"length {length}: wanted 1 to {len(self)}")
        following = int(self.positions[length - 1]) + 1
        return replace(self.gather(np.arange(length)), following=following)


@dataclass(frozen=True, slots=True)
class _Window:
    """Tokens [begin, end) of a text are read, those from ``first`` on are scored."""

    begin: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _Row:
    """One window of one passage, ready to be read."""

    passage: int
    window: _Window
    ids: Ids  # prefix, tokens [begin, end); BOS is not among them

    @property
    def scored(self) -> int:
        """How many of its tokens are scored; they are its last."""
        return self.window.end - self.window.first


class CausalLM:
    """A causal language model that rates text; any number of threads may read at once."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        bos: int,
        *,
        window: int,
        revision: str,
        bands: Mapping[Kind, Band] = NO_BANDS,
        runtime: Runtime = FP32,
    ) -> None:
        """Take a model in evaluation mode: :mod:`proxy.scorers.language_models` loads them."""
        self._model, self._tokenizer, self._bos = model, tokenizer, bos
        self._runtime, self._device = runtime, runtime.device
        vocabulary = int(model.config.get_text_config().vocab_size)
        room = _LOGITS_AT_ONCE if self._device.type == "cpu" else _LOGITS_ON_A_GPU
        self._rows_at_once = max(_FEWEST_ROWS, room // vocabulary)
        self._head = _plain_head(model)
        # What transformers runs may look at values: only the body that is our own is recorded.
        own = isinstance(model.base_model, LeanLlama)
        self.passes = Recorded(self._read_padded, on_gpu=own and self._device.type == "cuda")
        self.bands = bands  # empty where a model was not calibrated
        self.window = window  # tokens read at once, BOS not counted
        self.revision = revision
        self.together = together(runtime, self.scores, vocabulary, window, specials=0)

    def tokenise(self, text: str) -> LmTokens:
        """Tokenise; nothing in a text is a special token, a lone surrogate is read as ``?``."""
        return self.tokenise_all([text])[0]

    def tokenise_all(self, texts: Sequence[str]) -> list[LmTokens]:
        """Tokenise several texts, on as many cores as there are."""
        # encode() would hold the interpreter's lock for as long as it takes: streams would wait.
        encodable = [
            text if text.isascii() else text.encode("utf-8", "replace").decode() for text in texts
        ]
        found = self._tokenizer.encode_batch(encodable, add_special_tokens=False)
        return [_tokens_of(one) for one in found]

    def steps(self, passages: Sequence[Passage]) -> Steps[list[SelfInformation]]:
        """Score passages, as many windows in a call as go together; a call per step.

        Each step yields the tokens it read, BOS too.  Raises ScorerFailed where the model gives
        something that is no number.
        """
        tokens, nats, rows = self._laid_out(passages)
        for taken in grouped(rows, lambda row: len(row.ids), self.together.most):
            _enter(nats, taken, self.scores([row.ids for row in taken]))
            yield sum(len(row.ids) + 1 for row in taken)
        return _answers(tokens, nats)

    def self_information(
        self, passages: Sequence[Passage], *, batch_tokens: int = 0
    ) -> list[SelfInformation]:
        """Score passages, as ``steps`` does, or in batches of up to ``batch_tokens`` padded tokens.

        Raises ScorerFailed where the model gives something that is no number.
        """
        if not batch_tokens:
            return drain(self.steps(passages))
        tokens, nats, rows = self._laid_out(passages)
        for batch in batches([len(row.ids) for row in rows], batch_tokens):
            chosen = [rows[number] for number in batch.numbers]
            padded = self._padded([row.ids for row in chosen], batch.shape)
            (read,) = self._read_padded(padded)
            _enter(nats, chosen, self._checked(read))
        return _answers(tokens, nats)

    def _laid_out(
        self, passages: Sequence[Passage]
    ) -> tuple[list[LmTokens], list[Nats], list[_Row]]:
        """Tokenise, and return tokens, room for their scores, and the windows to read."""
        tokens = self.tokenise_all([passage.text for passage in passages])
        rows = [
            row
            for number, passage in enumerate(passages)
            for row in self._cut(number, tokens[number], passage.prefix)
        ]
        return tokens, [np.zeros(len(found.ids), dtype=np.float32) for found in tokens], rows

    def start(self) -> Prefix:
        """Return the prefix that holds BOS alone."""
        return Prefix(np.array([self._bos]), np.array([0]), 1, DynamicCache())

    @torch.inference_mode()
    def extend(self, prefix: Prefix, ids: Ids) -> tuple[Nats, Prefix]:
        """Read on: return the surprise of each of ``ids`` (n,) after ``prefix``, and both together.

        Raises ValueError where the last position would lie beyond ``window``.
        """
        if not len(ids):
            return np.zeros(0, dtype=np.float32), prefix
        longer, read = self._longer(prefix, ids), len(prefix) - 1  # from the token that waits
        given, places = longer.ids[None, read:], longer.positions[read:-1]
        nats = self._surprise(self._moved(given), self._moved(places), longer.cache)
        return _frozen(self._checked(nats)[0]), longer

    @torch.inference_mode()
    def follow(self, prefix: Prefix, ids: Ids) -> Prefix:
        """Read on as ``extend`` does, without scoring: no logits are made."""
        if not len(ids):
            return prefix
        longer, read = self._longer(prefix, ids), slice(len(prefix) - 1, -1)
        self._model.base_model(
            input_ids=self._moved(longer.ids[None, read]),
            position_ids=self._moved(longer.positions[None, read]),
            past_key_values=longer.cache,
            use_cache=True,
        )
        return longer

    def _longer(self, prefix: Prefix, ids: Ids) -> Prefix:
        """Return a prefix with ``ids`` behind it, and a copy of its cache, yet to be filled."""
        positions = prefix.following + np.arange(len(ids))
        if positions[-1] > self.window:
            raise ValueError(f"position {positions[-1]}: wanted at most {self.window}")
        return Prefix(
            np.concatenate([prefix.ids, ids]),
            np.concatenate([prefix.positions, positions]),
            int(positions[-1]) + 1,
            DynamicCache([(keys, values) for keys, values, *_ in prefix.cache]),
        )

    @torch.inference_mode()
    def log_probabilities(self, prefix: Prefix, ids: Ids) -> Iterator[Tensor]:
        """Read on, and yield what is foretold for each of ``ids`` (n,), a chunk at a time.

        Each tensor is (chunk, vocabulary), float32, in nats; joined they are (n, vocabulary).
        """
        given = self._moved(np.concatenate([prefix.ids[-1:], ids[:-1]]))
        places = prefix.following - 1 + np.arange(len(ids))
        places[0] = prefix.positions[-1]
        positions = self._moved(places)
        cache = DynamicCache([(keys, values) for keys, values, *_ in prefix.cache])
        for start in range(0, len(ids), self._rows_at_once):
            chunk = slice(start, start + self._rows_at_once)
            logits = self._model(
                input_ids=given[None, chunk],
                position_ids=positions[None, chunk],
                past_key_values=cache,
                use_cache=True,
            ).logits[0]
            yield logits.float().log_softmax(dim=-1)

    def _cut(self, number: int, tokens: LmTokens, prefix: str) -> Iterator[_Row]:
        told = self.tokenise(prefix).ids[-(self.window // 2) :] if prefix else tokens.ids[:0]
        for window in windows(len(tokens.ids), self.window - len(told)):
            ids = np.concatenate([told, tokens.ids[window.begin : window.end]])
            yield _Row(number, window, ids)

    def scores(self, windows: Sequence[Ids]) -> list[Nats]:
        """Return the surprise of every token of windows (n,): each read alone, or in fixed shapes.

        Nothing waits for the GPU before every batch is on it.
        """
        lengths = [len(ids) for ids in windows]
        given = [
            (
                batch.numbers,
                self._padded([windows[number] for number in batch.numbers], batch.shape),
            )
            for batch in batches_on(self._runtime, lengths, self.window, empty=0)
        ]
        calls = [(numbers, self.passes(padded)[0]) for numbers, padded in given]
        rows = {
            number: row
            for numbers, read in calls
            for number, row in zip(numbers, self._checked(read), strict=False)
        }
        return [rows[number][: len(ids)] for number, ids in enumerate(windows)]

    def _padded(self, windows: Sequence[Ids], shape: tuple[int, int]) -> Tensor:
        """Lay windows behind BOS into a shape (b, n): (b, 1 + n)."""
        rows, length = shape
        ids = np.full((rows, 1 + length), self._bos)
        for number, window in enumerate(windows):
            ids[number, 1 : len(window) + 1] = window
        return self._moved(ids)

    def _moved(self, array: Ids) -> Tensor:
        """Bring numbers to where the model is."""
        return torch.from_numpy(array).to(self._device)

    @torch.inference_mode()
    def _read_padded(self, padded: Tensor) -> tuple[Tensor]:
        """Return surprises (b, n) of what was laid out (b, 1 + n)."""
        places = torch.arange(padded.shape[1] - 1, device=self._device)
        return (self._surprise(padded, places, None),)

    def _surprise(self, given: Tensor, places: Tensor, cache: DynamicCache | None) -> Tensor:
        """Return the surprise of every token but the first: given (b, 1 + n), places (n,).

        ``cache`` holds what precedes and grows; None where nothing does.  Nothing is masked:
        padding is on the right, where a causal model does not look.
        """
        read = self._by_model if self._head is None else self._by_head
        found = read(given, places.expand(len(given), -1), cache)
        return found.mul(GRID).round_().div_(GRID)

    def _checked(self, found: Tensor) -> Nats:
        """Fetch scores from where they were computed; raises ScorerFailed if one is no number."""
        nats: Nats = found.cpu().numpy()
        if not np.isfinite(nats).all():
            raise ScorerFailed(f"{self.revision}: found a score that is no number")
        return nats

    def _by_head(self, given: Tensor, places: Tensor, cache: DynamicCache | None) -> Tensor:
        """Read all positions, then make logits for a few rows at a time."""
        states = self._model.base_model(
            input_ids=given[:, :-1],
            position_ids=places,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        parts = zip(
            torch.split(states.flatten(0, 1), self._rows_at_once),
            torch.split(given[:, 1:].flatten(), self._rows_at_once),
            strict=True,
        )
        found = torch.cat([_surprise_of(wanted, self._head(rows)) for rows, wanted in parts])
        return found.view(len(given), -1)

    def _by_model(self, given: Tensor, places: Tensor, cache: DynamicCache | None) -> Tensor:
        """Read a few positions at a time over the cache, logits and all."""
        cache = DynamicCache() if cache is None else cache
        chunk = max(1, self._rows_at_once // len(given))
        parts = zip(
            torch.split(given[:, :-1], chunk, 1),
            torch.split(places, chunk, 1),
            torch.split(given[:, 1:], chunk, 1),
            strict=True,
        )
        found = [
            _surprise_of(
                wanted.flatten(),
                self._model(
                    input_ids=inputs, position_ids=place, past_key_values=cache, use_cache=True
                ).logits.flatten(0, 1),
            ).view(len(given), -1)
            for inputs, place, wanted in parts
        ]
        return torch.cat(found, dim=1)


def _surprise_of(wanted: Tensor, logits: Tensor) -> Tensor:
    """-log softmax(logits)[wanted]: wanted (n,), logits (n, vocabulary)."""
    return F.cross_entropy(logits.float(), wanted, reduction="none")


@torch.inference_mode()
def _plain_head(model: Any) -> Any:
    """Return the head, where it alone turns the body's states into logits; None where it does not.

    Tried out on a few tokens: some models scale or cap their logits, and do so in their own way.
    """
    probe = torch.arange(8, device=next(model.parameters()).device)[None]
    head = model.get_output_embeddings()
    states = getattr(model.base_model(input_ids=probe), "last_hidden_state", None)
    if head is None or states is None:
        return None
    found, expected = head(states), model(input_ids=probe).logits
    return head if torch.equal(found, expected) else None


def windows(tokens: int, room: int) -> Iterator[_Window]:
    """Cut ``tokens`` tokens into windows of at most ``room``; later ones repeat a quarter.

    >>> [(w.begin, w.first, w.end) for w in windows(20, 8)]
    [(0, 0, 8), (6, 8, 14), (12, 14, 20)]
    """
    begin = first = 0
    while first < tokens:
        end = min(begin + room, tokens)
        yield _Window(begin, first, end)
        begin, first = end - room // 4, end


def _enter(nats: Sequence[Nats], rows: Sequence[_Row], scores: Iterable[Nats]) -> None:
    """Put down what was found for windows, of what they are read for: the last tokens of each."""
    for row, found in zip(rows, scores, strict=False):  # of a batch's shape, some rows are empty
        scored = found[len(row.ids) - row.scored : len(row.ids)]
        nats[row.passage][row.window.first : row.window.end] = scored


def _answers(tokens: Sequence[LmTokens], nats: Sequence[Nats]) -> list[SelfInformation]:
    return [
        SelfInformation(_frozen(scores), found.starts, found.ends)
        for scores, found in zip(nats, tokens, strict=True)
    ]


def _tokens_of(found: Encoding) -> LmTokens:
    spans = np.fromiter(chain.from_iterable(found.offsets), np.int32).reshape(-1, 2)
    ids = np.fromiter(found.ids, np.int64)
    return LmTokens(ids, _frozen(spans[:, 0]), _frozen(spans[:, 1]))


def _frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array
