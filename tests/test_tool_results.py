"""What tools returned, from request to request: policy ``agent`` over whole conversations."""

import json

import pytest
from driving import ENCODING, Notes, Run, assistant, examples, user
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import load_policies, shipped_policies
from proxy.policy.schema import Target, ToolResults, WholeText
from proxy.types import Kind, Reason

SHIPPED = load_policies(shipped_policies()).policies["agent"]
AGENT = SHIPPED.model_copy(update={"min_tokens": 0, "whole_text": WholeText.IGNORE})
QUESTION = "What is the status of order ORD-77?"


def called(*results, name="query", arguments='{"table": "orders"}', question=QUESTION):
    """A question, the calls that it led to, and their results."""
    calls = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i in range(len(results))
    ]
    answers = [
        {"role": "tool", "tool_call_id": f"c{i}", "content": result}
        for i, result in enumerate(results)
    ]
    return [user(question), {"role": "assistant", "content": None, "tool_calls": calls}, *answers]


def left(result, choices=AGENT, **call):
    """What is sent of one result."""
    return Run(called(result, **call), choices).text(2)


def row(number):
    return {"order": f"ORD-{number}", "status": "shipped", "city": "Ulm", "amount": 10 + number % 7}


ROWS = [row(i) for i in range(200)]


def test_the_row_that_is_asked_for_is_kept_and_json_stays_json():
    rows = json.loads(left(json.dumps(ROWS)))
    assert row(77) in rows
    assert rows[0] == row(0)
    assert rows[-1] == row(199)
    assert 30 <= len(rows) <= 40
    assert all(each in ROWS for each in rows)


def test_a_row_that_only_the_call_names_is_kept():
    rows = left(json.dumps(ROWS), question="Did it go out?", arguments='{"order": "ORD-133"}')
    assert row(133) in json.loads(rows)


def test_errors_and_outliers_are_kept():
    odd = [row(20) | {"status": "failed"}, row(30) | {"amount": 99_999}, row(40) | {"note": "?"}]
    rows = [*ROWS[:100], *odd, *ROWS[100:]]
    kept = json.loads(left(json.dumps(rows)))
    assert [each for each in odd if each in kept] == odd


def test_how_many_rows_of_json_are_left_out_is_told_beside_it():
    run = Run(called(json.dumps(ROWS)), AGENT)
    gone = 200 - len(json.loads(run.text(2)))
    assert run.outcome.detail == f"{gone} of 200 rows of JSON left out"


def test_what_anyone_says_stays_as_it_was():
    said = "\n\n".join(f"[{i}] The harbour of Ulm has number {i}. It is old." for i in range(60))
    messages = [
        {"role": "system", "content": said},
        *called(json.dumps(ROWS), question=f"{said}\n\n{QUESTION}"),
    ]
    run = Run(messages, AGENT)
    assert (run.text(0), run.text(1)) == (said, f"{said}\n\n{QUESTION}")
    assert len(run.text(3)) < 0.3 * len(json.dumps(ROWS))


def test_a_short_result_stays_beside_a_long_one():
    short = json.dumps([row(i) for i in range(5)])
    run = Run(called(short, json.dumps(ROWS)), AGENT)
    assert run.text(2) == short
    assert row(77) in json.loads(run.text(3))


def test_nothing_is_done_for_few_tokens():
    assert Run(called(json.dumps(ROWS[:9])), SHIPPED).outcome.reason in {
        Reason.TOO_SHORT,
        Reason.NO_CONTEXT,
    }


def test_a_table_tells_how_many_rows_are_left_out():
    lines = [",".join(map(str, each.values())) for each in ROWS]
    kept = left("\n".join(["order,status,city,amount", *lines]) + "\n").split("\n")
    assert kept[0] == "order,status,city,amount"
    assert lines[77] in kept
    rows = kept[1:-2]
    assert kept[-2:] == [f"… {200 - len(rows)} of 200 left out", ""]
    assert all(line in lines for line in rows)


def test_a_log_folds_what_repeats_and_keeps_what_went_wrong():
    lines = [f"10:{i // 60:02d}:{i % 60:02d} INFO beat number {i} of the clock" for i in range(200)]
    lines[120] = "10:02:00 ERROR disk full"
    text = left("\n".join(lines), question="What went wrong?")
    assert lines[120] in text.split("\n")
    assert lines[119] in text
    assert lines[121] in text
    assert f"{lines[0]} (×199)" in text


def test_hunks_keep_the_header_of_their_file():
    hunks = [
        f"@@ -{9 * i},2 +{9 * i},2 @@\n def sail_{i}():\n-    go({i})\n+    go({i + 1})"
        for i in range(1, 60)
    ]
    header = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py"
    text = left("\n".join([header, *hunks]) + "\n", question="What changed in sail_31?")
    assert text.startswith(f"{header}\n@@")
    assert hunks[30] in text
    parts = text.removeprefix(f"{header}\n").split("\n@@")
    assert all(f"@@{part.removeprefix('@@')}" in [*hunks, *parts[-1:]] for part in parts[:-1])


def test_functions_are_whole_and_imports_stay():
    functions = [
        f"def sail_{i}(x):\n    if x:\n        return {i}\n\n    return x" for i in range(60)
    ]
    source = "import os\n\n\n" + "\n\n\n".join(functions) + "\n"
    text = left(source, question="What does sail_31 return?")
    assert text.startswith("import os\n")
    assert functions[31] in text
    kept = [each for each in functions if each in text]
    assert "".join(text.split("\n… ")[0].split()) == "".join(
        "\n".join(["import os", *kept]).split()
    )


def test_hits_of_a_search_are_kept_whole():
    hits = [f"src/{'abc'[i // 50]}.py:{i}:    sail({i}, limit={7 * i})" for i in range(150)]
    text = left("\n".join(hits), question="Where is limit=707?")
    assert hits[101] in text.split("\n")


def test_json_in_a_string_stays_json_in_a_string():
    text = left(json.dumps([{"type": "text", "text": json.dumps(ROWS)}]))
    assert row(77) in json.loads(json.loads(text)[0]["text"])


def test_of_many_long_rows_few_are_read():
    rows = [row(i) | {"note": f"said {i} " * 20} for i in range(2_000)]
    run = Run(called(json.dumps(rows)), AGENT)
    assert row(77)["order"] in run.text(2)
    read = sum(len(d.text) for asked in run.answers.asked for d in asked.documents)
    assert 0 < read < 20_000
    again = Run([*called(json.dumps(rows)), assistant("It is shipped."), user("And ORD-5?")], AGENT)
    assert again.text(2) == run.text(2)
    assert "ORD-5" in again.text(4)
    read = [sum(len(d.text) for d in asked.documents) for asked in again.answers.asked]
    assert max(read) < 20_000


results = st.one_of(
    st.integers(30, 120).map(lambda n: json.dumps([row(i) for i in range(n)])),
    st.integers(30, 120).map(lambda n: "\n".join(f"10:00:01 INFO step {i}" for i in range(n))),
    st.integers(30, 120).map(lambda n: "\n".join(f"a/x.py:{i}:sail({i})" for i in range(n))),
    st.integers(30, 120).map(lambda n: "id,n\n" + "\n".join(f"{i},{i * i}" for i in range(n))),
)


@examples(25)
@given(st.lists(results, min_size=1, max_size=3), st.sampled_from([0.1, 0.2, 0.5]))
def test_results_meet_their_rate_and_stay_the_same_ever_after(made, rate):
    every = AGENT.model_copy(update={"tool_results": ToolResults(only=True)})
    choices = every.with_context(Target(rate=rate))
    messages = called(*made)
    run = Run(messages, choices)
    count = run.outcome.components["context"]
    missed = {Reason.FORCED_OVER_BUDGET, Reason.BUDGET_INFEASIBLE}
    assert run.reasons.get(1) in missed or count.after <= rate * count.before
    later = [*messages, assistant("Fine."), user("Thank you.")]
    for memory in (None, Notes()):
        again = Run(later, choices, memory=memory)
        assert [again.text(2 + i) for i in range(len(made))] == [
            run.text(2 + i) for i in range(len(made))
        ]


# What a tool returned, by kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1}', Kind.JSON),
        ('{"a": 1}\n{"a": 2}\n', Kind.JSON),
        ('"just a string"', Kind.PROSE),
        ('{"a": 1} and more', Kind.PROSE),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b", Kind.DIFF),
        ("src/a.py:3:x = 1\nsrc/b.py:9:y = 2", Kind.SEARCH),
        ("src/a.py\nsrc/b/\nsrc/b/c.py", Kind.SEARCH),
        ("\n\n".join(f"Title {i}\nhttps://a.org/{i}\nText of it." for i in range(4)), Kind.SEARCH),
        ("2024-01-05 10:00:01 INFO up\n2024-01-05 10:00:02 INFO still up", Kind.LOG),
        ("id,name,city\n1,Ada,Ulm\n2,Bo,Oslo", Kind.TABLE),
        ("NAME   READY  STATUS\nweb-1  1/1    Running\nweb-2  0/1    Failed", Kind.TABLE),
        ("     1\tHello.\n     2\tIt is late.", Kind.CODE),
        ("def f():\n    return 1\n", Kind.CODE),
        ("The harbour of Ulm is old.\n\nNobody knows why.", Kind.PROSE),
        ("", None),
    ],
)
def test_a_result_is_of_one_kind(text, kind):
    segments = Run(called(text, "x")).turns[1].segments
    assert [s.kind for s in segments if s.address.message == 2] == [kind][: len(text)]


def test_parts_of_a_result_are_judged_by_themselves():
    parts = [{"type": "text", "text": t} for t in ("2 rows:", '[{"a": 1}, {"a": 2}]')]
    segments = Run(called(parts)).turns[1].segments
    assert [(s.text, s.kind, s.rule) for s in segments] == [
        ("2 rows:", Kind.PROSE, "tool-result"),
        ('[{"a": 1}, {"a": 2}]', Kind.JSON, "tool-result"),
    ]


def test_marks_are_counted():
    text = "\n".join(f"10:00:01 INFO step {i}" for i in range(90))
    run = Run(called(text), AGENT)
    assert run.outcome.components["context"].after == ENCODING.count(run.text(2))
