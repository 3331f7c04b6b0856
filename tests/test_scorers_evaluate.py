import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from proxy.errors import CallerError
from proxy.scorers.arithmetic import FP32
from proxy.scorers.causal_lm import GRID, CausalLM
from proxy.scorers.evaluate import Divergence, answer_nll, kl
from proxy.scorers.language_models import load_causal_lm

END = "<|endoftext|>"
ORIGINAL = "the old cat sat on the mat and the dog ran far away. "
COMPRESSED = "cat sat mat dog ran away. "
ANSWER = "the cat sat on the mat."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("judge")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([ORIGINAL], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(path)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=280,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=97,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def judge(folder):
    return load_causal_lm(str(folder), runtime=FP32)


def distributions(folder, judge, prompt, answer):
    """Log-probabilities (n, vocabulary) for each token of the answer, all at once."""
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    told, said = judge.tokenise(prompt).ids, judge.tokenise(answer).ids
    with torch.inference_mode():
        logits = model(torch.tensor([[0, *told.tolist(), *said.tolist()]])).logits[0]
    return logits[len(told) : -1].double().log_softmax(dim=-1), said


def test_answer_nll_is_the_models_own(folder, judge):
    logs, said = distributions(folder, judge, ORIGINAL, ANSWER)
    found = answer_nll(judge, ORIGINAL, ANSWER)
    assert found.nats == pytest.approx(-logs[range(len(said)), said].mean().item(), abs=1 / GRID)
    assert (found.tokens, found.cropped) == (len(said), False)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_kl_is_that_of_all_logits_at_once_whatever_the_chunk(folder, judge, chunk):
    parts = (judge._model, judge._tokenizer, judge._bos)
    judge = CausalLM(*parts, window=judge.window, revision="judge")
    p, said = distributions(folder, judge, COMPRESSED, ANSWER)
    q, _ = distributions(folder, judge, ORIGINAL, ANSWER)
    expected = (p.exp() * (p - q)).sum(dim=-1).mean().item()
    found = kl(judge, ORIGINAL, COMPRESSED, ANSWER)
    assert found.nats == pytest.approx(expected, rel=1e-4)
    assert found.nats > 0.01
    assert found.tokens == len(said)


def test_nothing_compressed_diverges_by_nothing(judge):
    tokens = len(judge.tokenise(ANSWER).ids)
    assert kl(judge, ORIGINAL, ORIGINAL, ANSWER) == Divergence(0.0, tokens, cropped=False)


def test_a_prompt_too_long_is_read_from_its_end_and_said_to_be(judge):
    room = judge.window - len(judge.tokenise(ANSWER).ids)
    long = "x" * 200 + ORIGINAL
    ids = judge.tokenise(long).ids[-room:]
    nats, _ = judge.extend(judge.extend(judge.start(), ids)[1], judge.tokenise(ANSWER).ids)
    found = answer_nll(judge, long, ANSWER)
    assert found.nats == pytest.approx(float(np.mean(nats)))
    assert found.cropped
    assert kl(judge, long, ORIGINAL, ANSWER).cropped


@pytest.mark.parametrize("answer", ["", "z" * 60])
def test_an_answer_that_cannot_be_judged_is_refused(judge, answer):
    with pytest.raises(CallerError, match="wanted 1 to 48"):
        answer_nll(judge, ORIGINAL, answer)
