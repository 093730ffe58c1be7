import io
import json

import pandas as pd
import pytest
from rich.console import Console

from lopbench.cli import output
from lopbench.cli.output import roughly, write_frame


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "about 1 s"),
        (2.4, "about 2 s"),
        (9.6, "about 10 s"),
        (47, "about 45 s"),
        (58, "about 1 min"),
        (128, "about 2 min"),
        (574, "about 10 min"),
        (1310, "about 20 min"),
        (3570, "about 1 h"),
        (4400, "about 1 h 15 min"),
        (9900, "about 2 h 45 min"),
        (10700, "about 3 h"),
        (38.2 * 3600, "about 38 h"),
        (47.6 * 3600, "about 2 days"),
        (123.4 * 86400, "about 120 days"),
    ],
)
def test_what_is_foretold_has_no_more_digits_than_it_deserves(seconds, text):
    assert roughly(seconds) == text
    assert roughly(seconds, "") == text.removeprefix("about ")


@pytest.mark.parametrize(
    "arguments",
    [("status", ".", "--watch={}"), ("reproduce", ".", "--tolerance={}"), ("figure", "B.2", "--within={}")],
)
@pytest.mark.parametrize("number", ["nan", "inf", "1e999"])
def test_a_number_is_finite(lopbench, arguments, number):
    shown = lopbench(*(each.format(number) for each in arguments))
    assert shown.exit_code == 2
    told = " ".join(shown.stderr.split())
    assert f"{number} is not a finite number" in told


def test_a_frame_is_json_with_null_for_nan_and_all_digits(capsys):
    write_frame(pd.DataFrame({"a": [0.1 + 0.2, float("nan")], "b": ["x", "é"]}))
    assert json.loads(capsys.readouterr().out) == [
        {"a": pytest.approx(0.1 + 0.2, abs=1e-15), "b": "x"},
        {"a": None, "b": "é"},
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_reading_is_told_of_on_terminals_alone(terminal, monkeypatch):
    shown = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    monkeypatch.setattr(output, "console", lambda *, stderr: shown)
    with output.reading():
        pass
    assert ("reading records" in shown.file.getvalue()) == terminal
