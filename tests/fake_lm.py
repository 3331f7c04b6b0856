"""A causal LM of one line: what a token tells depends on it and on the state it is read in.

A token's state is made of the token and of the one read before it, so that states gathered from a
raw text differ from those of the text that was kept, as in a real model's cache.
"""

import re
import zlib

import numpy as np
from driving import Answers

from proxy.compress.ports import SelfInformation
from proxy.types import Span

TOKEN = re.compile(r" ?[^\W\d_]+| ?\d{1,3}| ?[^\w\s]+| ?_+|\s")
GRID = 128


class FakeLM:
    """``known`` gives the nats of some tokens outright, by their text without blanks."""

    def __init__(self, known=None, most=6.0):
        self.known = known or {}
        self.most = most

    def tokens(self, text):
        return [Span(*m.span()) for m in TOKEN.finditer(text)]

    def nats(self, state, token):
        """State: (token before, token before that), or nothing at the beginning."""
        if token.strip() in self.known:
            return self.known[token.strip()]
        share = zlib.crc32(repr((state, token)).encode()) / 2**32
        return round(self.most * share * GRID) / GRID

    def read(self, text, state=()):
        """The nats of each token of ``text`` after ``state``, and the states it leaves."""
        nats, states = [], []
        for span in self.tokens(text):
            token = span.of(text)
            nats.append(self.nats(state, token))
            state = (token, state[0] if state else "")
            states.append(state)
        return nats, states

    def exact_state(self, heard):
        """The state after the kept text alone."""
        text = "".join(span.of(one.text) for one in heard for span in one.kept)
        return ([(), *self.read(text)[1]])[-1]

    def gathered_state(self, heard):
        """The state of the last token kept, as it was read in the raw text."""
        state = ()
        for one in heard:
            states = self.read(one.text, state)[1]
            for span, found in zip(self.tokens(one.text), states, strict=True):
                if any(kept.start <= span.start and span.end <= kept.end for kept in one.kept):
                    state = found
        return state

    def rate(self, passage):
        find = self.exact_state if passage.exact else self.gathered_state
        nats, _ = self.read(passage.text, find(passage.heard))
        spans = self.tokens(passage.text)
        return SelfInformation(
            np.array(nats, np.float32),
            np.array([span.start for span in spans], np.int32),
            np.array([span.end for span in spans], np.int32),
        )


class LmAnswers(Answers):
    """Answers score requests with the encoder's stand-in and this LM."""

    def __init__(self, lm=None, errors=()):
        super().__init__(errors)
        self.lm = lm or FakeLM()

    def __call__(self, request):
        scores = super().__call__(request)
        rated = tuple(self.lm.rate(passage) for passage in request.passages)
        return type(scores)(scores.documents, scores.questions, rated, (), timings=scores.timings)
