"""The causal LM as methods ask for it: a stretch of text after what was kept of earlier ones.

Theory of operation.  ITPC asks window by window, each time naming all it heard before.  What was
heard is not read again: the states after each stretch are remembered under a key that chains over
the stretches, so that the next request only extends them.  Where the model's window is full, the
last of what was kept, a quarter of a window, is read afresh, and reading goes on from there: a
longer rest would be read again more often.  What is read only to be heard is not scored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import TypeVar

import numpy as np

from proxy.compress.ports import Heard, Passage, SelfInformation
from proxy.scorers.causal_lm import CausalLM, LmTokens, Nats, Prefix
from proxy.scorers.causal_lm import Passage as PlainPassage
from proxy.scorers.pooling import Ids, Steps, Together

Value = TypeVar("Value")

_REMEMBERED = 8  # prefixes; each holds the states of at most one model window
_REST = 4  # one part in so many of a window stays when it is full


@dataclass(frozen=True, slots=True)
class _Read:
    """A stretch just read: what was known before it, its tokens, and what is known after it."""

    tokens: LmTokens
    before: int  # tokens of the prefix that it went on from
    after: Prefix


class PassageReader:
    """Answers :class:`~proxy.compress.ports.Passage` with a causal LM.  Any thread may ask."""

    def __init__(self, model: CausalLM) -> None:
        """Read with ``model``, one passage at a time."""
        self._model = model
        self._lock = Lock()
        self._prefixes: OrderedDict[bytes, Prefix] = OrderedDict()
        self._raw: OrderedDict[bytes, _Read] = OrderedDict()
        self.revision = model.revision

    @property
    def together(self) -> Together:
        """Tokens of passages without anything heard that are well read in one call."""
        return self._model.together

    def steps(self, passages: Sequence[Passage]) -> Steps[list[SelfInformation]]:
        """Rate passages; each step yields the tokens it read.  Raises ScorerFailed.

        Those that nothing was heard before are read together, the others one by one.
        """
        fresh = [PlainPassage(passage.text) for passage in passages if not passage.heard]
        plain = iter((yield from self._model.steps(fresh)))
        found: list[SelfInformation] = []
        for passage in passages:
            if passage.heard:
                found.append(self._heard(passage))
                yield len(found[-1].nats)
            else:
                rated = next(plain)
                found.append(
                    SelfInformation(rated.nats, rated.starts, rated.ends, self._model.bands)
                )
        return found

    def _heard(self, passage: Passage) -> SelfInformation:
        with self._lock:
            tokens = self._model.tokenise(passage.text)
            nats = self._after(passage, tokens)
        return SelfInformation(nats, tokens.starts, tokens.ends, self._model.bands)

    def _after(self, passage: Passage, tokens: LmTokens) -> Nats:
        """Surprise of a passage's tokens (n,) after what was heard."""
        prefix, key = self._prefix(passage.heard, exact=passage.exact)
        before, nats, after = self._read_on(prefix, tokens.ids)
        if not passage.exact:
            _remember(self._raw, _raw_key(key, passage), _Read(tokens, before, after))
        return nats

    def _prefix(self, heard: Sequence[Heard], *, exact: bool) -> tuple[Prefix, bytes]:
        """Return the states after ``heard``, and their key.

        Begins behind the longest run of stretches whose states are remembered.
        """
        keys = [b"exact" if exact else b"gather"]
        for stretch in heard:
            keys.append(_chained(keys[-1], stretch.text, stretch.kept))
        done = max((n for n in range(1, len(keys)) if keys[n] in self._prefixes), default=0)
        prefix = self._prefixes[keys[done]] if done else self._model.start()
        for place in range(done, len(heard)):
            if exact:
                prefix = self._kept(prefix, heard[place])
            else:
                prefix = self._gathered(prefix, heard[place], _raw_key(keys[place], heard[place]))
            _remember(self._prefixes, keys[place + 1], prefix)
        return prefix, keys[-1]

    def _kept(self, prefix: Prefix, stretch: Heard) -> Prefix:
        """Read the kept text of a stretch as if nothing else had been there."""
        text = "".join(span.of(stretch.text) for span in stretch.kept)
        ids = self._model.tokenise(text).ids
        while len(ids):
            prefix, room = self._with_room(prefix, len(ids))
            prefix, ids = self._model.follow(prefix, ids[:room]), ids[room:]
        return prefix

    def _gathered(self, prefix: Prefix, stretch: Heard, raw_key: bytes) -> Prefix:
        """Read all of a stretch, or recall having read it, and keep the states of what was kept."""
        read = self._raw.get(raw_key)
        if read is None:
            tokens = self._model.tokenise(stretch.text)
            before, _, after = self._read_on(prefix, tokens.ids)
            read = _Read(tokens, before, after)
        first = len(read.after) - len(read.tokens.ids)
        if first != read.before:  # the window was full within it: its head is gone
            return self._kept(self._model.start(), stretch)
        starts = read.tokens.starts
        inside = np.zeros(len(starts), dtype=bool)
        for span in stretch.kept:
            inside |= (starts >= span.start) & (starts < span.end)
        kept = np.concatenate([np.arange(first), first + np.flatnonzero(inside)])
        return read.after.gather(kept)

    def _read_on(self, prefix: Prefix, ids: Ids) -> tuple[int, Nats, Prefix]:
        """Read ``ids`` after ``prefix``; return its length then, their surprise, all states."""
        nats: list[Nats] = []
        before = len(prefix)
        done = 0
        while done < len(ids):
            prefix, room = self._with_room(prefix, len(ids) - done)
            before = len(prefix) if done == 0 else before
            scored, prefix = self._model.extend(prefix, ids[done : done + room])
            nats.append(scored)
            done += len(scored)
        joined = np.concatenate(nats) if nats else np.zeros(0, dtype=np.float32)
        joined.flags.writeable = False
        return before, joined, prefix

    def _with_room(self, prefix: Prefix, wanted: int) -> tuple[Prefix, int]:
        """Return a prefix, its last part read afresh where it leaves too little room, and the room.

        Enough is what is wanted, or half a window.
        """
        room = self._model.window - prefix.following + 1
        if room >= min(wanted, self._model.window // 2):
            return prefix, room
        tail = prefix.ids[1:][-(self._model.window // _REST) :]
        prefix = self._model.follow(self._model.start(), tail)
        return prefix, self._model.window - prefix.following + 1


def _chained(key: bytes, text: str, kept: Sequence[tuple[int, int]]) -> bytes:
    digest = blake2b(key, digest_size=16)
    digest.update(text.encode("utf-8", "surrogatepass"))
    digest.update(np.array(kept, dtype="<i8").tobytes())
    return digest.digest()


def _raw_key(before: bytes, stretch: Heard | Passage) -> bytes:
    """Name a stretch read in whole after what ``before`` names."""
    return _chained(before, stretch.text, ())


def _remember(values: OrderedDict[bytes, Value], key: bytes, value: Value) -> None:
    values[key] = value
    values.move_to_end(key)
    while len(values) > _REMEMBERED:
        values.popitem(last=False)
