import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.results.cells import FORMULA, csv_text, harmless, original

TEXTS = st.one_of(
    st.text(max_size=8), st.text("='+-@\t\r,\"\n", max_size=4), st.sampled_from(["=1+1", "'=x", "-2", "@a", ""])
)


@given(TEXTS)
def test_no_text_can_become_a_formula_and_none_is_lost(text):
    assert not harmless(text).startswith(FORMULA)
    assert original(harmless(text)) == text


@pytest.mark.parametrize("value", [-0.5, -3, None, True])
def test_numbers_stay_numbers(value):
    assert harmless(value) is value


@given(st.lists(TEXTS.filter(lambda text: "\r" not in text), min_size=1, max_size=4))
def test_cells_come_back_from_a_file(texts):
    written = csv_text(pd.DataFrame({"text": texts, "number": [-0.1 - 0.2] * len(texts)}))
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [original(row["text"]) for row in rows] == texts
    assert {float(row["number"]) for row in rows} == {-0.1 - 0.2}
