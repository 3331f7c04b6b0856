import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.compress import reference
from proxy.compress.lexical import bm25

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
