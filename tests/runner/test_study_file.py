"""What a study file asks for, and what is said of one that asks for nothing that could be run."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import UsageError
from lopbench.runner.request import Request
from lopbench.runner.study_file import _REQUEST, read_study

STUDY = """
results = "out"
seeds = "0-2"
methods = ["none", "l2"]
plugins = ["mine.py", "/there/theirs.py"]
threads = 2

[[runs]]
scenario = "bitflip"
from = 0.5

[[runs]]
scenario = "slowly_changing_regression"
profile = "full"
methods = ["none"]
seeds = [7, 5]
optimizers = ["sgd:lr=0.01"]
sweeps = ["lr=0.01,0.001"]
metrics = []
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "study.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_study_holds_requests_and_what_is_above_them_holds_for_each(tmp_path):
    found = read_study(written(tmp_path, STUDY))
    assert found.requests == (
        {"seeds": (0, 1, 2), "methods": ("none", "l2"), "scenario": "bitflip", "start": 0.5},
        {
            "seeds": (7, 5),
            "methods": ("none",),
            "scenario": "slowly_changing_regression",
            "profile": "full",
            "optimizers": ("sgd:lr=0.01",),
            "sweeps": ("lr=0.01,0.001",),
            "metrics": (),
        },
    )
    assert found.options == {"results": tmp_path / "out", "threads": 2}
    assert found.plugins == (tmp_path / "mine.py", Path("/there/theirs.py"))


def test_a_study_without_tables_is_one_request(tmp_path):
    assert read_study(written(tmp_path, 'scenario = "bitflip"\nseeds = 3')).requests == (
        {"scenario": "bitflip", "seeds": (3,)},
    )
    assert read_study(written(tmp_path, "")).requests == ({},)


def test_a_study_may_have_a_title_and_claims(tmp_path):
    claim = '[[claim]]\ntext = "a"\nsource = "b"\ntest = "trend"\nis = "falling"\nentry = "l2"\n'
    found = read_study(written(tmp_path, f'title = "Mine"\nmethods = ["l2"]\n{claim}'))
    assert (found.title, [each.text for each in found.claims], found.figure) == ("Mine", ["a"], None)
    assert found.requests == ({"methods": ("l2",)},)
    assert found.options == {}


def test_every_field_of_a_request_has_a_key():
    fields = {key.keyword or name for name, key in _REQUEST.items()}
    assert fields - {"data"} == {*Request.__dataclass_fields__}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds = = 3", "is no TOML: Invalid value (at line 1, column 9)."),
        ("a = " + "[" * 5000, "is no TOML:"),
        (b"seeds = '\xff'", "is no text in UTF-8: byte 9 is none."),
        ('method = ["l2"]', "unknown key 'method'. Did you mean 'methods'"),
        ("[[run]]", "unknown key 'run'. Did you mean 'runs'"),
        ('[[runs]]\nscenari = "bitflip"', "runs 1: unknown key 'scenari'. Did you mean 'scenario'?"),
        (
            '[[runs]]\n[[runs]]\nresults = "there"',
            "runs 2: 'results' holds for the whole study; write it above [[runs]]",
        ),
        ("runs = []", "'runs' is written as one or more tables, each begun by a line [[runs]]"),
        ("[runs]\nseeds = 1", "'runs' is written as one or more tables, each begun by a line [[runs]]"),
        ('runs = ["bitflip"]', "'runs' is written as one or more tables, each begun by a line [[runs]]"),
        ('methods = "none"', """'methods' must be a list of texts, as in ["none", "l2"], got 'none'"""),
        ("methods = [1]", "'methods' must be a list of texts"),
        ("scenario = 1", "'scenario' must be a text, got '1'"),
        ('seeds = "4-0"', "'seeds': seeds '4-0' count down; write 0-4"),
        ("seeds = 1.5", "'seeds' must be seeds, as in \"0-4\", 3 or [0, 2], got '1.5'"),
        ("seeds = [true]", "'seeds' must be seeds"),
        ('from = "half"', "'from' must be a number, got 'half'"),
        ("from = true", "'from' must be a number"),
        ("threads = 0", "'threads' must be a whole number, at least 1, got '0'"),
        ("results = 3", "'results' must be a path, got '3'"),
        ("title = 3", "'title' must be a text, got '3'"),
        ("claim = 3", "'claim' is written as one or more tables, each begun by a line [[claim]]"),
        ('[[claim]]\ntest = "order"', "claim 1: 'text' is missing"),
        ("figure = []", "'figure' is written as a table, begun by a line [figure]"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path, text, told):
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        read_study(path)
    assert told in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_no_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"none.toml cannot be read: No such file or directory."):
        read_study(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read: it is no file, but a folder, pipe or device"):
        read_study(tmp_path)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_file_is_a_study_or_a_sentence(tmp_path_factory, content):
    path = written(tmp_path_factory.getbasetemp(), content if isinstance(content, bytes) else content.encode())
    with suppress(UsageError):
        assert read_study(path).requests
