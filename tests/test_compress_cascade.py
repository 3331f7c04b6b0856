from dataclasses import replace

import pytest
from driving import ENCODING, Answers, Run, assistant, drive, passages, policy, turn, user

from proxy.compress.cascade import compress_turn
from proxy.compress.guarded import INSTRUCTION_CHARS, Past, Scene
from proxy.errors import ScorerFailed
from proxy.types import Component, Reason

FACTS = (
    "The lighthouse at Skagen was lit in 1858 by Captain Holm.",
    "The bakery sells rye bread for $4.50 on Mondays only.",
    "The museum keeps a whale skeleton in its cellar.",
)
QUESTION = "Who lit the lighthouse at Skagen?"


def result(text, question=QUESTION, past=None, answers=None, **choices):
    scene = Scene(turn(text, question=question), past or Past(), policy(**choices), ENCODING)
    return drive(compress_turn(scene), answers or Answers())


def test_the_ask_is_heard_first_and_the_documents_after_it():
    answers = Answers()
    result(passages(*FACTS), answers=answers)
    ask, documents = answers.asked
    assert (ask.documents, ask.questions) == ((), (QUESTION,))
    assert documents.questions == ()
    assert [d.text.split()[:3] for d in documents.documents] == [
        ["Passage", "number", str(number)] for number in (1, 2, 3)
    ]


def test_dropped_units_are_named_and_the_material_is_kept_for_recall():
    done = result(passages(*FACTS))
    dropped = {done.material.text(i) for i in done.dropped}
    assert FACTS[0] not in dropped
    assert FACTS[2] in dropped
    assert done.components[Component.CONTEXT].after == done.after


def test_an_error_ends_a_turn_of_its_own_accord():
    with pytest.raises(ScorerFailed):
        result(passages(*FACTS), answers=Answers([ScorerFailed("broke")]))


@pytest.mark.parametrize(
    ("question", "text", "reason"),
    [
        (None, passages(*FACTS), Reason.NO_QUESTION),
        (None, "", Reason.NO_CONTEXT),
        (QUESTION, "", Reason.NO_CONTEXT),
    ],
)
def test_a_turn_with_nothing_to_go_by_asks_for_no_scores(question, text, reason):
    answers = Answers()
    done = result(text, question, answers=answers)
    assert (done.reason, done.edits, answers.asked) == (reason, (), [])


def test_a_target_of_tokens_is_met():
    done = result(passages(*FACTS), components={"context": {"target_tokens": 40}})
    assert 20 < done.components[Component.CONTEXT].after <= 40


def test_a_threshold_keeps_the_best_and_its_title():
    done = result(passages(*FACTS), components={"context": {"min_relevance": 1.0}})
    kept = {i for i in range(len(done.material.units)) if i not in done.dropped}
    assert {done.material.text(i) for i in kept} == {"[1]", FACTS[0]}


def test_a_prompt_is_not_shrunk_below_the_cache_minimum():
    text = passages(*FACTS)
    floor = ENCODING.count(text) - 25
    done = result(text, components={"context": {"rate": 0.1}}, cache_floor_tokens=floor)
    assert floor - 25 <= done.after <= floor
    low = result(text, components={"context": {"rate": 0.4}}, cache_floor_tokens=10**6)
    assert low.after <= 0.4 * low.before


def test_a_threshold_does_not_shrink_a_prompt_below_the_cache_minimum():
    text = passages(*FACTS)
    target = {"context": {"min_relevance": 1.0}}
    floor = ENCODING.count(text) - 25
    done = result(text, components=target, cache_floor_tokens=floor)
    assert floor - 25 <= done.after <= floor
    assert FACTS[0] in {done.material.text(i) for i in range(4)}
    low = result(text, components=target, cache_floor_tokens=10)
    assert low.after == result(text, components=target).after


def test_an_instruction_is_cut_only_where_the_policy_says_so():
    system = {
        "role": "system",
        "content": "You answer for a harbour office. Be brief. Cite the passage. Name no prices.",
    }
    asked = user(f"{passages(*FACTS)}\n\n{QUESTION}")
    assert Run([system, asked]).text(0) == system["content"]
    cut = Run([system, asked], policy(components={"instruction": {"rate": 0.5}}))
    counts = cut.outcome.components[Component.INSTRUCTION]
    assert counts.after <= counts.before // 2
    assert cut.text(1) == asked["content"]


def test_a_long_instruction_is_heard_by_its_head_and_tail():
    text = "Begin here. " + "Go on and on. " * 500 + "End here."
    given_turn = replace(
        turn(passages(*FACTS), question=QUESTION), instructions=(text, "Be brief.")
    )
    answers = Answers()
    drive(compress_turn(Scene(given_turn, Past(), policy(whole_text="safe"), ENCODING)), answers)
    clipped = f"{text[:INSTRUCTION_CHARS]}\n{text[-INSTRUCTION_CHARS:]}"
    assert answers.asked[0].questions == (QUESTION, clipped, "Be brief.")


def test_neighbours_come_along_where_the_budget_allows():
    text = passages(*FACTS)
    alone = result(text, components={"context": {"min_relevance": 1.0}})
    near = result(text, components={"context": {"min_relevance": 1.0}}, neighbours=1)
    assert near.dropped < alone.dropped


def test_the_answer_of_an_earlier_turn_stays_whole():
    reply = assistant(passages(*FACTS))
    run = Run([user(QUESTION), reply, user("And what does the rye bread cost?")])
    assert run.text(1) == reply["content"]


def test_a_budget_that_no_unit_fits_leaves_the_text_whole_and_says_so():
    got = result("word " * 300, components={"context": {"rate": 0.5}}, min_tokens=0)
    assert (got.edits, got.reason) == ((), Reason.BUDGET_INFEASIBLE)


def test_log_lines_that_tell_of_trouble_come_first():
    lines = [f"10:00:{i:02d} INFO worker ran job {i}" for i in range(30)]
    lines[17] = "10:00:17 ERROR disk quota exceeded"
    run = Run([user("Here is our log:\n\n" + "\n".join(lines) + "\n\nWhich job ran at 10:00:03?")])
    assert lines[17] in run.text(0)
    assert run.outcome.reason is None


def test_tool_results_are_rated_against_the_call_that_they_answer():
    call = {
        "id": "a",
        "type": "function",
        "function": {"name": "search", "arguments": '{"query": "rye bread price"}'},
    }
    messages = [
        user("Please look that up."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": passages(*FACTS)},
    ]
    assert FACTS[1] in Run(messages).text(2)
    assert FACTS[2] not in Run(messages, policy(components={"context": {"rate": 0.4}})).text(2)
