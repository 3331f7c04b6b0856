"""Laws 2, 3, 5, 6, 9 and 12 at the level of a whole request, over random conversations."""

import json

from driving import Answers, Notes, Run, assistant, examples, is_subsequence, passages, policy, user
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import DeadlineExceeded, Overloaded
from proxy.types import Component, Count, Fold, LeftOut, Mark, Quote, Reason, Span
from proxy.wire import leaves_of
from proxy.wire.responses import parse_responses

FACTS = (
    "The lighthouse at Skagen was lit in 1858 by Captain Holm.",
    "The bakery sells rye bread for $4.50 on Mondays only.",
    "Der Bahnhof von Ulm wurde 1850 am Fluss eröffnet.",
    "वह नदी उत्तर में बहती है और गहरी है।",
    "京都的寺庙建于1397年。",
    "السفينة غادرت الميناء في الصباح.",
    "See https://example.com/a.b?c=1 and “One. Two.” for 🌧️.",
    "The ferry does not sail before 7:15, unless the wind drops.",
)
QUESTIONS = (
    "When was the lighthouse at Skagen lit?",
    "How much does the rye bread cost?",
    "Wann wurde der Bahnhof von Ulm eröffnet?",
    "वह नदी कहाँ बहती है?",
    "寺庙建于哪一年？",
    "When does the ferry sail?",
)

facts = st.lists(st.sampled_from(FACTS), min_size=1, max_size=5)
documents = facts.map(lambda chosen: passages(*chosen))
questions = st.sampled_from(QUESTIONS)
rows = facts.map(lambda chosen: json.dumps([{"id": i, "text": f} for i, f in enumerate(chosen)]))
logs = facts.map(
    lambda chosen: "\n".join(f"2024-01-05 10:00:0{i} INFO {f}" for i, f in enumerate(chosen))
)
asks = st.one_of(
    questions.map(user),
    st.tuples(documents, questions).map(lambda pair: user("\n\n".join(pair))),
    st.tuples(questions, documents).map(lambda pair: user("\n\n".join(pair))),
    st.tuples(documents, questions).map(
        lambda pair: {"role": "user", "content": [{"type": "text", "text": t} for t in pair]}
    ),
    st.just(user("Thank you, that was helpful.")),
    st.text(max_size=20).map(user),
)
replies = st.one_of(facts.map(" ".join), questions, documents).map(assistant)
systems = st.one_of(
    st.just([]),
    st.just([{"role": "system", "content": "You answer questions about a harbour town."}]),
    documents.map(lambda text: [{"role": "system", "content": f"Answer from these.\n\n{text}"}]),
)


@st.composite
def calls(draw, number):
    """An assistant's tool calls and their results, which make a turn without a question."""
    count = draw(st.integers(1, 2))
    made = [
        {
            "id": f"c{number}-{i}",
            "type": "function",
            "function": {"name": "find", "arguments": '{"q": "ferry"}'},
        }
        for i in range(count)
    ]
    content = draw(st.sampled_from([None, "Let me look."]))
    yield_ = draw(st.lists(st.one_of(rows, logs, documents), min_size=count, max_size=count))
    results = [
        {"role": "tool", "tool_call_id": c["id"], "content": r}
        for c, r in zip(made, yield_, strict=True)
    ]
    return [{"role": "assistant", "content": content, "tool_calls": made}, *results]


@st.composite
def conversations(draw):
    """Messages that end with a turn still open: what a caller sends last."""
    messages = list(draw(systems))
    for number in range(draw(st.integers(1, 4))):
        if number:
            messages.append(draw(replies))
        messages += draw(st.lists(asks, min_size=1, max_size=2))
        if draw(st.booleans()):
            messages += draw(calls(number))
    return messages


policies = st.sampled_from(
    [
        policy(),
        policy(components={"context": {"rate": 0.25}}, titles=False, neighbours=1),
        policy(components={"context": {"min_relevance": 0.4}}),
        policy(components={"context": {"target_tokens": 60}}, recall={"share": 0.0}),
        policy(min_tokens=40, flat_relevance="pass"),
        policy(flat_relevance="spread", cache_floor_tokens=150),
        policy(components={"context": {"rate": 0.4}, "instruction": {"rate": 0.8}}),
        policy(whole_text="safe"),
    ]
)


def requests(messages):
    """The prefixes of a conversation that its caller sent, in order."""
    ends = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    return [messages[:end] for end in [*ends, len(messages)] if end]


def sent_messages(run):
    """The bytes of each message as the upstream sees them."""
    return [json.dumps(m) for m in json.loads(run.sent)["messages"]]


def unless_restored(before, after):
    """The leading messages that two requests in a row must share."""
    return [] if after.outcome.cache_breaks else sent_messages(before)


@examples(60)
@given(conversations(), policies)
def test_a_compressed_history_is_a_prefix_of_the_next_one(messages, choices):
    """Law 5, without any state (another replica, a restart) and with a memory that is kept."""
    for kept in (None, Notes()):
        previous = None
        for request in requests(messages):
            run = Run(request, choices, memory=kept)
            if previous is not None:
                prefix = unless_restored(previous, run)
                assert sent_messages(run)[: len(prefix)] == prefix
            previous = run


def items(messages):
    """A chat as the items of a responses body."""
    made = []
    for message in messages:
        if message["role"] == "tool":
            call, output = message["tool_call_id"], message["content"]
            made.append({"type": "function_call_output", "call_id": call, "output": output})
            continue
        content = message["content"]
        if isinstance(content, list):
            content = [{**part, "type": "input_text"} for part in content]
        if content is not None:
            made.append({"role": message["role"], "content": content})
        made += [
            {"type": "function_call", "call_id": call["id"], **call["function"]}
            for call in message.get("tool_calls", ())
        ]
    return made


def responses(messages):
    """The request of a responses body that says the same as a chat."""
    return parse_responses(json.dumps({"model": "gpt-4o", "input": items(messages)}).encode())


@examples(40)
@given(conversations(), policies)
def test_a_responses_body_becomes_what_the_same_chat_does(messages, choices):
    """Turns begin and end where they do in chat, and results know the calls that they answer."""
    chat, other = Run(messages, choices), Run(messages, choices, request=responses(messages))
    assert list(other.texts().values()) == list(chat.texts().values())
    assert other.outcome.components == chat.outcome.components


@examples(40)
@given(conversations(), policies, st.booleans())
def test_a_responses_history_is_a_prefix_of_the_next_one(messages, choices, thinks):
    """Law 5: also where what the model made between two turns is nothing but a thought."""
    previous = None
    for request in requests(messages):
        body = items(request)
        if thinks:
            model = [item.get("role") == "assistant" for item in body]
            body = [
                {"type": "reasoning"} if m else item for m, item in zip(model, body, strict=True)
            ]
        raw = json.dumps({"model": "gpt-4o", "input": body}).encode()
        run = Run(request, choices, request=parse_responses(raw))
        sent = json.loads(run.sent)["input"]
        if previous is not None and not run.outcome.cache_breaks:
            assert sent[: len(previous)] == previous
        previous = sent


@examples(40)
@given(conversations(), policies)
def test_a_kept_memory_and_none_come_to_the_same_bytes(messages, choices):
    kept = Notes()
    for request in requests(messages):
        assert Run(request, choices, memory=kept).sent == Run(request, choices).sent


@examples(40)
@given(conversations(), policies, st.one_of(replies, st.text(max_size=40).map(assistant)))
def test_the_closing_answer_does_not_touch_the_turn_it_closes(messages, choices, reply):
    open_turn = sent_messages(Run(messages, choices))
    assert sent_messages(Run([*messages, reply], choices))[:-1] == open_turn


@examples(40)
@given(conversations(), policies)
def test_what_is_kept_is_the_callers_own_and_in_order(messages, choices):
    run = Run(messages, choices)
    leaves = leaves_of(run.request)
    for edit in run.compressed.edits:
        spans = [piece for piece in edit.pieces if isinstance(piece, Span)]
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges)
        assert edges[-1:] <= [len(leaves[edit.address].text)]
        assert is_subsequence(
            "".join(s.of(leaves[edit.address].text) for s in spans), leaves[edit.address].text
        )
        marks = [p for p in edit.pieces if not isinstance(p, Span | Fold | LeftOut)]
        if marks[-1:] == [Mark.ELISION]:
            assert edges == []  # nothing is left of the leaf
            marks.pop()
        assert not marks or (marks[0] is Mark.RECALL_HEADING and marks[-1] is Mark.RECALL_END)
        quotes = [piece for piece in marks if isinstance(piece, Quote)]
        assert all(q.address.message < edit.address.message for q in quotes)


@examples(40)
@given(conversations(), policies)
def test_only_edited_texts_differ(messages, choices):
    run = Run(messages, choices)
    edited = {edit.address for edit in run.compressed.edits}
    rebuilt = json.loads(run.request.raw)["messages"]
    for address, text in run.texts().items():
        message = rebuilt[address.message]
        if address in edited and isinstance(message["content"], str):
            message["content"] = text
        elif address in edited:
            message["content"][address.part]["text"] = text
    assert json.loads(run.sent)["messages"] == rebuilt
    if not edited:
        assert run.sent == run.request.raw


@examples(40)
@given(conversations(), policies)
def test_nothing_is_longer_but_for_what_is_recalled(messages, choices):
    run = Run(messages, choices)
    recalled = sum(r.recalled_tokens for r in run.memory.values())
    assert run.outcome.tokens_after <= run.outcome.tokens_before + recalled
    counts = run.outcome.components
    assert sum(c.before for c in counts.values()) == run.outcome.tokens_before
    assert sum(c.after for c in counts.values()) == run.outcome.tokens_after
    saved = run.outcome.first_saved + run.outcome.repeat_saved
    assert saved == run.outcome.tokens_before - run.outcome.tokens_after


@examples(60)
@given(conversations(), policies)
def test_segments_come_to_what_the_components_do(messages, choices):
    """The tokens of segments, and of what was recalled, are those of the components."""
    memory = Notes()
    for request in requests(messages):
        run = Run(request, choices, memory=memory)
        found = run.compressed.sized
        assert [sized.segments for sized in found] == [turn.segments for turn in run.turns]
        sums = dict.fromkeys(Component, Count())
        for sized in found:
            for segment, size in zip(sized.segments, sized.sizes, strict=True):
                sums[segment.component] += size
            sums[Component.CONTEXT] += Count(0, sized.recalled)
        assert sums == run.outcome.components
        recalling = [e.address for e in run.compressed.edits if Mark.RECALL_HEADING in e.pieces]
        assert [sized.at for sized in found if sized.recalled] == recalling


@examples(40)
@example([user(f"{passages(FACTS[0])}\n\n{QUESTIONS[0]}"), user("\x85")])
@given(conversations())
def test_questions_instructions_and_answers_are_never_shortened(messages):
    choices = policy()
    run = Run(messages, choices)
    texts = run.texts()
    for turn in run.turns:
        for segment in turn.segments:
            whole = segment.component is not Component.CONTEXT
            if whole or messages[segment.address.message]["role"] == "assistant":
                assert segment.text in texts[segment.address]


@examples(40)
@given(conversations())
def test_json_results_stay_json_and_keep_whole_rows(messages):
    texts = Run(messages).texts()
    for address, text in texts.items():
        message = messages[address.message]
        if message["role"] == "tool" and message["content"].startswith('[{"id"'):
            rows_sent = json.loads(message["content"])
            assert all(row in rows_sent for row in json.loads(text))


@examples(30)
@given(conversations(), policies)
def test_the_same_request_comes_out_the_same(messages, choices):
    assert Run(messages, choices).sent == Run(messages, choices).sent


@examples(30)
@given(conversations(), policies, st.sampled_from([Reason.DEADLINE, Reason.OVERLOADED]))
def test_a_turn_that_passed_verbatim_stays_so(messages, choices, reason):
    error = {Reason.DEADLINE: DeadlineExceeded, Reason.OVERLOADED: Overloaded}[reason]("late")
    memory = Notes()
    first = Run(messages, choices, memory=memory, answers=Answers([error]))
    failed = [t for t, why in first.reasons.items() if why is reason]
    again = Run([*messages, assistant("Fine."), user(QUESTIONS[0])], choices, memory=memory)
    still = [t for t, why in again.reasons.items() if why is reason]
    assert still == failed or again.outcome.cache_breaks
    for turn in first.turns:
        if turn.index in failed:
            for message in turn.messages:
                for leaf in message.leaves:
                    assert again.texts()[leaf.address] == leaf.text


def long_conversation():
    """Forty turns: documents, follow-ups, tool calls and their results."""
    messages = [{"role": "system", "content": "You answer questions about a harbour town."}]
    for number in range(40):
        chosen = [FACTS[(number + i) % len(FACTS)] for i in range(6)]
        question = QUESTIONS[number % len(QUESTIONS)]
        if number % 4 == 3:
            call = {"id": f"c{number}", "type": "function"}
            call["function"] = {"name": "find", "arguments": json.dumps({"q": question})}
            result = json.dumps([{"id": i, "text": fact} for i, fact in enumerate(chosen)])
            messages.append(user(question))
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        else:
            alone = number % 4 == 2
            messages.append(user(question if alone else f"{passages(*chosen)}\n\n{question}"))
        messages.append(assistant(chosen[0]))
    return messages[:-1]


def test_a_long_conversation_saves_and_stays_stable_over_a_restart():
    messages = long_conversation()
    memory = Notes()
    previous = []
    for number, request in enumerate(requests(messages)):
        if number == 20:
            memory = Notes()  # a restart
        run = Run(request, memory=memory)
        assert sent_messages(run)[: len(previous)] == previous
        assert run.outcome.cache_breaks == 0
        previous = sent_messages(run)
    edited = {edit.address.message for edit in run.compressed.edits}
    asked = [i for i, m in enumerate(messages) if m["role"] in {"user", "tool"}]
    assert len(edited) >= len(asked) / 2
    assert run.outcome.tokens_after <= 0.75 * run.outcome.tokens_before
