from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.lexical import bm25, count_terms, read_terms

words = st.text(alphabet="abcéßщ漢क 12.?-\ud800", max_size=30)


@given(words, st.lists(words, max_size=8))
def test_the_fast_routine_agrees_with_its_slow_twin(question, units):
    expected = reference.bm25(question, units)
    assert bm25(question, units).tolist() == pytest.approx(expected)


def test_a_name_is_found_in_any_script():
    units = ["यह नदी उत्तर में है।", "राजधानी दिल्ली बहुत बड़ी है।", "मौसम अच्छा है।"]
    assert bm25("दिल्ली कहाँ है?", units).argmax() == 1


def test_no_shared_term_scores_nothing():
    assert bm25("xyz", ["abc", "def"]).tolist() == [0.0, 0.0]
    assert bm25("", ["abc"]).tolist() == [0.0]
    assert bm25("abc", []).shape == (0,)


def test_scores_are_not_negative_where_a_term_is_everywhere():
    assert np.all(bm25("the", ["the cat", "the dog", "the"]) >= 0)


def test_units_beyond_one_part_score_as_if_there_were_none():
    units = [
        f"unit {number} " + ("tower" if number % 7 == 0 else "a tour") for number in range(2100)
    ]
    found = bm25("Which tower has unit 2099?", units)
    assert len(read_terms(units)) == 2
    assert found.tolist() == pytest.approx(reference.bm25("Which tower has unit 2099?", units))


@given(words, st.lists(st.lists(words, min_size=1, max_size=3), min_size=1, max_size=4))
def test_documents_count_what_their_units_have(question, documents):
    terms = read_terms([*chain(*documents)])
    found = count_terms(question, terms).of_documents([len(units) for units in documents])
    expected = reference.bm25(question, ["\n".join(units) for units in documents])
    assert found.scores().tolist() == pytest.approx(expected)
