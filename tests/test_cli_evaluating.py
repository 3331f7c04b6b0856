import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from proxy.cli.commands import app
from proxy.cli.evaluating import Case, Figures, read_cases, summed

LINES = [
    {"prompt": "the old cat sat", "compressed": "cat sat", "answer": "a cat"},
    {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "the cat"}]},
        ],
        "compressed": {"messages": [{"role": "user", "content": "cat"}]},
        "answer": "cat.",
    },
]


def lines(*values):
    return [json.dumps(value).encode() for value in values]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A tiny language model over bytes."""
    path = tmp_path_factory.mktemp("judge")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(["<s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(path)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=257,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            initializer_range=0.4,
            bos_token_id=0,
        )
    ).save_pretrained(path)
    return path


def evaluate(judge, *arguments, source=LINES):
    text = b"\n".join(lines(*source)) + b"\n"
    return CliRunner().invoke(app, ["eval", "--model", str(judge), *arguments], input=text)


def test_cases_are_read_from_text_messages_and_bodies():
    assert list(read_cases([*lines(*LINES), b"\n"])) == [
        Case("the old cat sat", "cat sat", "a cat"),
        Case("be brief\n\nthe cat", "cat", "cat."),
    ]


def test_figures_come_out_as_json_with_each_lines_own(judge):
    found = json.loads(evaluate(judge, "--json").stdout)
    assert (found["cases"], found["answer_tokens"]) == (2, 9)
    assert found["kl"] > 0
    each = found["each"]
    assert found["kl"] == pytest.approx((each[0]["kl"] * 5 + each[1]["kl"] * 4) / 9, abs=1e-5)
    difference = found["nll_compressed"] - found["nll_original"]
    assert found["nll_difference"] == pytest.approx(difference, abs=1e-5)


def test_nll_alone_has_no_divergence(judge):
    found = json.loads(evaluate(judge, "--json", "--metric", "nll").stdout)
    assert found["kl"] is None
    assert found["nll_original"] > 0


def test_people_get_a_table(judge):
    shown = evaluate(judge).stdout
    assert "2 cases" in shown
    assert "KL(compressed || original)" in shown


def test_a_file_is_read(judge, tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_bytes(b"\n".join(lines(*LINES)))
    assert (
        evaluate(judge, "--json", str(path), source=[]).stdout == evaluate(judge, "--json").stdout
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "line 1: found no JSON"),
        (b"[]", "line 1: found list"),
        (b'{"prompt": "a", "answer": "b"}', "line 1: found no text under compressed"),
        (b'{"prompt": "a", "compressed": "a", "answer": ""}', "answer: found 0 tokens"),
        (b"", "found no line"),
    ],
)
def test_what_is_wrong_is_said(judge, line, said):
    found = CliRunner().invoke(app, ["eval", "--model", str(judge)], input=line)
    assert found.exit_code == 2
    assert said in found.output


def test_a_missing_file_is_named(tmp_path):
    found = CliRunner().invoke(app, ["eval", str(tmp_path / "none.jsonl")])
    assert (found.exit_code, "No such file" in found.output) == (2, True)


def test_means_weigh_by_tokens():
    figures = [Figures(1, 2.0, 3.0, 1.0, 0), Figures(3, 4.0, 3.0, 0.0, 1)]
    assert summed(figures) == Figures(4, 3.5, 3.0, 0.25, 1)
