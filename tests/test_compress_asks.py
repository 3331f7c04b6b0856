import json
from importlib import resources

import numpy as np
import pytest

from proxy.compress.asks import (
    BUCKETS,
    SAFE,
    SURE,
    WholeTextScore,
    features,
    is_overview,
    needs_whole_text,
    read_as_english,
    whole_text_score,
)
from proxy.compress.ports import QuestionVectors
from proxy.policy.schema import WholeText
from proxy.scorers.encoder import EmbeddedEncoder

NOTHING = QuestionVectors(np.zeros(384, np.float32), np.zeros(384, np.float32), 1.0)
UNREAD = QuestionVectors(np.zeros(384, np.float32), np.zeros(384, np.float32), 0.2)


@pytest.fixture(scope="module")
def encoder():
    return EmbeddedEncoder()


def judge(encoder, question, *instructions):
    asked, *instructed = encoder.embed_questions([question, *instructions])
    return whole_text_score(question, asked, instructions, instructed)


WHOLE = [
    "Translate the report into Danish.",
    "Proofread this letter.",
    "Make the second draft sound less stiff.",
    "Summarise the document.",
    "What are the main points?",
    "How many times does the word 'tariff' occur?",
    "List every date in the text.",
    "Is this review positive or negative?",
    "Convert the table to YAML.",
    "Refactor this class.",
    "Review the code below.",
    "Continue the story.",
    "Return the text unchanged, but in upper case.",
    "Who is the landlord? Then translate the whole lease.",
]
LOOKUPS = [
    "Who signed the lease?",
    "When does the museum open on Sundays?",
    "How much did the bridge cost?",
    "Why did the committee reject the second proposal?",
    "Does the warranty cover water damage?",
    "Which flag sets the cache directory?",
    "Tell me the name of the ship's captain.",
    "Summarize the discussion about the parking fees.",
    "Who translated the trilogy into Danish?",
]
FOREIGN_WHOLE = [
    "Übersetze den Bericht ins Dänische.",
    "Kannst du den Aufsatz bitte Korrektur lesen und verbessern?",
    "¿Puedes resumir el documento?",
    "Corrige les fautes de cette lettre.",
    "Riassumi il capitolo.",
    "Resuma o relatório.",
    "Vat het verslag samen.",
    "Przetłumacz raport na duński.",
    "Переведи отчёт на датский.",
    "把这份报告翻译成丹麦语。",
    "レポートを要約してください。",
    "보고서를 요약해 주세요.",
    "इस रिपोर्ट का अनुवाद करो।",
    "لخص التقرير.",
    "Raporu özetle.",
    "Worum geht es in dem Bericht?",
    "Wer ist der Vermieter? Und übersetze dann den ganzen Vertrag.",
]
FOREIGN_LOOKUPS = [
    "Wer hat den Roman übersetzt?",
    "¿Quién tradujo la novela?",
    "Qui a traduit le roman ?",
    "Chi ha tradotto il romanzo?",
    "Quem traduziu o romance?",
    "Wie heeft de roman vertaald?",
    "Kto przetłumaczył powieść?",
    "Кто перевёл роман?",
    "谁翻译了这部小说?",
    "小説を翻訳したのは誰ですか?",
    "누가 그 소설을 번역했나요?",
    "उपन्यास का अनुवाद किसने किया?",
    "من ترجم الرواية؟",
    "Romanı kim çevirdi?",
    "ใครเป็นผู้แปลนวนิยายเรื่องนี้",
    "Was sagt der Vertrag über Haustiere?",
]


@pytest.mark.parametrize("ask", WHOLE)
def test_asks_for_the_whole_text_pass_through_under_safe(encoder, ask):
    assert needs_whole_text(judge(encoder, ask), WholeText.SAFE)


@pytest.mark.parametrize("ask", LOOKUPS)
def test_look_ups_are_selected_for(encoder, ask):
    assert not needs_whole_text(judge(encoder, ask), WholeText.SAFE)


@pytest.mark.parametrize("ask", FOREIGN_WHOLE)
def test_wording_finds_whole_text_asks_that_the_encoder_cannot_read(ask):
    assert needs_whole_text(whole_text_score(ask, UNREAD), WholeText.SAFE)


@pytest.mark.parametrize("ask", FOREIGN_LOOKUPS)
def test_an_interrogative_in_another_language_is_a_look_up_whatever_verb_it_holds(ask):
    expected = WholeTextScore(0.03, "look-up-wording")
    assert expected == whole_text_score(ask, UNREAD)


def test_other_languages_are_told_from_english():
    asks = [
        "Who wrote it?",
        "Wer hat es geschrieben?",
        "¿Quién lo escribió?",
        "谁写的?",
        "Do they ship?",
    ]
    assert [read_as_english(ask, NOTHING) for ask in asks] == [True, False, False, False, True]


def test_what_nobody_understands_gets_the_benefit_of_the_doubt_but_not_certainty():
    score = whole_text_score("Käännä teksti englanniksi.", UNREAD)
    assert WholeTextScore(0.6, "unknown-wording") == score
    assert whole_text_score("Frobnicate the wug with a flurb.", UNREAD) == score
    assert needs_whole_text(score, WholeText.SAFE)
    assert not needs_whole_text(score, WholeText.SURE)


@pytest.mark.parametrize("ask", ["", "  \n", "???", "\ud800"])
def test_an_ask_without_content_needs_everything(ask):
    assert WholeTextScore(1.0, "no-content") == whole_text_score(ask, NOTHING)


def test_ignore_never_passes_through():
    assert not needs_whole_text(WholeTextScore(1.0, "no-content"), WholeText.IGNORE)


def test_safe_stops_more_than_sure():
    between = WholeTextScore((SAFE + SURE) / 2, "head")
    assert [needs_whole_text(between, choice) for choice in (WholeText.SAFE, WholeText.SURE)] == [
        True,
        False,
    ]


TASKS = [
    "Summarize the following article in two sentences.",
    "Translate the user's text to French.",
    "Your task is to proofread what the user sends.",
]
MANNERS = [
    "Answer in French.",
    "Use only the context.",
    "Cite the sentence that supports your answer.",
    "You summarise meetings for people who were not there.",
]
CARRIED = "The committee met on Tuesday in the old town hall and agreed on the budget."


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("question", ["", CARRIED])
def test_an_instruction_decides_where_the_question_asks_nothing(encoder, task, question):
    score = judge(encoder, question, "You are a helpful assistant.", task)
    assert needs_whole_text(score, WholeText.SURE)
    assert score.rule == "instruction:head"


@pytest.mark.parametrize("instruction", [*TASKS, *MANNERS])
def test_a_question_that_asks_for_itself_decides_whatever_the_instructions(encoder, instruction):
    alone = judge(encoder, "Who was absent on Tuesday?")
    assert alone == judge(encoder, "Who was absent on Tuesday?", instruction)
    assert not needs_whole_text(alone, WholeText.SAFE)


@pytest.mark.parametrize("manner", MANNERS)
def test_manners_make_no_task_of_a_look_up_in_statement_form(encoder, manner):
    statement = "I could not find the delivery address."
    assert judge(encoder, statement) == judge(encoder, statement, manner)


def test_the_same_ask_scores_the_same(encoder):
    first = judge(encoder, "Who signed it?")
    assert first == judge(encoder, "Who signed it?")
    assert first.probability == round(first.probability, 4)


def test_instructions_and_vectors_come_in_pairs():
    with pytest.raises(ValueError, match="zip"):
        whole_text_score("", NOTHING, ["Translate it.", "Be brief."], [NOTHING])


@pytest.mark.parametrize(
    "ask", ["a " * 50_000, "¿" * 50_000, "x" * 1_000_000, "\n" * 9 + "z. " * 9_000]
)
def test_any_text_can_be_judged(ask):
    assert 0 <= whole_text_score(ask, NOTHING, [ask], [NOTHING]).probability <= 1


def test_the_task_is_found_at_either_end_of_a_long_ask(encoder):
    filler = "The weather was mild and the road was long. " * 400
    head, tail = f"Translate the text into Danish.\n{filler}", f"{filler}\nTranslate the text."
    seen = [features(ask, NOTHING) for ask in (head, tail, filler)]
    assert not np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[1], seen[2])


def test_the_stored_weights_fit_the_features_and_say_what_they_were_trained_on():
    path = resources.files("proxy.compress").joinpath("data", "asks.npz")
    with path.open("rb") as file, np.load(file) as stored:
        weights, record = stored["weights"], json.loads(str(stored["record"]))
    seen = features("Who?", NOTHING)
    assert weights.shape == seen.shape
    assert seen.shape[0] > 2 * 384 + BUCKETS
    assert not [source for source in record["asks"] if source.startswith(("nq", "xquad", "asks"))]


@pytest.mark.parametrize(
    ("ask", "overview"),
    [
        ("Summarise the whole meeting.", True),
        ("What is this article about?", True),
        ("What were the key takeaways?", True),
        ("Worum geht es in dem Text?", True),
        ("总结这篇文章。", True),
        ("Summarize the discussion about parking.", False),
        ("Who chaired the meeting?", False),
        ("Translate the article into Danish.", False),
        ("Was sagt der Vertrag über Haustiere?", False),
    ],
)
def test_an_overview_is_an_outline_of_the_whole(ask, overview):
    assert is_overview(ask) is overview


@pytest.mark.parametrize(
    ("ask", "whole"),
    [
        ("Translate the whole text into German.", True),
        ("Who opened the canal?", False),
    ],
)
def test_another_encoders_vectors_leave_the_wording_to_decide(ask, whole):
    vectors = QuestionVectors(np.ones(64, np.float32), np.ones(64, np.float32), 1.0, 7)
    assert needs_whole_text(whole_text_score(ask, vectors), WholeText.SAFE) is whole
