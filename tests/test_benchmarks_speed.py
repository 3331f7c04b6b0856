"""What the speed benchmarks are made of: figures, tables, plots, and a small run of each kind."""

import argparse
import asyncio
import gzip
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import gpu
import memory
import plotting
import published
import relay
import scale
from proxy.tokens import encoding_for
from published import Findings, publish

PASSAGE = (
    "The lighthouse at Skagen was lit in 1858. It stands on sand, and its keeper left in 1987."
)


@pytest.fixture
def passages(tmp_path, monkeypatch):
    """A data folder of one question with some hundred passages."""
    record = {
        "question": "when was the lighthouse lit",
        "gold": {"title": "Skagen", "text": PASSAGE},
        "distractors": [
            {"title": "Rivers", "text": "Barges carried salt. The railway came in 1862."},
            *(
                {
                    "title": f"Bridge {n}",
                    "text": f"It has {n} arches. It was widened in 1900 and again later.",
                }
                for n in range(100)
            ),
        ],
    }
    (tmp_path / "eval").mkdir()
    with gzip.open(tmp_path / "eval" / "nq_30docs_dev.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    monkeypatch.setenv("LACONIC_DATA", str(tmp_path))
    import workshop  # noqa: PLC0415 - reads the folder when used

    return workshop.Passages()


def test_findings_are_printed_written_as_json_and_put_into_a_page(tmp_path, capsys):
    page, file = tmp_path / "page.md", tmp_path / "found.json"
    page.write_text("# Speed\n<!-- x -->\nold\n<!-- /x -->\nrest\n")
    publish(Findings("x", "| new |", {"ms": 3}), argparse.Namespace(json=file, write=page))
    assert capsys.readouterr().out == "| new |\n"
    assert page.read_text() == "# Speed\n<!-- x -->\n| new |\n<!-- /x -->\nrest\n"
    found = json.loads(file.read_text())
    assert (found["benchmark"], found["ms"]) == ("x", 3)
    assert f"{os.cpu_count()} cores" in found["machine"]


def test_growth_is_the_exponent_of_the_larger_half():
    sizes = (1, 2, 4, 8, 16, 32)
    series = scale.Series(sizes, tuple(3.0 * n for n in sizes), tuple(float(n**2) for n in sizes))
    assert series.growth(series.cold) == pytest.approx(1)
    assert series.growth(series.warm) == pytest.approx(2)


def test_ratios_are_taken_round_by_round():
    assert relay.ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0


def test_a_prompt_is_about_as_long_as_asked_and_the_same_for_the_same_seed(passages):
    prompt = passages.prompt(300, seed=4, question=9)
    assert passages.prompt(300, seed=4, question=9) == prompt
    assert passages.prompt(300, seed=5, question=9) != prompt
    (message,) = json.loads(prompt)["messages"]
    assert message["content"].startswith("[1] ")
    assert message["content"].endswith("\n\nwhen was the lighthouse lit?")
    assert 290 <= encoding_for("gpt-4o").count(message["content"]) <= 350


def test_texts_that_are_dealt_have_no_passage_in_common(passages):
    texts = passages.deal(40, texts=30)
    assert all(40 <= encoding_for("gpt-4o").count(text) <= 80 for text in texts)
    dealt = [line.partition(" ")[2] for text in texts for line in text.splitlines()]
    assert len(set(dealt)) == len(dealt) >= 60
    with pytest.raises(ValueError, match=r"found no more passages, wanted \d+ tokens of them"):
        passages.deal(40, texts=100)


def test_a_small_run_of_scale_has_every_figure(passages, monkeypatch):
    monkeypatch.setattr(scale, "TURN_TOKENS", 15)

    async def run():
        import workshop  # noqa: PLC0415 - once the folder is there

        async with workshop.workshop("rag", threads=1) as house:
            tokens = await scale.by_tokens(house, passages, 2_000)
        return tokens, await scale.by_turns(passages, threads=2, trials=1)

    tokens, turns = asyncio.run(run())
    assert tokens.sizes == (1_000, 2_000)
    assert (len(turns.long), len(turns.early), len(turns.late)) == (scale.TURNS, 8, 8)
    assert all(cost > 0 for cost in (*tokens.cold, *tokens.warm))
    told = scale.report(tokens, tokens, turns, "rag")
    assert "growth" in told.text
    assert len(told.figures["turns_ms"]) == scale.TURNS


def test_memory_tells_what_a_prompt_added():
    found = {
        n: {"tokens": n, "before_bytes": 2.0**28, "added_bytes": n * 2.0**11} for n in (1, 2, 4, 8)
    }
    told = memory.report(found, "default")
    assert "Growth 1.00" in told.text
    assert "256 MiB" in told.text


def test_a_line_is_drawn_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    lines = [plotting.Line("cold", [1, 2, 4], [1.0, 2.0, 4.0])]
    for name in ("a.svg", "b.svg"):
        plotting.draw(tmp_path / name, lines, title="Cost", x="tokens", y="ms", logarithmic=True)
    first = (tmp_path / "a.svg").read_text()
    assert first == (tmp_path / "b.svg").read_text()
    assert all(word in first for word in ("Cost", "tokens", "ms", "cold"))


def test_a_quantile_lies_between_values():
    assert published.quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5


def test_a_gpus_benchmark_scores_every_token_and_finds_the_same_bits(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "LENGTHS", (300,))
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    file = tmp_path / "gpu.json"
    words = ["gpu.py", "--device", "cpu", "--tokens", "300", "--shape-tokens", "256", "--json"]
    monkeypatch.setattr(sys, "argv", [*words, str(file)])
    assert gpu.main() == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["model"], row["shape_tokens"], row["steady"]) for row in rows] == [
        ("encoder", 256, True),
        ("causal LM", 256, True),
    ]
    assert all(50 < row["tokens"] < 110 and row["per_s"] > 0 for row in rows)


def test_without_a_gpu_its_benchmark_measures_nothing(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 0
    assert capsys.readouterr().out == ""


def test_sentences_cover_a_text():
    text = "One. Two three. Four"
    spans = list(gpu._sentences(text))
    assert [text[span.start : span.end] for span in spans] == ["One. ", "Two three. ", "Four"]
