"""Training the encoder's last layers, on a handful of cases."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from safetensors.numpy import load_file, save_file

import train_encoder
from proxy.compress.ports import Document
from proxy.scorers.arithmetic import FP32
from proxy.scorers.encoder import EmbeddedEncoder
from proxy.types import Span
from relevance_data import Passage, lay_out_case
from train_encoder import Batch, lay_out, load_cases, loss_of, read_bert, save_cases

CPU = torch.device("cpu")
YEARS = range(10, 16)


@pytest.fixture(scope="module")
def encoder():
    return EmbeddedEncoder(runtime=FP32)


def case(year):
    text = f"The mill of Kiel is old. It was built in 18{year}. It is empty."
    answer = text.index("18")
    other = "A bridge leads to the island. Nobody knows who built it."
    passages = [Passage(other), Passage(text, (Span(answer, answer + 4),))]
    return lay_out_case("qed", f"When was mill {year} built?", passages)


@pytest.fixture(scope="module")
def laid(encoder):
    return list(lay_out(map(case, YEARS), encoder))


def test_the_document_that_answers_comes_first_and_its_units_are_known(encoder, laid):
    one = laid[0]
    assert len(one.rows) == 3
    assert one.answers.tolist() == [False, True, False, False, False]
    assert one.unit_row.tolist() == [0, 0, 0, 1, 1]
    second = one.rows[1][one.owner[0] == 1]
    assert second.tolist() == encoder.tokenise("It was built in 1810.").ids.tolist()


def test_a_document_longer_than_a_window_is_left_out_and_a_case_without_answer(encoder):
    long = Passage("It was built in 1810. " * 100, (Span(0, 20),))
    assert (
        list(lay_out([lay_out_case("qed", "When?", [long, Passage("A bridge.")])], encoder)) == []
    )


def test_cases_are_read_as_they_were_kept(laid, tmp_path):
    save_cases(laid, tmp_path / "cases.npz")
    found = load_cases(tmp_path / "cases.npz")
    assert len(found) == len(laid)
    for one, other in zip(found, laid, strict=True):
        assert (one.source, one.held_out) == (other.source, other.held_out)
        for mine, theirs in zip(
            (*one.rows, *one.owner, one.unit_row, one.answers),
            (*other.rows, *other.owner, other.unit_row, other.answers),
            strict=True,
        ):
            assert mine.tolist() == theirs.tolist()


def test_the_model_that_is_trained_reads_as_the_proxy_does(encoder):
    ids = encoder.tokenise("The mill stands in Kiel.").ids
    framed = torch.tensor([[101, *ids.tolist(), 102]])
    states = read_bert(train_encoder.SHIPPED).eval()(input_ids=framed).last_hidden_state
    assert np.allclose(states[0, 1:-1].detach().numpy(), encoder.read(ids).final, atol=1e-5)


def test_the_loss_is_that_of_vectors_pooled_as_the_proxy_pools_them(encoder, laid):
    """The slow twin: one case at a time, with the proxy's own vectors."""
    found = loss_of(read_bert(train_encoder.SHIPPED).eval(), Batch.of(laid, CPU))
    for number, year in enumerate(YEARS):
        made = case(year)
        answering, other = made.documents[::-1]
        asked = torch.from_numpy(encoder.embed_questions([made.question])[0].final.copy())
        scores = []
        for document in (answering, other):
            vectors = encoder.embed_documents([Document(document.text, document.units)])[0]
            around = cosine_similarity(torch.from_numpy(vectors.whole.copy()), asked, dim=0)
            near = cosine_similarity(torch.from_numpy(vectors.units.copy()), asked[None])
            scores.append(train_encoder.SCALE * (near + around) / 2)
        joined = torch.cat(scores)
        expected = torch.logsumexp(joined, 0) - joined[1]
        assert found[number].item() == pytest.approx(expected.item(), abs=1e-4)


def run(laid, folder, *options):
    save_cases(laid, folder / "cases.npz")
    sys.argv = ["train_encoder.py", "--out", str(folder), *options]
    train_encoder.main()


def test_training_lowers_the_loss_and_changes_the_last_layers_alone(laid, tmp_path, capsys):
    shown = [*(c for c in laid if not c.held_out)] * 8
    held = [train_encoder.Laid("qed", True, *parts_of(c)) for c in laid[:3]]
    run([*shown, *held], tmp_path, "--rate", "1e-4", "--epochs", "2")
    told = json.loads(capsys.readouterr().out)
    assert told["after"]["qed"] < told["before"]["qed"] - 0.1
    layers = load_file(tmp_path / "layers.safetensors")
    assert {name.split(".")[1] for name in layers} == {"4", "5"}


def parts_of(one):
    return one.rows, one.owner, one.unit_row, one.answers


def test_an_encoder_is_written_part_of_the_way(laid, tmp_path, encoder):
    ours = train_encoder.widened(load_file(train_encoder.SHIPPED / "model.safetensors"))
    moved = {n: a + np.float32(0.01) for n, a in ours.items() if n.startswith("layers.5.norm2")}
    save_file(moved, tmp_path / "layers.safetensors")
    document = Document("The mill stands in Kiel.", (Span(0, 24),))
    before = encoder.embed_documents([document])[0].whole
    distances = []
    for share in ("0", "0.5", "1"):
        out = tmp_path / f"at-{share}"
        run(laid, tmp_path, "--write", str(out), "--share", share)
        written = EmbeddedEncoder(out, FP32)
        assert written.revision.startswith(f"at-{share}@")
        distances.append(np.abs(written.embed_documents([document])[0].whole - before).max())
    assert distances[0] == 0 < distances[1] < distances[2]


def test_without_cases_the_data_are_asked_for(tmp_path):
    sys.argv = ["train_encoder.py", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="not there, wanted it or --data"):
        train_encoder.main()
