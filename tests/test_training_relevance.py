"""Learning relevance, on a handful of records."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import train_relevance
from proxy.types import Span
from relevance_data import Index, Passage, lay_out_case, read_cases
from train_relevance import Example, Turned

SENTENCES = "The mill stands in Kiel. It was built in 1895. Nobody lives there."


def records(count):
    return [
        {
            "question": f"When was mill {number} built?",
            "context": f"Mill {number} is old. It was built in 18{number:02}. It is empty.",
            "answers": [f"18{number:02}"],
            "answer_starts": [len(f"Mill {number} is old. It was built in ")],
        }
        for number in range(10, 10 + count)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "relevance").mkdir()
    path = folder / "relevance" / "extractive_qa_train.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(record) + "\n" for record in records(12))
    return folder


def test_units_that_hold_the_answer_are_marked():
    answer = SENTENCES.index("1895")
    gold = Passage(SENTENCES, (Span(answer, answer + 4),))
    case = lay_out_case("qed", "When?", [gold, Passage("Another town. Another mill.")])
    marked = [
        text.strip() for text, is_answer in zip(case.texts, case.answers, strict=True) if is_answer
    ]
    assert marked == ["It was built in 1895."]
    assert len(case.texts) == len(case.frame) == 5
    assert [span.of(case.documents[0].text) for span in case.spans[0]] == ["1895"]


def test_the_nearest_text_comes_first():
    index = Index([["a", "mill"], ["a", "bridge", "in", "kiel"], ["kiel", "canal"]])
    assert index.nearest(["kiel", "canal"])[0] == 2


def test_cases_are_the_same_each_time_and_distractors_do_not_answer(data):
    cases = list(read_cases(data, {"extractive_qa": 12}))
    assert cases == list(read_cases(data, {"extractive_qa": 12}))
    assert len(cases) == 12
    for case in cases:
        assert sum(case.answers) == 1
        assert len(case.documents) == 12


def test_every_text_is_embedded_once_and_kept(data, tmp_path):
    cases = list(read_cases(data, {"extractive_qa": 12}))
    cache = tmp_path / "vectors.npz"
    first = train_relevance.examples(cases, cache)
    again = train_relevance.examples(cases, cache)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.units, other.units)
    assert len(first[0].units) == len(first[0].around) == len(first[0].answers) == 36
    assert torch.allclose(first[0].units.norm(dim=1), torch.ones(36), atol=1e-5)
    with pytest.raises(SystemExit, match="found vectors of other cases"):
        train_relevance.examples(cases[:3], cache)


def drawn(seed):
    """Make a case in which what answers lies across from the question: a turn can be learnt."""
    generator = torch.Generator().manual_seed(seed)
    question = torch.nn.functional.normalize(torch.randn(8, generator=generator), dim=0)
    units = torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1)
    units[2] = question.roll(1)
    answers = torch.arange(6) == 2
    return Example(
        "made",
        held_out=seed % 5 == 0,
        question=question,
        units=units,
        around=units,
        answers=answers,
    )


def test_training_turns_questions_towards_what_answers_them():
    made = [drawn(seed) for seed in range(200)]
    shown, held = ([e for e in made if e.held_out is out] for out in (False, True))
    model = train_relevance.train(shown, epochs=20, rate=0.05, decay=0.0, seed=0)
    before = train_relevance.mean_loss(Turned(8), held)
    assert train_relevance.mean_loss(model, held) < before / 2
    again = train_relevance.train(shown, epochs=20, rate=0.05, decay=0.0, seed=0)
    assert torch.equal(model.matrix, again.matrix)


def test_no_turn_leaves_the_question_as_it_is():
    question = torch.nn.functional.normalize(torch.randn(8), dim=0)
    assert torch.allclose(Turned(8)(question), question)


def test_the_command_line_trains_and_tells(data, tmp_path, monkeypatch, capsys):
    command = ["train_relevance.py", "--data", str(data), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--sources", "extractive_qa"])
    train_relevance.main()
    assert np.load(tmp_path / "turn.npy").shape == (384, 384)
    assert capsys.readouterr().out.startswith("extractive_qa  held out")
