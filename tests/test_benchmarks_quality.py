"""What the quality bench measures with: no pattern of it is shared with the code it measures."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import larger_lm
import metrics
import quality
import quality_docs
import quality_plots
import quality_summary
from proxy.types import Span
from quality_summary import Row, Summary, summarised

ROOT = Path(__file__).parent.parent
TEXT = "Pay $1 or 1 000 € (3.5%) to a_b, never to 0x1f or me@x.org; see https://x.org/a?b=1."


# -- items ----------------------------------------------------------------------------------------


def test_items_are_found_by_kind():
    found = {kind: sorted(items) for kind, items in metrics.items(TEXT).items()}
    assert found["url"] == ["https://x.org/a?b=1"]
    assert found["email"] == ["me@x.org"]
    assert found["identifier"] == ["0x1f", "a_b"]
    assert found["negation"] == ["never"]
    assert {"$1", "1 000", "3.5%"} <= set(found["number"])


@given(st.sets(st.integers(0, 11)))
def test_dropping_whole_words_never_counts_as_corruption_of_what_stays(gone):
    words = [
        "In",
        "1895",
        "a",
        "canal",
        "was",
        "not",
        "yet",
        "open",
        "to",
        "ship_7",
        "or",
        "www.x.org",
    ]
    left = " ".join(word for i, word in enumerate(words) if i not in gone)
    altered = metrics.corrupt(" ".join(words), left)
    assert not any(altered.values())


@pytest.mark.parametrize(
    ("before", "after", "kind", "altered"),
    [
        ("it cost $1 in all", "it cost 1 in all", "number", ["1"]),
        ("12 of the 345", "12 345", "number", ["12 345"]),
        ("see https://x.org/a/b", "see https://x.org/a", "url", ["https://x.org/a"]),
        ("call get_user_name", "call user_name", "identifier", ["user_name"]),
        ("a knotty case", "a not case", "negation", ["not"]),
    ],
)
def test_what_was_altered_is_counted(before, after, kind, altered):
    assert metrics.corrupt(before, after)[kind] == altered


def test_retention_is_a_share_of_distinct_items_and_none_without_any():
    found = metrics.retained("1 and 2 and 2", "2")
    assert (found["number"], found["url"]) == (0.5, None)


def test_half_a_grapheme_is_broken_and_a_mark_is_not():
    assert metrics.broken("👩‍👩‍👧 東京", "👩 東京…") == 1
    assert metrics.broken("नहीं है", "है …") == 0


# -- answers --------------------------------------------------------------------------------------


def test_an_answer_counts_contiguous_and_normalised():
    assert metrics.answer_kept("It opened in June, 1895.", ["june 1895"])
    assert not metrics.answer_kept("It opened in June of 1895.", ["june 1895"])


def test_words_are_found_again_in_their_order():
    before = "one two three two four"
    spans = [span.of(before) for span in metrics.aligned(before, "two three four")]
    assert spans == ["two", "three", "four"]
    assert metrics.words_kept(before, [Span(0, 13)], metrics.aligned(before, "two three")) == 2 / 3


def test_json_has_to_parse():
    assert metrics.parses('x {"a": 1} y')
    assert not metrics.parses('x {"a": 1, y')


# -- figures --------------------------------------------------------------------------------------


def row(case, method, answer, after, rate=0.25):
    figures = {"answer": answer, "number": 0.5, "corrupt": 0.0, "joined": 0.0, "broken": 0.0}
    return Row("xquad_en", case, method, rate, 1000, after, None, figures, 1.0)


ROWS = [
    *(row(case, "cascade", 1.0, 250) for case in range(4)),
    *(row(case, "head", float(case == 0), 250 - 20 * case) for case in range(4)),
]
MODELS = {"language_model": "embedded", "classifier": None, "judge": "embedded"}


def test_differences_are_paired_and_unequal_tokens_are_marked():
    summary = summarised(ROWS, MODELS)
    own, other = (summary.at("xquad_en", method, 0.25) for method in ("cascade", "head"))
    assert own.headline == (1.0, 1.0, 1.0)
    assert own.difference is None
    assert (other.headline[0], other.difference[0]) == (0.25, -0.75)
    assert (own.off, other.off) == (0, 3)
    assert "†" in quality_docs.page(summary)


def test_targets_that_were_missed_by_name_are_marked():
    missed = replace(row(0, "tail", 1.0, 1000), reason="budget-infeasible")
    summary = summarised([*ROWS, missed], MODELS)
    cells = [summary.at("xquad_en", method, 0.25).missed for method in ("cascade", "head", "tail")]
    assert cells == [0, 0, 1]
    assert "| tail | 100 †1‡ |" in quality_docs.page(summary)


def test_figures_come_back_from_their_file():
    summary = summarised(ROWS, MODELS)
    again = Summary.from_json(summary.to_json())
    assert again == summary
    assert quality_docs.page(again) == quality_docs.page(summary)


def test_tables_go_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "quality.md"
    page.write_text(f"before\n{quality_docs.BEGIN}\nout of date\n{quality_docs.END}\nafter\n")
    quality_docs.write_docs(summarised(ROWS, MODELS), page)
    text = page.read_text()
    assert text.startswith(f"before\n{quality_docs.BEGIN}\n\nCausal LM: `laconic-tiny`")
    assert text.endswith(f"\n\n{quality_docs.END}\nafter\n")
    assert "out of date" not in text
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="found no marks"):
        quality_docs.write_docs(summarised(ROWS, MODELS), page)


def test_the_docs_hold_what_was_measured():
    results = ROOT / "docs" / "data" / "quality.json"
    summary = Summary.from_json(results.read_text("utf-8"))
    assert quality_docs.page(summary) in (ROOT / "docs" / "quality.md").read_text("utf-8")
    for name in summary.sets:
        assert (ROOT / "docs" / "plots" / quality_plots.plot_name(name)).exists()
    altered = [
        cell
        for cell in summary.cells
        if cell.method != "stop words, then head"  # a baseline, and without care
        and (cell.figures["corrupt"] or cell.figures["broken"])
    ]
    assert altered == []


def test_equal_figures_give_equal_plots(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))  # else it leaves its fonts' names at home
    drawn = []
    for folder in ("a", "b"):
        quality_plots.write_plots(summarised(ROWS, MODELS), tmp_path / folder)
        drawn.append((tmp_path / folder / "quality-xquad-en.svg").read_bytes())
    assert drawn[0] == drawn[1]


def test_the_paragraphs_of_many_scripts_hold_their_answers():
    path = ROOT / "benchmarks" / "data" / "scripts.jsonl"
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(found) == 21
    assert all(record["answer"] in record["text"] for record in found)
    assert quality_summary.SETS["scripts"].count == len(found)


def test_models_are_told_without_where_they_lie():
    told = quality.told(quality.Models("embedded", None, "/home/me/laconic-small"))
    assert told == {"language_model": "embedded", "classifier": None, "judge": "laconic-small"}


def test_a_larger_model_is_compared_case_by_case(monkeypatch):
    monkeypatch.setattr(larger_lm, "SETS", ("xquad_en",))
    monkeypatch.setattr(larger_lm, "METHODS", ("llmlingua",))
    monkeypatch.setattr(larger_lm, "RATES", (0.5,))

    def rows(*kept):
        return [
            Row("xquad_en", case, "llmlingua", 0.5, 10, 5, None, {"answer": answer}, 1.0)
            for case, answer in enumerate(kept)
        ]

    (line,) = larger_lm.compared(rows(1, 0, 0, 0), rows(1, 1, 0, 0)[::-1])
    assert line == ("xquad_en, llmlingua, 0.5", ["4", "25", "50", line[1][-1]])
    assert line[1][-1].startswith("+25 (+0 to ")
