import re
from collections import Counter

import numpy as np
from driving import (
    ENCODING,
    Answers,
    Run,
    assistant,
    drive,
    examples,
    is_subsequence,
    passages,
    policy,
    turn,
    user,
)
from fake_classifier import WordCount, share
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference_long
from proxy.compress.guarded import Past, Scene
from proxy.compress.longllmlingua import (
    RESTRICTIVE,
    choose_documents,
    compress_turn,
    document_rates,
    reordered,
)
from proxy.compress.ports import Scores, ScoreTimings, SelfInformation
from proxy.compress.protect import Protection, protected_spans
from proxy.types import Component, Reason, Span

QUESTION = "Which river floods the lower town?"
TOKEN = re.compile(r"\s?\w+|\s?[^\w\s]+|\s")


class Reader:
    """A causal LM of one line: what it has heard surprises it less, and the last state tells.

    Gathered states know the token that stood before them in the raw text.
    """

    def rate(self, passage):
        spans = [m.span() for m in TOKEN.finditer(passage.text)]
        tokens = [passage.text[a:b] for a, b in spans]
        nats = np.array(self.nats(*self.hear(passage.heard, passage.exact), tokens), np.float32)
        return SelfInformation(nats, *np.array(spans, np.int32).reshape(-1, 2).T)

    def hear(self, heard, exact):
        """What is known, and the last state."""
        if exact:
            kept = TOKEN.findall("".join(s.of(one.text) for one in heard for s in one.kept))
            return {token.strip() for token in kept}, tuple(kept[-2:])
        known, state, before = set(), (), ""
        for one in heard:
            for m in TOKEN.finditer(one.text):
                if any(span.start <= m.start() and m.end() <= span.end for span in one.kept):
                    known.add(m[0].strip())
                    state = (before, m[0])
                before = m[0]
        return known, state

    def nats(self, known, state, tokens):
        out = []
        for token in tokens:
            base = (2 + 2 * share(token.strip())) * (0.25 if token.strip() in known else 1.0)
            out.append(round((base + 0.2 * share(repr((state, token)))) * 128) / 128)
            state = (*state[-1:], token)
        return out


class LmAnswers(Answers):
    """The encoder's stand-in, and the reader."""

    def __call__(self, request):
        scores = super().__call__(request)
        rated = tuple(map(Reader().rate, request.passages))
        return Scores(scores.documents, scores.questions, rated, timings=ScoreTimings())


def choices(rate=0.5, **method):
    target = rate if isinstance(rate, dict) else {"rate": rate}
    return policy(
        method={"name": "longllmlingua", **method},
        components={"context": target},
        recall={"share": 0},
    )


def compressed(text, rate=0.5, encoding=ENCODING, question=QUESTION, answers=None, **method):
    """What is left of a context, and the turn's result."""
    scene = Scene(turn(text, question=question), Past(), choices(rate, **method), encoding)
    result = drive(compress_turn(scene), answers or LmAnswers())
    return rendered(result, text), result


def cuts_protected(result, text):
    """Whether an edge of what is kept lies inside a protected span."""
    pieces = [p for edit in result.edits for p in edit.pieces if isinstance(p, Span)]
    protection = Protection(protected_spans(text))
    return any(protection.cuts(edge) for piece in pieces for edge in piece)


def rendered(result, text):
    if not result.edits:
        return text
    return "".join(p.of(text) if isinstance(p, Span) else str(p) for p in result.edits[0].pieces)


TOWN = passages(
    "The baker sells bread at dawn.",
    "The river Elba floods the lower town in spring.",
    "A violin costs more than a tram.",
    "The committee chose a new chair.",
)


def test_the_question_is_rated_after_each_document_with_the_restrictive_sentence():
    answers = LmAnswers()
    compressed(TOWN, answers=answers)
    first = answers.asked[0]
    plain, asked = first.passages[:4], first.passages[4:]
    assert [p.heard for p in plain] == [()] * 4
    assert {p.text for p in asked} == {f"{QUESTION}\n{RESTRICTIVE}"}
    assert all(p.exact for p in asked)
    assert [p.heard[0].text for p in asked] == [f"{p.text}\n\n" for p in plain]


def test_the_document_that_foretells_the_question_stays():
    for rate in (0.2, 0.3, 0.5):
        kept, result = compressed(TOWN, rate)
        assert "[2]" in kept
        assert "river" in kept
        assert result.reason is None
    kept, _ = compressed(TOWN, 0.2, k=1)
    assert re.findall(r"\[\d\]", kept) == ["[2]"]


def test_words_that_the_question_explains_stay():
    text = "alpha beta river gamma delta floods epsilon zeta town eta theta iota"
    kept, _ = compressed(text, 0.25, encoding=WordCount())
    assert kept == "river floods town"


def test_windows_after_the_first_are_read_after_what_was_kept():
    text = " ".join(f"word{chr(97 + i)}" for i in range(20))
    for variant, exact in (("exact", True), ("gather", False)):
        answers = LmAnswers()
        compressed(text, 0.5, WordCount(), answers=answers, window=8, variant=variant)
        windows = [request.passages for request in answers.asked[1:]]
        assert [len(pair) for pair in windows] == [2, 2, 2]
        plain, asked = windows[2]
        assert plain.text == asked.text == text[text.index(" wordq") :]
        assert asked.heard[1:] == plain.heard
        assert asked.heard[0].text == f"{QUESTION}\n"
        assert "".join(h.text for h in plain.heard) + plain.text == text
        assert all(h.kept for h in plain.heard)
        assert (plain.exact, asked.exact) == (exact, exact)


def test_short_documents_are_read_together_and_long_ones_a_few_at_a_time():
    short = "alpha beta gamma delta river"
    long = " ".join([short] * 3)
    answers = LmAnswers()
    text = "\n\n".join([short, *[long] * 4])
    compressed(text, 0.9, WordCount(), answers=answers, k=4, window=8)
    assert [len(asked.passages) for asked in answers.asked] == [10, 2, 6, 6, 2, 2]


def test_rates_fall_with_the_rank_and_average_tau():
    assert document_rates(0.5, 0.3, 1) == [0.5]
    assert document_rates(0.5, 0.3, 3) == [0.7, 0.5, 0.3]
    assert document_rates(0.9, 0.4, 2) == [1.0, 0.7]
    assert document_rates(0.5, 0.0, 4) == [0.5] * 4
    assert document_rates(0.5, 0.3, 0) == []


def test_without_a_question_nothing_is_done():
    kept, result = compressed(TOWN, question=None)
    assert (kept, result.reason) == (TOWN, Reason.NO_QUESTION)


def test_order_changes_only_by_policy():
    plain, _ = compressed(TOWN, 0.7)
    moved, _ = compressed(TOWN, 0.7, reorder=True)
    assert is_subsequence(plain, TOWN)
    assert re.findall(r"\[\d\]", plain) == sorted(re.findall(r"\[\d\]", plain))
    assert moved.lstrip().startswith("[2]")
    assert sorted(moved.split()) == sorted(plain.split())


def test_documents_trade_places_and_gaps_stay():
    text = "aa b\n\ncc d | ee f"
    spans = [Span(0, 2), Span(2, 3), Span(3, 4), Span(4, 6), Span(6, 8), Span(8, 9), Span(9, 10)]
    spans += [Span(10, 13), Span(13, 15), Span(15, 16), Span(16, 17)]
    documents = [0, None, 0, None, 1, None, 1, None, 2, None, 2]
    found = reordered(spans, documents, [3.0, 1.0, 2.0])
    assert "".join(span.of(text) for span in found) == "cc d\n\nee f | aa b"


def test_protected_spans_are_kept_on_request_in_documents_that_are():
    text = f"{TOWN} It cost $1,250.75 on 12 May 2020."
    kept, _ = compressed(text, 0.8, keep_protected=True)
    for block in kept.split("\n\n"):
        source = next(one for one in text.split("\n\n") if one[:3] == block[:3])
        assert [s.of(block) for s in protected_spans(block)] == [
            s.of(source) for s in protected_spans(source)
        ]


def test_a_text_that_the_model_cannot_judge_loses_no_word():
    strange = "== ++ // ** && %% ## @@ <> [] {} == ++ // ** && %% ##"
    kept, _ = compressed(f"{strange}\n\nThe river Elba floods the lower town in spring.", 0.6)
    assert strange in kept or strange[:5] not in kept


def test_a_budget_that_nothing_fits_leaves_the_text_whole():
    text = "https://example.org/a/very/long/path/that/costs/many/tokens/0123456789abcdef"
    kept, result = compressed(text, {"target_tokens": 1})
    assert (kept, result.reason) == (text, Reason.BUDGET_INFEASIBLE)


def test_a_question_of_its_own_turn_decides():
    first, _ = compressed(TOWN, 0.3, question="Who sells bread at dawn?")
    second, _ = compressed(TOWN, 0.3, question="What costs a violin more than a tram?")
    assert "bread" in first
    assert "violin" in second


# -- twins --------------------------------------------------------------------------------------

NUMBERS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 2.5]), st.integers(1, 60), st.integers(0, 5)), max_size=8
)


@examples(150)
@given(NUMBERS, st.integers(0, 80), st.sampled_from([1, 1.5, 2]))
def test_documents_are_chosen_as_by_the_slow_twin(documents, room, k):
    relevance, lengths, least = zip(*documents, strict=True) if documents else ((), (), ())
    arguments = (relevance, lengths, least, room, k)
    assert choose_documents(*arguments) == reference_long.choose_documents(*arguments)


WORD = st.sampled_from(
    ["alpha", "beta", "gamma", "delta", "river", "floods", "town", "lower", "iota", "kappa"]
)
DOCUMENT = st.lists(WORD, min_size=1, max_size=24)


@examples(60)
@given(
    st.lists(DOCUMENT, min_size=1, max_size=4),
    st.sampled_from([0.2, 0.4, 0.7]),
    st.sampled_from([1, 2]),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
)
def test_the_words_kept_are_those_of_the_slow_twin(documents, rate, k, delta, exact):
    text = "\n\n".join(" ".join(words) for words in documents)
    target = int(rate * len(text.split()))
    if target < 2:
        return
    method = {"k": k, "delta": delta, "window": 8, "variant": "exact" if exact else "gather"}
    kept, _ = compressed(text, rate, WordCount(), **method)
    assert kept.split() == slowly(documents, target, k, delta, exact=exact)


def slowly(documents, target, k, delta, *, exact):
    """The whole method, for documents of plain words that cost a token each."""
    relevance = [relevance_after(words) for words in documents]
    room = target - 1  # an empty leaf costs an ellipsis
    lengths = [len(words) for words in documents]
    taken = reference_long.choose_documents(relevance, lengths, [0] * len(documents), room, k)
    rates = document_rates(room / sum(lengths[i] for i in taken), delta, len(taken))
    first, contrast, number = set(), {}, 0
    for i, words in enumerate(documents):
        if i in taken:
            spaced = [words[0], *(f" {word}" for word in words[1:])]
            rate = rates[taken.index(i)]
            plain, asked = surprise("", exact=exact), surprise(f"{QUESTION}\n", exact=exact)
            flags, found = reference_long.contrast_words(spaced, 8, rate, plain, asked)
            first |= {number + j for j, stays in enumerate(flags) if stays}
            contrast |= {number + j: one for j, one in enumerate(found)}
        number += len(words)
    ranked = sorted(contrast, key=lambda i: (-contrast[i], i))
    chosen = reference_long.fit_to(first, ranked, len, target)
    every = [word for words in documents for word in words]
    return [every[i] for i in sorted(chosen)]


def relevance_after(words):
    asked = TOKEN.findall(f"{QUESTION}\n{RESTRICTIVE}")
    told = TOKEN.findall(f"{' '.join(words)}\n\n")
    nats = Reader().nats({token.strip() for token in told}, tuple(told[-2:]), asked)
    return round(float(np.mean(np.array(nats, np.float32), dtype=np.float64)), 4)


def surprise(question, *, exact):
    """The reader's nats, with everything before a window read over for it."""

    def rated(read, flags, window):
        told = [(token, True) for token in TOKEN.findall(question)]
        told += zip(read, flags, strict=True)
        if exact:
            kept = TOKEN.findall("".join(token for token, stays in told if stays))
            return Reader().nats({token.strip() for token in kept}, tuple(kept[-2:]), window)
        known, state, before = set(), (), ""
        for token, stays in told:
            if stays:
                known, state = known | {token.strip()}, (before, token)
            before = token
        return Reader().nats(known, state, window)

    return rated


# -- laws ---------------------------------------------------------------------------------------

CHUNKS = st.sampled_from(
    [
        *("alpha", "river", "floods", "delta,", "epsilon.", "zeta", "town", "theta", "iota"),
        *(
            "3.5",
            "kg",
            "$20",
            "东京很大。",
            "no",
            "https://a.b/c",
            "नमस्ते",
            "😀",
            "\n\n",
            "-",
            "[4]",
        ),
        *("“so", "it", "goes”", "don't", "Title\n"),
    ]
)
TEXTS = st.lists(CHUNKS, min_size=1, max_size=60).map(" ".join)
RATES = st.sampled_from([0.2, 0.35, 0.5, 0.8])
METHODS = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(["gather", "exact"]),
        "keep_protected": st.booleans(),
        "window": st.sampled_from([8, 40]),
    }
)


@examples(80)
@given(TEXTS, RATES, METHODS)
def test_laws_verbatim_protected_exact_and_never_longer(text, rate, method):
    kept, result = compressed(text, rate, **method)
    count = result.components[Component.CONTEXT]
    assert is_subsequence(kept, text)
    assert count.after == ENCODING.count(kept) <= count.before == ENCODING.count(text)
    if result.reason is None:
        assert count.after <= int(rate * count.before)
    assert not cuts_protected(result, text)


@examples(40)
@given(TEXTS, RATES)
def test_reordering_moves_words_but_neither_adds_nor_drops_any(text, rate):
    kept, result = compressed(text, rate, reorder=True)
    count = result.components[Component.CONTEXT]
    assert count.after == ENCODING.count(kept) <= count.before
    assert not Counter(kept) - Counter(text)
    if result.reason is None:
        assert count.after <= int(rate * count.before)


@examples(20)
@given(st.lists(TEXTS, min_size=2, max_size=3), RATES)
def test_history_is_a_prefix_of_what_is_sent_later(texts, rate):
    messages = []
    for i, text in enumerate(texts):
        messages += [user(f"Context:\n{text}\n\nQuestion: what is it {i}?"), assistant("Noted.")]
    long = Run(messages, choices(rate), answers=LmAnswers()).texts()
    short = Run(messages[:-2], choices(rate), answers=LmAnswers()).texts()
    assert all(long[address] == text for address, text in short.items())
