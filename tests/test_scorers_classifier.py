import numpy as np
import pytest
import torch
from tiny_models import SHAPE, bert_classifier, bert_tokenizer, saved
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

from proxy.errors import PolicyError
from proxy.scorers.arithmetic import Arithmetic, Runtime
from proxy.scorers.classifier import TokenClassifier
from proxy.scorers.pooling import drain

TEXT = "the cat sat on the mat . a dog ran far away !"
WORDS = sorted(set(TEXT.split()))


def roberta_tokenizer():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS), "▁", "s"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=20, **names)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return bert_classifier(tmp_path_factory.mktemp("b"), WORDS)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    torch.manual_seed(1)
    config = XLMRobertaConfig(**SHAPE, max_position_embeddings=22, pad_token_id=1)
    model = XLMRobertaForTokenClassification(config)
    return saved(tmp_path_factory.mktemp("x"), roberta_tokenizer(), model)


@pytest.fixture(params=["bert", "roberta"])
def folder(request):
    return request.getfixturevalue(request.param)


def expected(folder, head, tail):
    """What transformers says of TEXT between the special tokens named."""
    kind = BertForTokenClassification if head == 2 else XLMRobertaForTokenClassification
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = kind.from_pretrained(folder).eval()(torch.tensor([[head, *ids, tail]])).logits
    return logits[0, 1:-1].softmax(dim=-1)[:, 1].numpy()


def words_of(text, found):
    return [text[s:e] for s, e in zip(found.starts, found.ends, strict=True)]


def test_probabilities_are_the_models_own_between_its_own_special_tokens(bert, roberta):
    for folder, head, tail in ((bert, 2, 3), (roberta, 0, 2)):
        found = TokenClassifier(str(folder)).classify([TEXT])[0]
        assert np.array_equal(found.keep, expected(folder, head, tail))
        assert words_of(TEXT, found) == TEXT.split()


def test_what_shares_the_batch_changes_nothing(folder):
    model = TokenClassifier(str(folder))
    alone = model.classify([TEXT])[0]
    among = model.classify(["a dog", TEXT, ""])
    assert np.array_equal(among[1].keep, alone.keep)
    assert [len(found.keep) for found in among] == [2, len(TEXT.split()), 0]


def test_in_fixed_shapes_company_changes_nothing_either(folder):
    shaped = TokenClassifier(str(folder), Runtime(Arithmetic.FP32, shape_tokens=200))
    texts = ["a dog", TEXT, "", " ".join([TEXT] * 30), "the mat"]
    found = drain(shaped.steps(texts))
    assert shaped.together == (200, 800)
    for text, among in zip(texts, found, strict=True):
        assert np.array_equal(among.keep, shaped.classify([text])[0].keep)
        expected = TokenClassifier(str(folder)).classify([text])[0]
        assert np.allclose(among.keep, expected.keep, atol=1e-5)
        assert words_of(text, among) == words_of(text, expected)


def test_windows_end_with_sentences_and_are_read_by_themselves(folder):
    model = TokenClassifier(str(folder))
    long = " ".join([TEXT] * 3)
    found = model.classify([long])[0]
    first = long.index("!") + 1
    alone = model.classify([long[:first]])[0]
    assert words_of(long, found) == long.split()
    assert np.array_equal(found.keep[: len(alone.keep)], alone.keep)
    assert len(found.keep) > model.window


def test_special_tokens_spelt_out_are_not_special(bert, roberta):
    for folder, text, special in ((bert, "cat [SEP] dog", 3), (roberta, "cat </s> dog", 2)):
        ids, offsets = TokenClassifier(str(folder))._tokenise(text)
        assert special not in ids
        assert [text[s:e] for s, e in offsets[[0, -1]]] == ["cat", "dog"]


def test_a_lone_surrogate_is_read(folder):
    text = "cat \ud800 dog"
    words = words_of(text, TokenClassifier(str(folder)).classify([text])[0])
    assert (words[0], words[-1]) == ("cat", "dog")


def test_the_label_is_found_by_its_name(bert, tmp_path):
    config = BertConfig.from_pretrained(bert, id2label={0: "preserve", 1: "discard"})
    model = BertForTokenClassification.from_pretrained(bert, config=config)
    named = TokenClassifier(str(saved(tmp_path, bert_tokenizer(WORDS), model))).classify([TEXT])[0]
    plain = TokenClassifier(str(bert)).classify([TEXT])[0]
    assert np.allclose(named.keep, 1 - plain.keep, atol=1e-6)


def test_more_labels_than_two_are_refused(tmp_path):
    model = BertForTokenClassification(BertConfig(**SHAPE, num_labels=5))
    with pytest.raises(PolicyError, match="found 5 labels, wanted 2"):
        TokenClassifier(str(saved(tmp_path, bert_tokenizer(WORDS), model)))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(PolicyError, match="cannot be loaded"):
        TokenClassifier(str(tmp_path / "none"))


def test_equal_weights_have_equal_revisions(bert, roberta):
    revisions = {TokenClassifier(str(folder)).revision for folder in (bert, bert, roberta)}
    assert len(revisions) == 2
