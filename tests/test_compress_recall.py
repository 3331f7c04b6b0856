from driving import ENCODING, SCORER, Answers, drive, passages, policy, turn

from proxy.compress import recall
from proxy.compress.guarded import Past, Scene, guarded
from proxy.compress.layout import read_material
from proxy.compress.ports import ScoreRequest
from proxy.compress.result import TurnResult, untouched, verbatim
from proxy.policy.schema import Recall
from proxy.types import Address, Component, Mark, Message, Turn

FACTS = (
    "The lighthouse at Skagen was lit by Captain Holm.",
    "The bakery sells rye bread on Mondays only.",
    "The museum keeps a whale skeleton.",
)
NOTHING = verbatim(dict.fromkeys(Component, 0), None)


def earlier(*dropped, recalled=()):
    material = read_material(turn(passages(*FACTS)), policy(), ENCODING)
    numbers = [i for i in range(len(material.units)) if material.text(i) in dropped]
    return TurnResult({}, dropped=frozenset(numbers), material=material, recalled=recalled)


def archive(past):
    return recall.Archive.of(enumerate(past))


def wanted(store, question, **choices):
    chosen = recall.wanted(
        store,
        question,
        SCORER.embed_questions([question])[0],
        store.stacks(SCORER.embed_documents(store.documents)),
        Recall(**{"share": 0.3, **choices}),
    )
    materials = {chapter.turn: chapter.material for chapter in store.chapters}
    return [materials[t].text(number) for t, number in sorted(chosen)]


def test_what_was_dropped_and_is_asked_for_is_wanted():
    store = archive([NOTHING, earlier(FACTS[1], FACTS[2])])
    assert wanted(store, "When does the bakery sell rye bread?")[:1] == [FACTS[1]]


def test_what_is_still_there_is_not_wanted():
    store = archive([earlier(FACTS[2])])
    assert FACTS[1] not in wanted(store, "When does the bakery sell rye bread?")


def test_what_came_back_before_is_not_missing():
    result = earlier(*FACTS[1:])
    back = frozenset((0, number) for number in result.dropped)
    some, other = sorted(back)[:1], sorted(back)[1:]
    missing = [
        archive([result, *(TurnResult({}, recalled=frozenset(b)) for b in backs)]).misses
        for backs in ([], [some], [some, other], [back])
    ]
    assert missing == [True, True, False, False]


def test_a_question_about_something_else_wants_nothing():
    store = archive([earlier(*FACTS)])
    assert wanted(store, "zzwhy zzso?") == []


def test_no_more_than_the_share_is_wanted():
    store = archive([earlier(*FACTS)])
    total = store.chapters[0].material.cost
    for share in (0.05, 0.2, 0.5, 1.0):
        texts = wanted(store, "rye bread whale Holm?", share=share, min_relevance=0.0)
        assert sum(map(ENCODING.count, texts)) <= share * total


def test_a_method_that_asks_again_gets_what_it_asked_for():
    told = {}

    def body(scene, material):
        for question in ("one", "two", "three"):
            told[question] = yield ScoreRequest(questions=(question,))
        return untouched(material, None)

    past = Past(archive([earlier(*FACTS)]))
    asks = turn(passages(*FACTS), question="When does the bakery sell rye bread?")
    answers = Answers()
    result = drive(guarded(Scene(asks, past, policy(), ENCODING), body), answers)
    asked = [(len(request.documents), request.questions) for request in answers.asked]
    assert asked == [(0, (asks.question,)), (3, ("one",)), (0, ("two",)), (0, ("three",))]
    assert [(scores.documents, len(scores.questions)) for scores in told.values()] == [((), 1)] * 3
    assert result.recalled


def test_the_block_quotes_titles_and_units_in_their_order():
    result = earlier(*FACTS)
    store = archive([result])
    chosen = frozenset((0, n) for n in result.dropped if result.material.text(n) != FACTS[0])
    pieces = recall.block(store, chosen)
    text = recall.text_of(pieces, result.material.texts)
    assert text == f"{Mark.RECALL_HEADING}[2] {FACTS[1]}\n[3] {FACTS[2]}\n\n"


def test_neighbours_keep_the_callers_own_gap():
    result = earlier(*FACTS)
    pieces = recall.block(archive([result]), frozenset({(0, 1), (0, 3)}))
    material = result.material
    text = recall.text_of(pieces, material.texts)
    assert text == f"{Mark.RECALL_HEADING}[1] {material.text(1)} {material.text(3)}\n\n"


def test_a_block_lands_before_the_first_user_text():
    assert recall.landing(turn("x")) == Address(0, 0)
    tools = Turn(0, (Message(0, "tool"), Message(1, "user")), (), "q")
    assert recall.landing(tools) is None


def test_an_empty_past_misses_nothing():
    for past in ([], [NOTHING], [earlier()]):
        store = archive(past)
        assert (store.misses, store.documents, store.stacks([])) == (False, (), [])
    assert wanted(store, "rye bread?") == []
