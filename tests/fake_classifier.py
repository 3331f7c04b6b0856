"""Models without weights for the word methods: what they say follows from the words alone."""

import re
import zlib
from itertools import pairwise

import numpy as np
from driving import Answers

from proxy.compress.ports import KeepProbabilities, Scores, ScoreTimings

PIECE = re.compile(r"\w{1,4}|[^\w\s]")


def share(text):
    """A number in [0, 1) that follows from a text."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % 10_000 / 10_000


def classify(text):
    """Tokens of at most four letters; how likely each is kept follows from its letters."""
    pieces = list(PIECE.finditer(text))
    return KeepProbabilities(
        np.array([share(m[0].lower()) for m in pieces], np.float32),
        np.array([m.start() for m in pieces], np.int32),
        np.array([m.end() for m in pieces], np.int32),
    )


class WordAnswers(Answers):
    """Answers for the encoder and for the token classifier."""

    def __call__(self, request):
        scores = super().__call__(request)
        return Scores(
            documents=scores.documents,
            questions=scores.questions,
            classified=tuple(map(classify, request.classified)),
            timings=ScoreTimings(scored_tokens=1),
        )


class WordCount:
    """An upstream encoding in which a run without white space is a token."""

    name = "words"
    estimated = False

    def count(self, text):
        return len(text.split())

    def count_by(self, text, boundaries):
        starts = [m.start() for m in re.finditer(r"\S+", text)]
        return [sum(a <= start < b for start in starts) for a, b in pairwise(boundaries)]
