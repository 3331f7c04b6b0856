"""LLMLingua: equal to its slow twins, exact in its budgets, and none of the reference's defects."""

import json
import random
import re
import uuid
from itertools import chain, pairwise

import pytest
from driving import (
    ENCODING,
    TEXTS,
    Notes,
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
from fake_classifier import WordCount
from fake_lm import FakeLM, LmAnswers
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference, reference_long
from proxy.compress.guarded import Past, Scene
from proxy.compress.layout import read_material
from proxy.compress.llmlingua import (
    Lengths,
    Reading,
    Shares,
    choose_documents,
    choose_whole,
    compress_turn,
    cut_windows,
    first_shares,
    read_in_windows,
    second_shares,
)
from proxy.compress.ports import Scores
from proxy.compress.words import read_wording, read_words
from proxy.policy.schema import LLMLingua
from proxy.types import Component, Reason

METHOD = LLMLingua(name="llmlingua")
VARIANTS = ["gather", "exact"]


def choices(rate=0.5, method=None, **more):
    method = {"name": "llmlingua", "window": 30, **(method or {})}
    targets = {"context": {"rate": rate}} if isinstance(rate, float) else rate
    return policy(method=method, components=targets, recall={"share": 0}, **more)


def compressed(text, policy, lm=None, *, system=None, question="\n\nWhat happened?"):
    head = [{"role": "system", "content": system}] if system else []
    return Run([*head, user(text + question)], policy, answers=LmAnswers(lm or FakeLM()))


def words_of(text):
    return re.findall(r"\w+", text)


# -- slow twins ---------------------------------------------------------------------------------

VOCABULARY = ["the", "cat", "sat", "on", "mats", "harbour", "not", "lit", "ferry", "of", "a"]


@st.composite
def plain(draw):
    """Words with single blanks between them, a window, a rate, and which may be dropped."""
    words = draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=60))
    window = draw(st.sampled_from([8, 13, 30]))
    fixed = draw(st.sets(st.integers(0, len(words) - 1), max_size=5))
    return words, window, draw(st.sampled_from([0.0, 0.2, 0.5, 0.77])), fixed


def read(words, window, rate, fixed, *, exact):
    """The fast routine on one unit of plain words: which are kept, window by window."""
    text = " ".join(words)
    material = read_material(turn(text), policy(), ENCODING)
    wording = read_wording(material, ENCODING)
    windows = cut_windows(wording, range(len(material.units)), window)
    droppable = set(range(len(words))) - fixed
    reading = Reading(wording, droppable, {Component.CONTEXT: rate}, exact)
    lm = FakeLM()
    drive(
        read_in_windows(reading, windows),
        lambda asked: Scores(passages=tuple(lm.rate(passage) for passage in asked.passages)),
    )
    return wording, windows, reading.kept


def split(values, windows):
    return [[values[i] for i in one.words] for one in windows]


def states_of(read_words, kept, lm):
    """The state of the last kept word, of words read with what stood before them."""
    _, states = lm.read(" ".join(read_words))
    return [state for state, stays in zip(states, kept, strict=True) if stays]


@examples(120)
@given(plain())
def test_the_exact_variant_equals_its_slow_twin(case):
    words, _, rate, fixed = case
    wording, windows, kept = read(*case, exact=True)
    lm = FakeLM()

    def surprise(before, window):
        blank = " " if opened else ""
        opened.append(window)
        state = lm.read("".join(before_text(before)))[1][-1] if before else ()
        return lm.read(blank + " ".join(window), state)[0]

    def before_text(before):
        return [w if i == 0 and first_kept else f" {w}" for i, w in enumerate(before)]

    opened = []
    first_kept = 0 in kept
    twin = reference.itpc_exact(
        split(words, windows),
        split(wording.costs, windows),
        split([i not in fixed for i in range(len(words))], windows),
        rate,
        surprise,
    )
    assert [i in kept for i in range(len(words))] == [stays for one in twin for stays in one]


@examples(120)
@given(plain())
def test_the_gathering_variant_equals_its_slow_twin(case):
    words, _, rate, fixed = case
    wording, windows, kept = read(*case, exact=False)
    lm = FakeLM()

    def surprise(before, stays, window):
        state = ()
        for number, (raw, keep) in enumerate(zip(before, stays, strict=True)):
            _, states = lm.read(" " * bool(number) + " ".join(raw), state)
            state = [state, *(s for s, k in zip(states, keep, strict=True) if k)][-1]
        return lm.read(" " * bool(before) + " ".join(window), state)[0]

    twin = reference.itpc_gather(
        split(words, windows),
        split(wording.costs, windows),
        split([i not in fixed for i in range(len(words))], windows),
        rate,
        surprise,
    )
    assert [i in kept for i in range(len(words))] == [stays for one in twin for stays in one]


def test_the_variants_differ_where_states_have_seen_dropped_words():
    words = [VOCABULARY[i * i % 11] for i in range(60)]
    kept = [read(words, 8, 0.5, set(), exact=exact)[2] for exact in (True, False)]
    assert kept[0] != kept[1]


documents = st.integers(0, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(4, 20).map(lambda x: x / 4), min_size=n, max_size=n),
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=n, max_size=n),
        st.integers(0, 200),
        st.sampled_from([1.0, 1.5, 2.0]),
    )
)


@examples(300)
@given(documents)
def test_the_choice_of_documents_equals_its_slow_twin(case):
    perplexity, sizes, room, k = case
    lengths, least = [max(pair) for pair in sizes], [min(pair) for pair in sizes]
    chosen = choose_documents(perplexity, lengths, least, room, k)
    twin = reference.choose_documents(perplexity, lengths, least, room, k)
    assert (list(chosen.taken), chosen.whole) == (twin, frozenset())


@examples(300)
@given(documents)
def test_the_choice_of_whole_documents_equals_its_slow_twin(case):
    perplexity, sizes, room, _ = case
    lengths, least = [max(pair) for pair in sizes], [min(pair) for pair in sizes]
    chosen = choose_whole(perplexity, lengths, least, room)
    taken, whole = reference.choose_whole(perplexity, lengths, least, room)
    assert (list(chosen.taken), sorted(chosen.whole)) == (taken, whole)


PLAIN = [word for word in VOCABULARY if word != "not"]


@examples(60)
@given(
    st.lists(st.sampled_from(PLAIN), min_size=10, max_size=60),
    st.sampled_from([8, 13, 30]),
    st.sampled_from([0.2, 0.5, 0.77]),
    st.booleans(),
)
def test_the_words_kept_are_those_of_the_slow_twin(words, window, rate, exact):
    """The whole method on one document of plain words that cost a token each."""
    text, target = " ".join(words), int(rate * len(words))
    method = {"window": window, "variant": "exact" if exact else "gather"}
    choice = choices(rate, method)
    scene = Scene(turn(text), Past(), choice, WordCount())
    (edit,) = drive(compress_turn(scene), LmAnswers()).edits
    spaced = [words[0], *(f" {word}" for word in words[1:])]
    parts = [spaced[i : i + window] for i in range(0, len(spaced), window)]
    surprise = (exactly if exact else gathered)(FakeLM())
    said = []

    def listen(*read):
        said.extend(surprise(*read))
        return said[-len(read[-1]) :]

    ones, free = [[1] * len(p) for p in parts], [[True] * len(p) for p in parts]
    itpc = reference.itpc_exact if exact else reference.itpc_gather
    first = {
        i
        for i, stays in enumerate(chain(*itpc(parts, ones, free, target / len(words), listen)))
        if stays
    }
    ranked = sorted(range(len(words)), key=lambda i: (-said[i], i))
    kept = reference_long.fit_to(first, ranked, len, target)
    assert "".join(span.of(text) for span in edit.pieces).split() == [
        words[i] for i in sorted(kept)
    ]


STRANGE = {word: 8.0 + place for place, word in enumerate([*PLAIN, "."])}
STRANGE |= {word.capitalize(): nats for word, nats in STRANGE.items()}
"""What a model says of text that it does not know: more than noise would tell."""


@examples(60)
@given(
    st.lists(st.lists(st.sampled_from(PLAIN), min_size=5, max_size=5), min_size=4, max_size=20),
    st.sampled_from([8, 13, 30]),
    st.sampled_from([0.1, 0.3, 0.5, 0.77]),
    st.sampled_from(["all", "last"]),
)
def test_sentences_that_cannot_be_judged_go_whole_like_words(words, window, rate, shorten):
    """One document of sentences of five words each, none of which fits whole."""
    sentences = [f"{' '.join(one).capitalize()}." for one in words]
    text, target = " ".join(sentences), int(rate * 5 * len(words))
    choice = choices(rate, {"window": window, "shorten": shorten})
    scene = Scene(turn(text), Past(), choice, WordCount())
    result = drive(compress_turn(scene), LmAnswers(FakeLM(STRANGE)))
    size = -(-window // 5)
    parts = [sentences[i : i + size] for i in range(0, len(sentences), size)]
    nats = [sum(STRANGE[word] for word in [*one, "."]) for one in words]
    fives, free = [[5] * len(p) for p in parts], [[True] * len(p) for p in parts]

    def surprise(read, kept, window):
        return nats[sum(map(len, read)) :][: len(window)]

    keep = chain(*reference.itpc_gather(parts, fives, free, target / len(words) / 5, surprise))
    ranked = sorted(range(len(words)), key=lambda i: (-nats[i], i))
    first = {i for i, stays in enumerate(keep) if stays}
    kept = sorted(reference_long.fit_to(first, ranked, lambda some: 5 * len(some), target))
    if not kept:
        assert (result.edits, result.reason) == ((), Reason.BUDGET_INFEASIBLE)
        return
    (edit,) = result.edits
    assert "".join(span.of(text) for span in edit.pieces).split() == [
        word for i in kept for word in sentences[i].split()
    ]
    assert result.reason is None


def exactly(lm):
    """Nats after the words that were kept, read once more."""

    def surprise(before, window):
        state = lm.read("".join(before))[1][-1] if before else ()
        return lm.read("".join(window), state)[0]

    return surprise


def gathered(lm):
    """Nats after the state in which the last kept word was read in the raw text."""

    def surprise(read, kept, window):
        state = ()
        for raw, keep in zip(read, kept, strict=True):
            states = lm.read("".join(raw), state)[1]
            state = [state, *(s for s, stays in zip(states, keep, strict=True) if stays)][-1]
        return lm.read("".join(window), state)[0]

    return surprise


# -- the budget controller ----------------------------------------------------------------------


@examples(300)
@given(
    st.tuples(st.integers(0, 600), st.integers(1, 600), st.integers(0, 60)),
    st.floats(0.05, 1),
    st.floats(0, 1),
)
def test_the_parts_are_given_what_the_prompt_may_have(parts, tau, chosen):
    lengths = Lengths(*parts)
    tokens = tau * lengths.all
    first = first_shares(tokens, lengths, METHOD)
    kept = int(chosen * lengths.context)
    second = second_shares(tokens, lengths, first, kept, METHOD)
    for shares, context in ((first, lengths.context), (second, kept)):
        total = shares.instruction + shares.context + shares.question
        assert total <= tokens + 1e-6
        assert -1e-9 <= shares.instruction <= lengths.instruction + 1e-9
        assert -1e-9 <= shares.question <= lengths.question + 1e-9
        floor = min(int(METHOD.context_floor * tau * lengths.context), context)
        assert floor - 1 <= shares.context <= context + 1e-9
    full = lengths.instruction + lengths.question + kept
    spent = second.instruction + second.context + second.question
    spare = METHOD.k * first.context - kept
    if spare >= lengths.instruction + lengths.question:
        assert spent == pytest.approx(min(tokens, full))


def test_what_documents_leave_goes_to_instruction_and_question():
    lengths = Lengths(100, 800, 100)
    first = first_shares(500, lengths, METHOD)
    assert first == Shares(85, 325, 90)
    assert second_shares(500, lengths, first, 610, METHOD) == Shares(100, 300, 100)


def test_whole_documents_come_first_and_the_last_is_shortened():
    choice = choose_whole([3.0, 9.0, 5.0, 4.0], [40, 50, 60, 10], [4, 5, 6, 1], room=70)
    assert (choice.taken, choice.whole) == ((1, 2), frozenset({1}))
    choice = choose_whole([3.0, 9.0], [40, 50], [4, 45], room=44)
    assert (choice.taken, choice.whole) == ((0,), frozenset({0}))


# -- Shows --------------------------------------------------------------------------------------

RARE = [f"rare{'abcdefghi'[i]}" for i in range(9)]


def test_rare_words_are_kept_and_those_before_them_are_not():
    """The reference keeps 0 of the nine, and the nine words before them."""
    words = []
    for i in range(1000):
        words += ["plain"] if (i + 50) % 111 else ["leads", RARE[len(words) // 112]]
    lm = FakeLM({"plain": 0.1, "leads": 0.05} | dict.fromkeys(RARE, 9.0))
    for variant in VARIANTS:
        run = compressed(" ".join(words), choices(0.05, {"variant": variant, "window": 100}), lm)
        kept = run.text(0).split("\n\n")[0].split()
        assert sum(word in RARE for word in kept) in {8, 9}
        assert "leads" not in kept


def halves():
    names = [f"x{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
    return ["plain"] * 200 + names, FakeLM({"plain": 0.05} | dict.fromkeys(names, 5.0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_predictable_half_does_not_vanish(variant):
    """Rate .5 is .5 less one word at most, and in each window (the reference: .2455)."""
    words, lm = halves()
    run = compressed(" ".join(words), choices(0.5, {"variant": variant, "window": 50}), lm)
    count = run.outcome.components[Component.CONTEXT]
    longest = max(ENCODING.count(f" {word}") for word in words)
    assert 0 <= count.before // 2 - count.after < longest
    kept = run.text(0).split()
    assert 80 <= kept.count("plain") <= 120


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("window", [100, 200])
@pytest.mark.parametrize("tokens", [60, 130, 300])
def test_a_short_prompt_and_a_last_window_are_compressed_like_others(tokens, window, variant):
    """300 tokens at .2 give .2, less one word at most (the reference: .47)."""
    text = " ".join(VOCABULARY[i * i % 9] for i in range(tokens))
    run = compressed(text, choices(0.2, {"window": window, "variant": variant}))
    assert run.outcome.components[Component.CONTEXT].before == tokens + 1
    assert 0 <= short_of(run, 0.2 * tokens, text) < 1


def short_of(run, target, text):
    """What is left of the context's target, in its longest words."""
    longest = max(ENCODING.count(f" {word.span.of(text)}") for word in read_words(text))
    return (int(target) - run.outcome.components[Component.CONTEXT].after) / longest


ORDERS = (
    "Answer from the passages alone. Do not guess. Cite a passage by its number. Keep it brief. "
    "Write in plain words. If the passages do not say it, tell the reader so. Use no lists. "
)


def orders(tokens):
    """An instruction of so many tokens, or none."""
    words = (ORDERS * (1 + tokens // 20)).split()
    text = next(t for n in range(len(words)) if ENCODING.count(t := " ".join(words[:n])) >= tokens)
    return text or None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [0, 200, 400, 500])
@pytest.mark.parametrize("budget", ["context", "prompt"])
def test_an_instruction_never_drives_the_context_below_its_planned_share(length, budget, variant):
    """Rate .3 of 300 tokens (the reference: 299 become 1 as the instruction grows)."""
    text = " ".join(VOCABULARY[i * i % 9] for i in range(300))
    method = {"budget": budget, "variant": variant}
    run = compressed(text, choices(0.3, method), system=orders(length))
    counts = run.outcome.components
    before = [counts[component].before for component in Component]
    assert before[0] in {length, length + 1}
    assert sum(before[1:]) == 304
    if budget == "context":
        assert 0 <= short_of(run, 0.3 * before[1], text) < 1
        assert counts[Component.INSTRUCTION].saved == counts[Component.QUESTION].saved == 0
        return
    tau_dems = 0.3 * sum(before) - 0.85 * before[0] - 0.9 * before[2]
    planned = max(tau_dems, int(0.5 * 0.3 * before[1]))
    assert (tau_dems < 0) == (length >= 200)
    assert 0 <= short_of(run, planned, text) < 1
    assert sum(count.after for count in counts.values()) <= 0.3 * sum(before)
    assert run.reasons == {}


@pytest.mark.parametrize("budget", ["context", "prompt"])
@pytest.mark.parametrize(
    ("instruction", "demos", "rate", "infeasible"),
    [
        (400, 3, 0.1, ["prompt"]),
        (400, 1, 0.05, ["context", "prompt"]),
        (0, 1, 0.02, ["context", "prompt"]),
        (900, 2, 0.5, []),
        (100, 8, 0.01, ["context", "prompt"]),
        (30, 8, 0.9, []),
        (0, 8, 0.3, []),
        (2000, 1, 0.3, ["prompt"]),
    ],
)
def test_any_lengths_and_rate_end_in_the_budget_or_the_named_outcome(
    instruction, demos, rate, infeasible, budget
):
    """In six of the eight tau_dems is negative, in three nothing fits whatever the budget."""
    facts = ["The ferry sails at noon unless it rains, and never before 7:15."] * demos
    text = passages(*facts)
    run = compressed(text, choices(rate, {"budget": budget}), system=orders(instruction))
    counts = run.outcome.components
    assert counts[Component.INSTRUCTION].before in {instruction, instruction + 1}
    assert [*run.reasons.values()] == [Reason.BUDGET_INFEASIBLE] * (budget in infeasible)
    tau_dems = rate * sum(c.before for c in counts.values())
    tau_dems -= (
        0.85 * counts[Component.INSTRUCTION].before + 0.9 * counts[Component.QUESTION].before
    )
    assert (tau_dems < 0) == (instruction >= 100 or rate < 0.1)
    if budget in infeasible:
        assert run.sent == run.request.raw
        return
    parts = Component if budget == "prompt" else [Component.CONTEXT]
    assert sum(counts[p].after for p in parts) <= rate * sum(counts[p].before for p in parts)
    if budget == "context":
        assert 0 <= short_of(run, rate * counts[Component.CONTEXT].before, text) < 1


WORKED_EXAMPLES = (TEXTS / "worked_examples.txt").read_text("utf-8").rstrip()
EXAMPLES = WORKED_EXAMPLES.split("\n\n")
CASE = "\n\nQuestion: Bo has 5 apples and eats 2. How many are left?\nLet's think step by step"


def on_examples(target, **method):
    """Eight worked examples and a case, with a target for the examples alone."""
    components = {"context": {"target_tokens": target}}
    run = compressed(WORKED_EXAMPLES, choices(components, {"window": 100, **method}), question=CASE)
    return run, run.text(0).removesuffix(CASE).split("\n\n")


def stand_in_order(part, whole):
    """Whether words, numbers and signs are some of those of ``whole``, as they were written."""
    rest = iter(whole.split())
    return all(word in rest for word in part.split())


def below(run, target, shortened):
    """Tokens left of the target, in words: less than one is less than the longest word."""
    words = [one.span.of(text) for text in shortened for one in read_words(text)]
    left = target - run.outcome.components[Component.CONTEXT].after
    return left / max(ENCODING.count(f" {word}") for word in words)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("target", "number"), [(446, 3), (171, 1), (117, 0)])
def test_whole_examples_come_first_and_the_last_one_is_shortened_to_fit(target, number, variant):
    """A number may be dropped whole and is never altered; nor is a word."""
    run, left = on_examples(target, shorten="last", variant=variant)
    whole = [one for one in left if one in EXAMPLES]
    (shortened,) = [one for one in left if one not in EXAMPLES]
    assert len(whole) == number
    (source,) = [one for one in EXAMPLES if one not in whole and stand_in_order(shortened, one)]
    assert stand_in_order(" ".join(left), WORKED_EXAMPLES)
    assert run.reasons == {}
    assert 0 <= below(run, target, [source]) < 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("target", "number"), [(446, 6), (171, 2), (117, 1)])
def test_examples_are_taken_for_twice_the_budget_and_shortened_to_it(target, number, variant):
    run, left = on_examples(target, shorten="all", variant=variant)
    assert len(left) == number
    assert stand_in_order(" ".join(left), WORKED_EXAMPLES)
    assert 0 <= below(run, target, EXAMPLES) < 1


def test_numbers_are_all_there_where_the_policy_keeps_them():
    _, left = on_examples(446, shorten="last", keep_protected=True)
    for one in left:
        sources = [text for text in EXAMPLES if numbers_of(one) == numbers_of(text)]
        assert [text for text in sources if stand_in_order(one, text)]


def numbers_of(text):
    return [word.span.of(text) for word in read_words(text) if word.protected]


# -- laws ---------------------------------------------------------------------------------------

FACTS = st.lists(
    st.sampled_from(
        [
            "The lighthouse at Skagen was lit in 1858 by Captain Holm.",
            "The bakery sells rye bread for $4.50 on Mondays only.",
            "Der Bahnhof von Ulm wurde nicht 1850 am Fluss eröffnet.",
            "वह नदी उत्तर में बहती है और गहरी नहीं है।",
            "京都的寺庙不是建于1397年。",
            "See https://example.com/a.b?c=1 and “One. Two.” for 🌧️.",
        ]
    ),
    min_size=1,
    max_size=5,
)
METHODS = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(VARIANTS),
        "budget": st.sampled_from(["context", "prompt"]),
        "shorten": st.sampled_from(["all", "last"]),
        "keep_protected": st.booleans(),
    }
)


@examples(60)
@given(FACTS, METHODS, st.sampled_from([0.15, 0.4, 0.6, 0.9]))
def test_what_is_kept_is_the_callers_own_within_the_budget(facts, method, rate):
    text = passages(*facts)
    run = compressed(text, choices(rate, method), system="Answer from the passages below.")
    before, left = text, run.text(1)
    assert is_subsequence(left, before + "\n\nWhat happened?")
    for piece in re.findall(r"[A-Za-z0-9$][\w.,:/?=$]*", left):
        assert piece.rstrip(".,:?") in before + "What happened?"
    counts = run.outcome.components
    if method["budget"] == "context":
        count = counts[Component.CONTEXT]
        assert count.after <= rate * count.before or run.reasons
        assert counts[Component.INSTRUCTION].saved == counts[Component.QUESTION].saved == 0
    assert run.outcome.tokens_after <= run.outcome.tokens_before


@examples(25)
@given(st.lists(FACTS, min_size=2, max_size=3), METHODS)
def test_a_turn_does_not_depend_on_later_ones(parts, method):
    messages = []
    sent = []
    for facts in parts:
        messages.append(user(passages(*facts) + "\n\nWhat happened?"))
        run = Run(messages, choices(0.5, method), answers=LmAnswers())
        sent.append([run.text(i) for i in range(0, len(messages), 2)])
        messages.append(assistant("It did."))
    for earlier, later in pairwise(sent):
        assert later[: len(earlier)] == earlier


def test_negations_of_what_is_kept_stay():
    text = " ".join(["the ferry must not sail before noon unless it rains"] * 20)
    lm = FakeLM({"not": 0.0, "before": 0.0, "unless": 0.0, "must": 0.0})
    left = compressed(text, choices(0.7), lm).text(0)
    for word in ("must", "not", "before", "unless"):
        assert left.count(word) == 20


def test_code_and_data_lose_no_word():
    code = "```python\ndef add(a, b):\n    return a + b\n```"
    text = passages("The pier is long.", "The pier is old.", "The pier is red.") + f"\n\n{code}"
    left = compressed(text, choices(0.6)).text(0)
    assert code in left or "def" not in left


@pytest.mark.parametrize("rate", [0.2, 0.25, 0.33, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_rows_of_data_are_whole_and_within_the_budget(rate):
    """Rows cost other than they were reckoned at: at .33 and at .5 one more has to go."""
    rng = random.Random(5)  # noqa: S311 - a seed, no secret
    keys = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(24)]
    rows = dict(zip(keys[::2], keys[1::2], strict=True))
    run = compressed(f"JSON data:\n{json.dumps(rows, indent=1)}", choices(rate))
    context = run.outcome.components[Component.CONTEXT]
    longest = max(ENCODING.count(f' "{key}": "{value}",\n') for key, value in rows.items())
    assert 0 <= rate * context.before - context.after < 2 * longest
    assert run.reasons == {}
    left = json.loads(run.text(0).removeprefix("JSON data:").removesuffix("What happened?"))
    assert left.items() <= rows.items()


def test_text_that_the_model_cannot_judge_loses_no_word():
    text = "\n\n".join(["Plain words about the harbour at night."] * 6 + ["x&=~(1<<3)|@[{%^}]"] * 2)
    left = compressed(text, choices(0.5)).text(0)
    assert set(re.findall(r"\S*[&~|@]\S*", left)) <= {"x&=~(1<<3)|@[{%^}]"}


def test_a_whole_text_ask_passes_through():
    text = passages("The pier is long.", "The pier is old.")
    run = compressed(
        text, choices(0.5, whole_text="safe"), question="\n\nTranslate all of this into German."
    )
    assert run.reasons == {0: Reason.WHOLE_TEXT}


def test_a_turn_without_a_question_is_compressed_all_the_same():
    text = passages(*["The lighthouse at Skagen was lit by Captain Holm."] * 4)
    messages = [user("What is in it?"), assistant("Send it."), {"role": "user", "content": text}]
    run = Run(messages, choices(0.5), answers=LmAnswers())
    assert run.outcome.tokens_after < run.outcome.tokens_before


def test_an_instruction_alone_is_cut_where_the_policy_says_so():
    system = "Answer at length, and cite what you know. " * 20
    target = {"instruction": {"rate": 0.5}}
    run = Run(
        [{"role": "system", "content": system}, user("What happened?")],
        choices(target),
        answers=LmAnswers(FakeLM()),
    )
    counts = run.outcome.components[Component.INSTRUCTION]
    assert 0 < counts.after <= counts.before // 2
    assert run.text(1) == "What happened?"


def test_the_same_request_gives_the_same_bytes():
    text = passages(*["The lighthouse at Skagen was lit by Captain Holm."] * 4)
    assert compressed(text, choices(0.5)).sent == compressed(text, choices(0.5)).sent


def test_a_turn_that_was_compressed_is_remembered():
    memory = Notes()
    text = passages(*["The lighthouse at Skagen was lit by Captain Holm."] * 4) + "\n\nWhat is lit?"
    first = Run([user(text)], choices(0.5), memory=memory, answers=LmAnswers())
    again = Run([user(text)], choices(0.5), memory=memory, answers=LmAnswers())
    assert (again.sent, again.answers.asked) == (first.sent, [])
