"""Learning which tokens to keep, on a handful of made texts, and how the head is compared."""

import gzip
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import keep_head
import train_keep_head
from fine import forced
from keep_head import Keeping, Use
from proxy.compress.ports import (
    Band,
    Document,
    DocumentVectors,
    Passage,
    QuestionVectors,
    SelfInformation,
)
from proxy.compress.relevance import cosine
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.types import Kind, Span
from train_keep_head import Example, KeepHead, Outcome, Rated, Telling, Text

WIDTH = 8
ANSWER = (Span(3, 5),)  # tokens 3 and 4 of six, one character each


def text(states, nats=None):
    count = len(states)
    nats = torch.zeros(count) if nats is None else torch.tensor(nats)
    document = Document("x" * count, (Span(0, 3), Span(3, count)))
    return Text.of(document, states, np.arange(count), nats)


def drawn(seed):
    """Make a case in which the tokens that answer lie across from the question."""
    generator = torch.Generator().manual_seed(seed)
    question = torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=0)
    states = torch.randn(2, 6, WIDTH, generator=generator)
    states[0, 3:5] = 3 * question.roll(1) + 0.1 * states[0, 3:5]
    return Example(
        "made",
        held_out=seed % 5 == 0,
        question=question,
        texts=tuple(text(each.half()) for each in states),
        spans=(ANSWER, ()),
        answers=np.array([False, True, False, False]),
        frame=np.zeros(4, dtype=bool),
        sizes=np.array([3, 3, 3, 3]),
    )


@pytest.fixture(scope="module")
def encoder():
    return EmbeddedEncoder()


# -- texts as tokens ----------------------------------------------------------------------------


def test_units_pooled_from_tokens_are_those_of_the_encoder(encoder):
    document = Document("The mill in Kiel. 東京は大きい。", (Span(0, 17), Span(18, 25)))
    tokens = train_keep_head.token_document(encoder, document.text)
    (states,), (pooled,) = (encoder.embed_documents([each]) for each in (tokens, document))
    starts = train_keep_head.starts_of(tokens)
    found = Text.of(document, torch.tensor(states.units), starts, torch.zeros(len(starts)))
    assert [span.of(document.text) for span in tokens.units][:3] == ["The ", "mill ", "in "]
    assert np.allclose(cosine(found.parts.numpy()[:1], pooled.units[0]), 1, atol=1e-5)
    assert np.allclose(cosine(found.parts.numpy()[1:], pooled.units[1]), 1, atol=1e-5)
    assert np.allclose(cosine(found.whole.numpy()[None], pooled.whole), 1, atol=1e-5)


def test_what_the_lm_says_goes_to_the_tokens_of_the_encoder():
    nats, ends = np.array([1, 2, 4], dtype=np.float32), np.array([2, 3, 9], dtype=np.int32)
    assert train_keep_head.nats_at(np.array([0, 4]), nats, ends).tolist() == [3, 4]
    units = [Span(0, 3), Span(4, 9)]
    assert train_keep_head.units_at(np.array([0, 3, 4]), units).tolist() == [0, -1, 1]


def test_answers_are_to_be_kept_and_words_beside_them_by_what_they_tell():
    made = text(torch.ones(6, WIDTH), nats=[1.0, 9.0, 2.0, 3.0, 4.0, 8.0])
    assert train_keep_head.targets(made, ANSWER, 0.0).tolist() == [0, 0, 0, 1, 1, 0]
    soft = train_keep_head.targets(made, ANSWER, 0.6)
    assert torch.allclose(soft, torch.tensor([0, 0, 0, 1, 1, 0.6 * 4 / 6]))


# -- the head -----------------------------------------------------------------------------------


def test_the_head_is_the_formula():
    """Beside the fast form, which takes the question into the matrix, the plain one."""
    torch.manual_seed(0)
    head, made = KeepHead(WIDTH, Telling.FEATURE), drawn(1)
    shown = replace(made.texts[0], nats=torch.arange(6.0))
    t = torch.nn.functional.normalize(shown.states.float(), dim=-1)
    q = made.question.expand(6, -1)
    f = [
        t @ made.question,
        (shown.parts @ made.question)[shown.units],
        (shown.whole @ made.question).expand(6),
        torch.log1p(shown.nats),
    ]
    features = torch.cat([WIDTH**0.5 * t, WIDTH**0.5 * q, WIDTH * t * q, torch.stack(f, 1)], 1)
    plain = head.outer(torch.nn.functional.gelu(head.inner(features)))[:, 0]
    assert torch.allclose(head(shown, made.question), plain, atol=1e-5)


def test_training_finds_what_answers_and_the_way_to_rate_units_by_it():
    made = [drawn(seed) for seed in range(60)]
    shown, held = ([e for e in made if e.held_out is out] for out in (False, True))
    head = train_keep_head.train(shown, Telling.NONE, epochs=10, rate=0.03, seed=0)
    cases = [train_keep_head.rated(head, example) for example in held]
    way, _ = train_keep_head.best_way(cases)
    alone = [case.share(way, math.inf, 0.25) for case in cases]
    plain = [case.share(way, 0.0, 0.25) for case in cases]
    assert np.mean(alone) > 0.9 > np.mean(plain)


def test_equal_seeds_train_equal_heads():
    shown = [drawn(seed) for seed in range(8)]
    one, other = (
        train_keep_head.train(shown, Telling.TARGET, epochs=2, rate=0.01, seed=3) for _ in range(2)
    )
    assert torch.equal(one.inner.weight, other.inner.weight)


def test_a_unit_is_worth_its_tokens_in_each_way():
    odds = np.array([0, 0, 0, 9, -9, 0], dtype=np.float32)
    made = text(torch.ones(6, WIDTH))
    found = {
        way: train_keep_head.pooled(odds, made, way).round(3).tolist()
        for way in train_keep_head.POOLS
    }
    assert found == {
        "mean": [0.5, 0.5],
        "max": [0.5, 1.0],
        "top 3": [0.5, 0.5],
        "top 3, log-odds": [0.0, 0.0],
    }


def test_the_best_units_within_the_rate_are_kept():
    case = Rated(drawn(1), np.array([1.0, 3.0, 2.0, 0.0]), {"mean": np.array([4.0, 1, 2, 3])})
    shares = [case.share("mean", factor, 0.25) for factor in (0.0, math.inf)]
    assert shares == [1.0, 0.0]


def test_a_head_is_read_as_it_was_written(tmp_path):
    outcome = Outcome(KeepHead(WIDTH, Telling.FEATURE), "max", 0.5)
    outcome.save(tmp_path / "head.pt")
    found = Outcome.load(tmp_path / "head.pt")
    assert (found.way, found.factor, found.head.telling) == ("max", 0.5, Telling.FEATURE)
    made = drawn(1)
    odds = [each.head(made.texts[0], made.question) for each in (outcome, found)]
    assert torch.equal(*odds)


def test_the_command_line_trains_and_tells(tmp_path, capsys):
    folder = tmp_path / "relevance"
    folder.mkdir()
    with gzip.open(folder / "extractive_qa_train.jsonl.gz", "wt", encoding="utf-8") as out:
        for number in range(10, 22):
            record = {
                "question": f"When was mill {number} built?",
                "context": f"Mill {number} is old. It was built in 18{number}. It is empty.",
                "answers": [f"18{number}"],
                "answer_starts": [len(f"Mill {number} is old. It was built in ")],
            }
            out.write(json.dumps(record) + "\n")
    command = ["--data", str(tmp_path), "--out", str(tmp_path), "--sources", "extractive_qa"]
    train_keep_head.main([*command, "--epochs", "1"])
    assert Outcome.load(tmp_path / "head.pt").head.telling is Telling.TARGET
    assert "extractive_qa  held out" in capsys.readouterr().out


# -- how it is compared -------------------------------------------------------------------------


def test_stand_ins_have_the_cosines_that_are_wanted():
    scores = np.array([-2.0, 0.0, 1.0])
    one = DocumentVectors(np.ones((3, 4), np.float32), np.ones(3, np.int32), np.ones(4, np.float32))
    axis = QuestionVectors(np.eye(4, dtype=np.float32)[0], np.zeros(4, np.float32), 1.0)
    found = keep_head.similarity(keep_head.stand_in(one, scores, 2.0), axis)
    assert np.allclose(found, scores / 4)


def test_a_head_that_counts_for_nothing_changes_nothing():
    pipeline = Keeping(Outcome(KeepHead(384, Telling.NONE), "mean", 1.0))
    facts = [f"Mill {number} was built in 18{number} by a miller of Kiel." for number in range(60)]
    text = "\n\n".join([" ".join(facts), "Who built mill 41, and when?"])
    messages = [{"role": "user", "content": text}]
    found = []
    for units in (0.0, 1e-9, math.inf):
        pipeline.use = Use(units=units)
        found.append(pipeline.run(messages, forced(0.25)).text())
    assert found[0] == found[1] != found[2]


def test_what_the_head_says_of_a_passage_is_laid_on_the_tokens_of_the_lm(encoder):
    pipeline = Keeping(Outcome(KeepHead(384, Telling.NONE), "mean", 1.0))
    document = Document("It was built in Kiel.", (Span(0, 21),))
    passage = Passage(f"Mills\n{document.text}")
    pipeline.use, pipeline.around = Use(words=math.inf), (document,)
    pipeline.hear(encoder.embed_questions(["Where?"])[0])
    ends = np.array([6, 8, 12, 27], dtype=np.int32)  # "Mills\n", "It", " was", the rest
    starts = np.array([0, 6, 8, 12], dtype=np.int32)
    bands = {Kind.PROSE: Band((1.0, 7.0), (2.0, 8.0))}
    rated = SelfInformation(np.ones(4, np.float32), starts, ends, bands)
    kept = np.logaddexp(0, pipeline.odds(document))  # of It was built in Kiel and the full stop
    found = pipeline.told(passage, rated).nats
    assert np.allclose(found, [0, kept[0], kept[1], kept[2:].sum()], atol=1e-4)
    strange = replace(rated, nats=np.full(4, 9, np.float32))
    assert pipeline.told(passage, strange) is strange
