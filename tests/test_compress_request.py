import itertools
import json
from functools import cache

import pytest
from driving import ENCODING, Answers, Notes, Run, assistant, body, examples, passages, policy, user
from hypothesis import given
from hypothesis import strategies as st

from proxy import tagging
from proxy.compress import keep_verbatim
from proxy.compress.layout import read_material
from proxy.compress.reading import READ_CHARS
from proxy.compress.request import too_short
from proxy.compress.result import verbatim
from proxy.errors import DeadlineExceeded, Overloaded, ScorerFailed
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.tagging.turns import Tagged
from proxy.types import Component, Mark, Reason
from proxy.wire import parse_chat

FACTS = (
    "The lighthouse at Skagen was lit in 1858 by Captain Holm.",
    "The bakery sells rye bread for $4.50 on Mondays only.",
    "The ferry does not sail before 7:15, unless the wind drops.",
    "The museum keeps a whale skeleton in its cellar.",
    "The old mayor planted forty lime trees along the quay.",
)
DOCUMENTS = passages(*FACTS)
LIGHTHOUSE = user(f"{DOCUMENTS}\n\nWho lit the lighthouse at Skagen?")
BREAD = user("What does the rye bread of the bakery cost?")


def reasons(messages, **choices):
    return Run(messages, policy(**choices)).reasons


def test_a_question_with_documents_keeps_the_question_and_what_it_asks_for():
    run = Run([LIGHTHOUSE])
    assert run.text(0).endswith("Who lit the lighthouse at Skagen?")
    assert FACTS[0] in run.text(0)
    outcome = run.outcome
    assert outcome.reason is None
    assert outcome.components[Component.QUESTION].saved == 0
    assert 0 < outcome.first_saved == outcome.tokens_before - outcome.tokens_after
    context = outcome.components[Component.CONTEXT]
    assert context.after <= context.before // 2


def test_without_context_a_turn_passes():
    run = Run([user("Who lit the lighthouse at Skagen?")])
    assert (run.sent, run.reasons) == (run.request.raw, {0: Reason.NO_CONTEXT})
    assert run.answers.asked == []


def test_a_short_context_passes():
    run = Run([LIGHTHOUSE], policy(min_tokens=5000))
    assert (run.sent, run.reasons) == (run.request.raw, {0: Reason.TOO_SHORT})
    assert run.answers.asked == []


def test_without_a_question_a_turn_passes():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": DOCUMENTS},
    ]
    assert reasons(messages)[1] is Reason.NO_QUESTION


def test_nothing_that_stands_out_passes_or_is_spread():
    asked = user(f"{DOCUMENTS}\n\nzzwhat zzis zzthe zzmatter?")
    assert reasons([asked], flat_relevance="pass") == {0: Reason.FLAT_RELEVANCE}
    spread = Run([asked], policy(flat_relevance="spread", overview_rate=0.7))
    context = spread.outcome.components[Component.CONTEXT]
    assert 0.5 * context.before < context.after <= 0.7 * context.before


def test_a_breakpoint_protects_its_turn_and_those_before():
    marked = {
        "role": "user",
        "content": [
            {"type": "text", "text": LIGHTHOUSE["content"], "cache_control": {"type": "ephemeral"}}
        ],
    }
    messages = [LIGHTHOUSE, assistant("Holm."), marked]
    assert reasons(messages) == {0: Reason.BREAKPOINT, 1: Reason.BREAKPOINT}
    assert Run(messages).sent == body(messages)
    assert reasons(messages, respect_breakpoints=False) == {}


def test_what_would_save_nothing_is_left_alone():
    run = Run([LIGHTHOUSE], policy(components={"context": {"min_relevance": 0.0}}))
    assert run.sent == run.request.raw or run.outcome.first_saved > 0
    whole = Run([LIGHTHOUSE], policy(components={"context": {"rate": 0.999}}, titles=False))
    assert whole.outcome.tokens_after <= whole.outcome.tokens_before
    kept = Run([LIGHTHOUSE], policy(components={"context": {"target_tokens": 10**6}}))
    assert (kept.sent, kept.reasons) == (kept.request.raw, {0: Reason.NEVER_LONGER})


def test_audit_measures_and_says_so():
    run = Run([LIGHTHOUSE], policy(mode="audit"))
    assert run.outcome.reason is Reason.AUDIT
    assert run.outcome.first_saved > 0


def test_tool_results_stay_json_with_whole_rows():
    rows = [{"id": i, "text": fact} for i, fact in enumerate(FACTS)]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"q": "bread"}'}}
    messages = [
        BREAD,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": json.dumps({"rows": rows})},
    ]
    kept = json.loads(Run(messages).text(2))["rows"]
    assert 0 < len(kept) < len(rows)
    assert rows[1] in kept
    assert all(row in rows for row in kept)


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Overloaded("full"), Reason.OVERLOADED),
        (DeadlineExceeded("late"), Reason.DEADLINE),
        (ScorerFailed("broke"), Reason.SCORER_FAILED),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_a_failure_leaves_its_turn_verbatim_for_good_and_no_other(error, reason, step):
    memory = Notes()
    first = Run([LIGHTHOUSE], memory=memory, answers=Answers([None] * step + [error]))
    assert (first.sent, first.reasons) == (first.request.raw, {0: reason})
    later = Run([LIGHTHOUSE, assistant("Holm."), LIGHTHOUSE], memory=memory)
    assert later.reasons == {0: reason}
    assert later.text(0) == LIGHTHOUSE["content"]
    assert len(later.text(2)) < len(LIGHTHOUSE["content"])


def test_an_edit_that_the_upstream_refused_is_not_made_again():
    memory = Notes()
    first = Run([LIGHTHOUSE], memory=memory)
    assert first.sent != first.request.raw
    keep_verbatim(first.compressed, first.turns, memory)
    again = Run([LIGHTHOUSE], memory=memory)
    assert (again.sent, again.reasons) == (again.request.raw, {0: Reason.REFUSED_EDITED})


def test_turns_that_a_refusal_does_not_concern_are_compressed_as_before():
    memory = Notes()
    small_talk = [user("Hello?"), assistant("Yes?")]
    first = Run([*small_talk, LIGHTHOUSE], memory=memory)
    keep_verbatim(first.compressed, first.turns, memory)
    again = Run([*small_talk, LIGHTHOUSE], memory=memory)
    assert again.reasons == {0: Reason.NO_CONTEXT, 1: Reason.REFUSED_EDITED}


# -- memory -------------------------------------------------------------------------------------


def test_what_is_remembered_is_not_scored_again():
    memory = Notes()
    first = Run([LIGHTHOUSE], memory=memory)
    again = Run([LIGHTHOUSE], memory=memory)
    assert again.answers.asked == []
    assert again.sent == first.sent
    assert (first.outcome.scored_tokens, again.outcome.scored_tokens) == (2, 0)


def test_what_is_remembered_weighs_more_than_its_texts():
    def weight(text):
        run = Run([user(text)])
        (turn,) = run.turns
        layout, *_ = run.memory.values()
        made = read_material(turn, run.policy, ENCODING)
        tagged = Tagged(turn.segments, turn.digest, turn.question, turn.instructions)
        return [each.weight_bytes for each in (layout, tagged, *made.cuts)]

    small, large = (
        weight(LIGHTHOUSE["content"]),
        weight(f"{DOCUMENTS}\n\n" * 100 + BREAD["content"]),
    )
    assert all(a > len(LIGHTHOUSE["content"]) for a in small)
    assert all(b - a > 99 * len(DOCUMENTS) for a, b in zip(small, large, strict=True))
    assert verbatim(dict.fromkeys(Component, 0), Reason.TOO_SHORT).weight_bytes < small[0]


def test_a_later_turn_costs_its_own_work_only():
    memory = Notes()
    Run([LIGHTHOUSE], memory=memory)
    later = Run([LIGHTHOUSE, assistant("Holm."), BREAD], memory=memory)
    asked = [question for request in later.answers.asked for question in request.questions]
    assert asked == [BREAD["content"]]


def test_recall_asks_for_no_document_that_was_read_in_its_own_turn():
    memory = Notes()
    messages = [LIGHTHOUSE, assistant("Holm."), BREAD]
    Run([LIGHTHOUSE], memory=memory)
    later = Run(messages, memory=memory)
    assert [document for request in later.answers.asked for document in request.documents] == []
    assert FACTS[1] in later.text(2)


def test_recall_asks_for_the_documents_of_a_method_that_read_none():
    method = {"name": "lexical"}
    first, later = Run([LIGHTHOUSE], policy(method=method)), [LIGHTHOUSE, assistant("Holm."), BREAD]
    run = Run(later, policy(method=method), memory=first.memory)
    asked = [document for request in run.answers.asked for document in request.documents]
    (turn, _) = run.turns
    assert asked == [*read_material(turn, run.policy, ENCODING).embeddable]
    assert FACTS[1] in run.text(2)


def test_of_long_data_recall_asks_for_what_the_new_question_names():
    names = ["the mill of Norden", "the ferry of Skagen"]
    rows = [{"number": n, "text": f"{names[n % 2]} has {n} boards " * 5} for n in range(120)]
    ask = user(f"{json.dumps(rows)}\n\nHow many boards has the mill of Norden?")
    later = user(f"{passages(*FACTS[3:])}\n\nHow many boards has the ferry of Skagen?")
    run = Run([ask, assistant("Sixty."), later])
    own = read_material(run.turns[1], run.policy, ENCODING).embeddable
    (asked,) = [r.documents for r in run.answers.asked if r.turn == 1 and r.documents]
    assert asked[: len(own)] == own
    earlier = [document.text for document in asked[len(own) :]]
    assert sum(map(len, earlier)) <= READ_CHARS < len(ask["content"])
    assert sum("ferry" in text for text in earlier) > len(earlier) / 2
    assert run.text(2).startswith(f"{Mark.RECALL_HEADING}")
    assert run.outcome.recalled_tokens > 0


def test_of_rows_too_long_to_be_read_words_decide():
    rows = [{"name": name, "text": f"{name} and more " * 1200} for name in ("elm", "oak", "yew")]
    run = Run(
        [user(f"{json.dumps(rows)}\n\nWhat is said of the oak?")], policy(flat_relevance="pass")
    )
    assert [document for request in run.answers.asked for document in request.documents] == []
    (kept,) = json.loads(run.text(0).split("\n\n")[0])
    assert kept["name"] == "oak"


@pytest.mark.parametrize(
    "other",
    [policy(components={"context": {"rate": 0.3}}), policy(titles=False)],
)
def test_another_policy_is_another_memory(other):
    memory = Notes()
    Run([LIGHTHOUSE], memory=memory)
    assert Run([LIGHTHOUSE], other, memory=memory).answers.asked


def test_figures_of_a_later_request_are_first_seen_and_repeated():
    first = Run([LIGHTHOUSE]).outcome
    later = Run([LIGHTHOUSE, assistant("Holm."), user("Thanks, who was it?")]).outcome
    assert later.repeat_saved == first.first_saved
    assert later.first_saved == -later.recalled_tokens


# -- recall and restoring -----------------------------------------------------------------------


def test_a_follow_up_brings_back_what_it_needs_under_the_heading_once():
    messages = [LIGHTHOUSE, assistant("Holm."), BREAD]
    run = Run(messages)
    assert FACTS[1] not in run.text(0)
    expected = f"{Mark.RECALL_HEADING}[2] "
    assert run.text(2).startswith(expected)
    assert FACTS[1] in run.text(2)
    assert run.text(2).endswith(f"{Mark.RECALL_END}{BREAD['content']}")
    assert run.outcome.recalled_tokens > 0
    again = Run([*messages, assistant("$4.50."), BREAD])
    assert again.text(2) == run.text(2)
    assert FACTS[1] not in again.text(4)


def test_nothing_is_recalled_into_the_result_of_a_tool():
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asks = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "a", "content": passages(*FACTS[2:])}
    run = Run([LIGHTHOUSE, asks, result])
    assert 0 < len(run.text(2)) < len(result["content"])
    assert run.outcome.recalled_tokens == 0


def test_nothing_is_recalled_for_a_system_message_that_asks():
    asks = {"role": "system", "content": BREAD["content"]}
    run = Run([LIGHTHOUSE, assistant("Holm."), asks])
    assert run.turns[1].own_question
    assert (run.text(2), run.outcome.recalled_tokens) == (asks["content"], 0)


def test_recall_keeps_to_its_share_and_can_be_off():
    messages = [LIGHTHOUSE, assistant("Holm."), BREAD]
    run = Run(messages, policy(recall={"share": 0.15, "min_relevance": 0.0}))
    context = run.outcome.components[Component.CONTEXT].before
    titles = 4 * len(FACTS) + 12  # tokens of numbers, heading and ends
    assert run.outcome.recalled_tokens <= 0.15 * context + titles
    off = Run(messages, policy(recall={"share": 0.0}))
    assert off.text(2) == BREAD["content"]


@cache
def shipped_encoder():
    """The encoder that knows what an ask means."""
    return EmbeddedEncoder()


TRANSLATE = user("Translate all of the text above into German, word for word.")


def test_a_whole_text_ask_passes_with_its_text():
    asked = user(f"Translate the following text into German.\n\n{DOCUMENTS}")
    run = Run([asked], policy(whole_text="safe"), answers=Answers(scorer=shipped_encoder()))
    assert (run.sent, run.reasons) == (run.request.raw, {0: Reason.WHOLE_TEXT})


def test_a_whole_text_ask_about_earlier_text_restores_it_once_and_for_good():
    choices = policy(whole_text="safe")

    def run(*messages):
        return Run(messages, choices, answers=Answers(scorer=shipped_encoder()))

    first = run(LIGHTHOUSE)
    assert first.sent != first.request.raw
    history = [LIGHTHOUSE, assistant("Holm.")]
    second = run(*history, TRANSLATE)
    assert second.sent == second.request.raw
    assert second.reasons == {0: Reason.RESTORED, 1: Reason.WHOLE_TEXT}
    assert second.outcome.cache_breaks == 1
    assert second.outcome.busted_tokens == first.outcome.tokens_before + ENCODING.count("Holm.")
    third = run(*history, TRANSLATE, assistant("Der Leuchtturm ..."), BREAD)
    assert third.sent == third.request.raw
    assert (third.outcome.cache_breaks, third.outcome.busted_tokens) == (0, 0)


def test_a_turn_that_was_not_edited_is_not_called_restored():
    history = [user("Hello?"), assistant("Yes?"), LIGHTHOUSE, assistant("Holm.")]
    run = Run(
        [*history, TRANSLATE],
        policy(whole_text="safe"),
        answers=Answers(scorer=shipped_encoder()),
    )
    assert run.sent == run.request.raw
    assert run.reasons == {0: Reason.NO_CONTEXT, 1: Reason.RESTORED, 2: Reason.WHOLE_TEXT}


def test_turns_are_told_by_what_was_sent_whatever_the_policy():
    messages = [LIGHTHOUSE, assistant("Holm."), BREAD]
    some, less = (
        Run(messages, policy(components={"context": {"rate": rate}})) for rate in (0.6, 0.3)
    )
    told = [[(turn.text, turn.closing) for turn in run.compressed.turns] for run in (some, less)]
    assert told[0] == told[1]
    assert [turn.edits for turn in some.compressed.turns] != [
        turn.edits for turn in less.compressed.turns
    ]


def test_the_turns_tokens_come_to_the_requests():
    run = Run([LIGHTHOUSE, assistant("Holm."), BREAD])
    turns = run.compressed.turns
    assert [turn.closing_tokens for turn in turns] == [ENCODING.count("Holm."), 0]
    said = sum(turn.closing_tokens for turn in turns)
    assert sum(turn.tokens.before for turn in turns) + said == run.outcome.tokens_before
    assert sum(turn.tokens.after for turn in turns) + said == run.outcome.tokens_after
    assert turns[-1].tokens.saved == run.outcome.first_saved


def test_the_instructions_in_force_are_asked_about_too():
    messages = [{"role": "system", "content": "You answer questions."}, LIGHTHOUSE]
    run = Run(messages, policy(whole_text="safe"))
    (first, *_) = run.answers.asked
    assert "You answer questions." in first.questions


def test_no_message_at_all_is_no_context():
    request = tagging.turns(Run([LIGHTHOUSE]).request, policy().tagging)
    assert len(request) == 1
    none = Run([], request=parse_chat(body([])))
    assert (none.sent, none.outcome.reason) == (body([]), Reason.NO_CONTEXT)
    assert Run([assistant("Hello.")]).sent == body([assistant("Hello.")])


def test_a_breakpoint_that_comes_later_finds_no_stale_memory():
    marked = {**LIGHTHOUSE, "cache_control": {"type": "ephemeral"}}
    tail = [assistant("Holm."), BREAD]
    memory = Notes()
    assert Run([LIGHTHOUSE, *tail], memory=memory).outcome.recalled_tokens > 0
    kept, fresh = Run([marked, *tail], memory=memory), Run([marked, *tail])
    assert kept.sent == fresh.sent == body([marked, *tail])


def test_a_missed_budget_is_told_though_something_was_recalled():
    choices = policy(components={"context": {"target_tokens": 30}}, recall={"share": 1.0})
    endless = user(f"Here is the report:\n\n{'bread ' * 200}\n\n{BREAD['content']}")
    run = Run([LIGHTHOUSE, assistant("Holm."), endless], choices)
    assert run.outcome.recalled_tokens > 0
    assert run.reasons[1] is Reason.BUDGET_INFEASIBLE


@examples(60)
@given(
    st.lists(
        st.sampled_from(["Hi.", "Who wrote Faust?", LIGHTHOUSE["content"], "word " * 30]),
        min_size=1,
    ),
    st.sampled_from([0, 1, 40, 300]),
)
def test_a_request_that_is_too_short_comes_out_as_if_it_had_been_looked_into(texts, least):
    choices = policy(min_tokens=least)
    roles = itertools.cycle(["user", "assistant"])
    run = Run([{"role": next(roles), "content": text} for text in texts], choices)
    short = too_short(texts, choices, ENCODING)
    if short is not None:
        found = run.compressed
        assert found.edits == ()
        assert short.tokens_before == found.outcome.tokens_before < least
        assert short.tokens_after == found.outcome.tokens_after
