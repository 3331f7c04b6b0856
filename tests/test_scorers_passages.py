import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from proxy.compress.ports import Heard, KeepProbabilities, Passage, SelfInformation
from proxy.scorers.causal_lm import CausalLM
from proxy.scorers.causal_lm import Passage as PlainPassage
from proxy.scorers.ensemble import Ensemble
from proxy.scorers.passages import PassageReader
from proxy.scorers.pooling import drain
from proxy.types import Span

WINDOW = 64
ONE = "the cat sat on "
TWO = "the mat and the "
THREE = "dog sat too"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WINDOW + 1,
        initializer_range=0.3,
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    net = LlamaForCausalLM(config).eval()
    return CausalLM(net, letters, 256, window=WINDOW, revision="tiny")


def whole(text):
    return Heard(text, (Span(0, len(text)),))


def nats(reader, passage):
    return drain(reader.steps([passage]))[0].nats


def after(model, texts):
    """The last text's surprise after the others, read in one go."""
    prefix = model.start()
    for text in texts:
        found, prefix = model.extend(prefix, model.tokenise(text).ids)
    return found


def test_nothing_heard_is_the_plain_score(model):
    (expected,) = drain(model.steps([PlainPassage(ONE)]))
    (got,) = drain(PassageReader(model).steps([Passage(ONE)]))
    assert got.nats.tolist() == expected.nats.tolist()
    assert got.starts.tolist() == list(range(len(ONE)))


@pytest.mark.parametrize("exact", [True, False])
def test_what_was_kept_whole_is_read_as_it_stands(model, exact):
    passage = Passage(THREE, (whole(ONE), whole(TWO)), exact=exact)
    assert nats(PassageReader(model), passage) == pytest.approx(after(model, [ONE, TWO, THREE]))


def test_exact_reading_never_saw_what_was_dropped(model):
    heard = Heard(ONE, (Span(4, 8), Span(12, 15)))
    expected = after(model, ["cat on ", TWO])
    assert nats(PassageReader(model), Passage(TWO, (heard,))) == pytest.approx(expected)


def test_gathered_states_did_see_it(model):
    heard = Heard(ONE, (Span(4, 8), Span(12, 15)))
    _, read = model.extend(model.start(), model.tokenise(ONE).ids)
    kept = [0, *range(5, 9), *range(13, 16)]
    expected, _ = model.extend(read.gather(kept), model.tokenise(TWO).ids)
    got = nats(PassageReader(model), Passage(TWO, (heard,), exact=False))
    assert got == pytest.approx(expected)
    assert got != pytest.approx(nats(PassageReader(model), Passage(TWO, (heard,))))


@pytest.mark.parametrize("exact", [True, False])
def test_reading_window_by_window_equals_asking_afresh(model, exact):
    heard = (Heard(ONE, (Span(0, 4),)), Heard(TWO, (Span(8, 12),)))
    reader = PassageReader(model)
    for passage in (
        Passage(ONE, exact=exact),
        Passage(TWO, heard[:1], exact=exact),
        Passage(THREE, heard, exact=exact),
    ):
        assert nats(reader, passage) == pytest.approx(nats(PassageReader(model), passage))


@pytest.mark.parametrize("exact", [True, False])
def test_a_history_longer_than_the_model_can_hold_is_read_on(model, exact):
    heard = tuple(whole(f"{n} {ONE}") for n in range(20))
    got = nats(PassageReader(model), Passage(TWO * 8, heard, exact=exact))
    assert got.shape == (len(TWO * 8),)
    assert np.isfinite(got).all()


class Says:
    def __init__(self, answer):
        self.answer, self.loaded = answer, 0

    def __call__(self):
        self.loaded += 1
        return self

    def steps(self, _):
        yield 3
        return [self.answer]


class Encoder:
    revision = "enc@1"

    def estimate_tokens(self, text):
        return len(text)


def test_the_others_load_when_first_asked_and_once():
    empty = np.zeros(0, np.float32)
    reader = Says(SelfInformation(empty, empty, empty))
    classifier = Says(KeepProbabilities(empty, empty, empty))
    both = Ensemble(Encoder(), reader=reader, classifier=classifier, names="lm")
    assert (both.revision, reader.loaded, classifier.loaded) == ("enc@1+lm", 0, 0)
    for _ in range(2):
        assert drain(both.passages_steps([Passage("x")])) == [reader.answer]
        assert drain(both.classified_steps(["x"])) == [classifier.answer]
    assert (reader.loaded, classifier.loaded) == (1, 1)


class Counted:
    """A model that counts the tokens it reads on."""

    def __init__(self, model):
        self.model, self.read = model, 0
        self.window, self.revision, self.bands = model.window, model.revision, model.bands
        self.start, self.tokenise, self.steps = model.start, model.tokenise, model.steps

    def extend(self, prefix, ids):
        self.read += len(ids)
        return self.model.extend(prefix, ids)

    def follow(self, prefix, ids):
        self.read += len(ids)
        return self.model.follow(prefix, ids)


@pytest.mark.parametrize("exact", [True, False])
def test_a_long_history_is_not_read_again_for_every_window(model, exact):
    counted = Counted(model)
    reader = PassageReader(counted)
    heard = ()
    for n in range(40):
        text = f"{n:02d} abcde "
        nats(reader, Passage(text, heard, exact=exact))
        heard = (*heard, Heard(text, (Span(0, 3),)))
    assert counted.read < 40 * 9 * 2
