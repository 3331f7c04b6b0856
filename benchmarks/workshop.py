"""The proxy's compression without a server, timed: what ``compress``, ``scale`` and ``memory`` use.

Prompts are passages of the data folder's ``nq_30docs_dev`` strung together to a number of tokens,
with a question after them, so that a turn of any size looks like retrieval.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

from multidict import CIMultiDict

from common import MODEL, POLICIES, Record, records
from proxy.app import settle
from proxy.engine import Engine
from proxy.gateway.compression import Compression, Incoming, Prepared
from proxy.gateway.method import Cascade
from proxy.memo import TurnMemo, VectorMemo
from proxy.policy import PolicySet, load_policies, read_policy_dir
from proxy.scorers import EMBEDDED, load_models
from proxy.tokens import encoding_for
from proxy.wire import CHAT, LaconicHeaders

MEMO_BYTES = 1 << 30
PATIENT_S = 600.0
"""A deadline that nothing here misses: what is timed is the work, not the giving up."""


class Passages:
    """Passages and questions to make prompts of; the same seed gives the same prompt."""

    def __init__(self) -> None:
        """Read them from the data folder; exits 2 where there is none."""
        self._records = records("nq_30docs_dev")
        self._encoding = encoding_for(MODEL)

    @cached_property
    def _pool(self) -> list[tuple[str, int]]:
        found = (p for r in self._records for p in (r["gold"], *r["distractors"]))
        texts = dict.fromkeys(f"{p['title']}. {p['text']}" for p in found)
        return [(text, self._encoding.count(text) + 4) for text in texts]  # 4: number, line break

    def draw(self, tokens: int, seed: int) -> list[str]:
        """Return passages of about ``tokens`` tokens together: at most one passage more."""
        rng = random.Random(seed)
        return _taken(tokens, iter(lambda: rng.choice(self._pool), None))

    def deal(self, tokens: int, texts: int) -> list[str]:
        """Return texts of about ``tokens`` tokens each; no passage is in two of them.

        Raises ValueError where there are not enough.
        """
        passages = iter(random.Random(0).sample(self._pool, len(self._pool)))
        return [numbered(_taken(tokens, passages)) for _ in range(texts)]

    def text(self, tokens: int, seed: int) -> str:
        """Return numbered passages as one text."""
        return numbered(self.draw(tokens, seed))

    def question(self, number: int) -> str:
        """Return one of the questions; any number does."""
        return f"{self._records[number % len(self._records)]['question']}?"

    def prompt(self, tokens: int, seed: int, question: int = 0) -> bytes:
        """Return a request body: passages, then a question."""
        text = f"{self.text(tokens, seed)}\n\n{self.question(question)}"
        return body([{"role": "user", "content": text}])


def _taken(tokens: int, passages: Iterator[tuple[str, int]]) -> list[str]:
    """Take passages, given with their tokens, until there are ``tokens``."""
    taken: list[str] = []
    while tokens > 0:
        passage = next(passages, None)
        if passage is None:
            raise ValueError(f"found no more passages, wanted {tokens} tokens of them")
        taken.append(passage[0])
        tokens -= passage[1]
    return taken


def numbered(passages: Sequence[str]) -> str:
    """Write passages as retrieval does: one a line, numbered."""
    return "\n".join(f"[{number}] {text}" for number, text in enumerate(passages, 1))


def body(messages: Sequence[Record]) -> bytes:
    """Return a chat request, written as OpenAI's SDK writes it."""
    given = {"messages": list(messages), "model": MODEL}
    return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Timed:
    """A request prepared, and how long that took."""

    prepared: Prepared
    ms: float


class Workshop:
    """Compression over one engine; passages that were not drawn before are cold."""

    def __init__(self, engine: Engine, policies: PolicySet, threads: int) -> None:
        """Use :func:`workshop`."""
        method = Cascade(TurnMemo(), lambda: engine.revision, tagged=TurnMemo(), cuts=TurnMemo())
        self._compression = Compression(
            method, engine, limit_bytes=1 << 27, beginnings=TurnMemo(MEMO_BYTES)
        )
        self._policies = policies
        self.threads = threads

    async def prepare(self, raw: bytes) -> Timed:
        """Prepare one request as the gateway does."""
        incoming = Incoming(CHAT, f"/v1{CHAT.path}", CIMultiDict(), LaconicHeaders(), raw)
        started_s = time.perf_counter()
        prepared = await self._compression.prepare(incoming, self._policies)
        return Timed(prepared, (time.perf_counter() - started_s) * 1000)


@asynccontextmanager
async def workshop(policy: str, threads: int) -> AsyncIterator[Workshop]:
    """Load the embedded model and serve ``policy``, with all the time it needs."""
    engine = Engine(
        lambda: load_models(EMBEDDED, EMBEDDED, None), VectorMemo(MEMO_BYTES), threads=threads
    )
    engine.start()
    await engine.wait_ready()
    settle()
    try:
        yield Workshop(engine, patient(policy), threads)
    finally:
        engine.close()


def patient(policy: str) -> PolicySet:
    """Return the shipped policies, ``policy`` on every route, with a deadline out of reach."""
    shipped = load_policies(read_policy_dir(POLICIES)).policies
    chosen = shipped[policy].model_copy(update={"deadline_s": PATIENT_S})
    return PolicySet({**shipped, policy: chosen}, fallback=policy)


def sizes(least: int, most: int) -> Iterator[int]:
    """Yield powers of two times ``least``, up to ``most``."""
    while least <= most:
        yield least
        least *= 2
