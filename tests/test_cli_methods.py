"""``laconic compress --policy X``, with the models of the package, for every method's policy."""

import json
import logging
import os

import pytest
import structlog
from tiny_models import bert_classifier
from typer.testing import CliRunner

from proxy.cli.commands import app

PASSAGES = """\
The lighthouse at Skagen was lit in 1858 by Captain Holm. Its lamp burned colza oil, which was \
brought by boat twice a year, and it could be seen for 18 sea miles on a clear night.
The bakery of the village sells rye bread for $4.50 on Mondays only. It was founded by two sisters \
who came from Ulm, and the oven that they built is not used any more.
The ferry does not sail before 7:15, unless the wind drops. In winter it crosses the sound four \
times a day, and the crew keep a slate with the level of the water.""".splitlines()
TEXT = "\n\n".join(f"Passage {n}: {text}" for n, text in enumerate(PASSAGES * 2, 1))
QUESTION = "Question: When was the lighthouse at Skagen lit?"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"{TEXT}\n\n{QUESTION}"}]}
RAW = json.dumps(BODY).encode()


@pytest.fixture
def compress(tmp_path, monkeypatch):
    """Runs ``laconic compress`` on the passages, offline; gives exit code, output, statistics."""
    for name in [name for name in os.environ if name.startswith("LACONIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)

    def run(policy, *arguments):
        stats = tmp_path / "stats.jsonl"
        asked = ["compress", "--policy", policy, "--threads", "1", "--stats", stats, *arguments]
        done = CliRunner().invoke(app, [str(part) for part in asked], input=RAW)
        return done.exit_code, done.stdout_bytes, json.loads(stats.read_text())

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def stands_in_order(part, whole):
    rest = iter(whole.split())
    return all(word in rest for word in part.split())


def check_kept(out, stats, policy):
    """The caller's words in their order, the question whole, half of the context at most."""
    (message,) = json.loads(out)["messages"]
    assert message["content"].endswith(QUESTION)
    assert stands_in_order(message["content"], BODY["messages"][0]["content"])
    assert (stats["policy"], stats["reason"], stats["detail"]) == (policy, None, None)
    assert stats["components"]["question"]["before"] == stats["components"]["question"]["after"]
    context = stats["components"]["context"]
    assert 0 < context["after"] <= context["before"] * (0.5 if policy != "lexical" else 0.9)


@pytest.mark.parametrize("policy", ["llmlingua", "selective-context", "longllmlingua", "lexical"])
def test_a_method_compresses_offline_with_what_the_package_holds(compress, policy):
    code, out, stats = compress(policy)
    assert code == 0
    check_kept(out, stats, policy)


def test_without_a_classifier_the_body_passes_and_one_line_says_what_is_wanted(compress):
    code, out, stats = compress("llmlingua2")
    assert (code, out, stats["reason"]) == (1, RAW, "scorer-failed")
    assert stats["detail"] == (
        "LACONIC_CLASSIFIER: found nothing, wanted a token classifier for method llmlingua2,"
        " by name or folder"
    )


def test_any_token_classifier_of_two_labels_will_do(compress, tmp_path, monkeypatch):
    words = sorted({"the", "was", "lit", "and", "it", "by", "water", "night", "bread"})
    folder = bert_classifier(tmp_path / "tiny", words, length=128)
    monkeypatch.setenv("LACONIC_CLASSIFIER", str(folder))
    code, out, stats = compress("llmlingua2")
    assert code == 0
    check_kept(out, stats, "llmlingua2")
    assert {"1858", "$4.50", "7:15,"} <= set(json.loads(out)["messages"][0]["content"].split())
