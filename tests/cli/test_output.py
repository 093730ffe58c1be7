import json

import pandas as pd
import pytest

from lopbench.cli.output import duration, write_frame


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-1, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")],
)
def test_durations_read_as_words(seconds, text):
    assert duration(seconds) == text


def test_a_frame_is_json_with_null_for_nan_and_all_digits(capsys):
    write_frame(pd.DataFrame({"a": [0.1 + 0.2, float("nan")], "b": ["x", "é"]}))
    assert json.loads(capsys.readouterr().out) == [
        {"a": pytest.approx(0.1 + 0.2, abs=1e-15), "b": "x"},
        {"a": None, "b": "é"},
    ]
