import numpy as np
import pytest
from driving import (
    ENCODING,
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
from fake_classifier import WordAnswers, WordCount, classify, share
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.compress import reference_long
from proxy.compress.companions import Basket, company_of
from proxy.compress.guarded import Past, Scene
from proxy.compress.layout import read_material
from proxy.compress.llmlingua2 import compress_turn, word_probabilities
from proxy.compress.ports import KeepProbabilities
from proxy.compress.protect import Protection, protected_spans
from proxy.compress.words import read_wording, read_words
from proxy.types import Component, Reason, Span

TEXT = (
    "The committee met in the old hall and chose a new chair. It paid $1,250.75 to the baker, "
    "who did not complain. See https://example.org/minutes for what was said after 9 pm."
)


def choices(rate=0.5, **method):
    target = rate if isinstance(rate, dict) else {"rate": rate}
    return policy(
        method={"name": "llmlingua2", "keep_digits": False, **method},
        components={"context": target},
        recall={"share": 0},
    )


def compressed(text, rate=0.5, encoding=ENCODING, question="what?", **method):
    """What is left of a context, and the turn's result."""
    asked = turn(text, question=question)
    scene = Scene(asked, Past(), choices(rate, **method), encoding)
    result = drive(compress_turn(scene), WordAnswers())
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


@pytest.mark.parametrize("titles", [True, False])
def test_a_title_comes_along_where_the_policy_says_so(titles):
    text = passages(TEXT, TEXT)
    choice = choices(0.4).model_copy(update={"titles": titles})
    scene = Scene(turn(text), Past(), choice, ENCODING)
    left = rendered(drive(compress_turn(scene), WordAnswers()), text)
    assert [title in left for title in ("[1] ", "[2] ")] == [titles, titles]


def test_a_words_probability_is_the_mean_over_its_tokens():
    words = read_words("unbelievable luck")
    rated = KeepProbabilities(
        np.array([0.2, 0.4, 0.9], np.float32),
        np.array([0, 2, 13], np.int32),
        np.array([2, 12, 17], np.int32),
    )
    assert word_probabilities(words, rated).tolist() == [0.3, 0.9]


def test_the_likeliest_words_stay_in_their_order():
    text = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
    kept, _ = compressed(text, encoding=WordCount())
    likely = sorted(text.split(), key=lambda w: -word_probabilities(read_words(w), classify(w))[0])
    assert kept.split() == [word for word in text.split() if word in likely[:5]]


def test_words_with_digits_are_kept_exactly_unless_the_policy_says_otherwise():
    text = "lorem ipsum A320neo dolor 17 sit amet x9 consectetur adipiscing elit sed do eiusmod"
    kept, _ = compressed(text, 0.4, keep_digits=True)
    assert {"A320neo", "x9"} <= set(kept.split())
    assert "17 sit" in kept


def test_force_words_are_kept_whatever_their_case_and_punctuation():
    kept, _ = compressed(TEXT, 0.4, force_words=["BAKER", "hall"])
    assert {"baker,", "hall"} <= set(kept.split())


def test_protected_spans_are_whole_or_gone_and_always_there_on_request():
    for rate in (0.2, 0.4, 0.6, 0.8):
        kept, _ = compressed(TEXT, rate)
        for span in protected_spans(TEXT):
            inside = span.of(TEXT)
            assert kept.count(inside) == TEXT.count(inside) or inside not in kept
    kept, _ = compressed(TEXT, 0.8, keep_protected=True)
    assert [s.of(kept) for s in protected_spans(kept)] == [
        s.of(TEXT) for s in protected_spans(TEXT)
    ]


def test_a_negation_goes_with_the_words_of_its_sentence():
    for rate in (0.3, 0.5, 0.7, 0.9):
        kept, _ = compressed(TEXT, rate)
        who = [word for word in ("$1,250.75", "baker,", "who", "did", "complain.") if word in kept]
        assert ("not" in kept.split()) == bool(who)


def test_one_threshold_over_the_turn_lets_a_rich_passage_keep_more():
    words = [f"w{a}{b}q" for a in "abcdefghijklmnopqrst" for b in "abcdefghij"]
    words.sort(key=lambda word: -share(word))
    rich, poor = words[:100], words[100:]
    kept, _ = compressed(f"{' '.join(rich)}\n\n{' '.join(poor)}", encoding=WordCount())
    assert kept.split() == rich


def test_the_question_steers_where_the_policy_says_so():
    text = passages(
        *(f"The {thing} costs much these days." for thing in ("tram", "violin", "bread"))
    )
    plain, _ = compressed(text, 0.4, question="How much is the violin?")
    unasked, _ = compressed(text, 0.4, question="How old is the bread?")
    steered, _ = compressed(text, 0.4, question="How much is the violin?", question_weight=0.9)
    assert plain == unasked
    assert "The violin costs much these days." in steered


def test_what_must_stay_may_exceed_the_target_and_is_named():
    text = "9a 8b 7c 6d 5e 4f 3g 2h plain words follow here"
    kept, result = compressed(text, 0.2, keep_digits=True)
    assert result.reason is Reason.FORCED_OVER_BUDGET
    assert {"9a", "8b", "2h"} <= set(" ".join(kept.split()).split(" "))


def test_a_budget_that_no_word_fits_leaves_the_text_whole():
    text = "https://example.org/a/very/long/path/that/costs/many/tokens/0123456789abcdef"
    kept, result = compressed(text, {"target_tokens": 1})
    assert (kept, result.reason) == (text, Reason.BUDGET_INFEASIBLE)


def test_titles_go_with_their_documents():
    text = "[1] Alpha beta gamma delta.\n\n[2] Epsilon zeta eta theta."
    kept, _ = compressed(text, 0.6)
    for number, words in ((1, "Alpha beta gamma delta."), (2, "Epsilon zeta eta theta.")):
        assert (f"[{number}]" in kept) == any(word in kept for word in words.split())


CHUNKS = st.sampled_from(
    [
        *("alpha", "beta", "gamma", "delta,", "epsilon.", "zeta", "eta", "theta", "iota", "kappa"),
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
        *("“so", "it", "goes”", "don't"),
    ]
)
TEXTS = st.lists(CHUNKS, min_size=1, max_size=60).map(" ".join)
RATES = st.sampled_from([0.2, 0.35, 0.5, 0.8])


@examples(60)
@given(TEXTS)
def test_word_probabilities_are_their_slow_twin(text):
    text = f"then {text}"
    words, rated = read_words(text), classify(text)
    slow = reference_long.word_probabilities(words, rated)
    assert word_probabilities(words, rated).tolist() == pytest.approx(slow, abs=1e-4)


PLAIN = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]),
    min_size=5,
    max_size=40,
).map(" ".join)


@examples(60)
@given(PLAIN, RATES)
def test_the_words_kept_are_those_of_the_slow_twin(text, rate):
    _, result = compressed(text, rate, encoding=WordCount())
    words = read_words(text)
    scores = word_probabilities(words, classify(text)).tolist()
    target = int(rate * len(words))
    slow = reference_long.keep_words(scores, (), len, target)
    assert rendered(result, text) == " ".join(words[i].span.of(text) for i in sorted(slow))


def laid_out(text, rate):
    return read_material(turn(text), choices(rate), ENCODING)


@examples(80)
@example("alpha \n\n [4] alpha", 0.2, True)
@given(TEXTS, RATES, st.booleans())
def test_laws_verbatim_protected_exact_and_never_longer(text, rate, protect):
    kept, result = compressed(text, rate, keep_protected=protect)
    count = result.components[Component.CONTEXT]
    assert is_subsequence(kept, text)
    assert count.after == ENCODING.count(kept) <= count.before == ENCODING.count(text)
    if result.reason is None:
        assert count.after <= int(rate * count.before)
    assert not cuts_protected(result, text)
    if protect and result.edits:
        frames = [u.span for u in laid_out(text, rate).units if u.frame]  # go with what they frame
        own = [
            s for s in protected_spans(text) if not any(f.start <= s.start < f.end for f in frames)
        ]
        assert is_subsequence("".join(s.of(text) for s in own), kept)


@examples(60)
@given(TEXTS, RATES)
def test_the_budget_is_spent_to_less_than_the_next_word(text, rate):
    _, result = compressed(text, rate)
    if result.reason is not None:
        return
    scene = Scene(turn(text), Past(), choices(rate), ENCODING)
    words = read_wording(laid_out(text, rate), ENCODING)
    empty = Basket(company_of(scene, words, Component.CONTEXT, (), frozenset()))
    dearest = max(empty.price(i) for i in empty.company.free)
    count = result.components[Component.CONTEXT]
    assert count.after > int(rate * count.before) - dearest - 1


@examples(25)
@given(st.lists(TEXTS, min_size=2, max_size=3), RATES)
def test_history_is_a_prefix_of_what_is_sent_later(texts, rate):
    messages = []
    for i, text in enumerate(texts):
        messages += [user(f"Context:\n{text}\n\nQuestion: what is it {i}?"), assistant("Noted.")]
    long = Run(messages, choices(rate), answers=WordAnswers()).texts()
    short = Run(messages[:-2], choices(rate), answers=WordAnswers()).texts()
    assert all(long[address] == text for address, text in short.items())
