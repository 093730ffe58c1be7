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


@pytest.mark.parametrize("number", ["9223372036854775808", "-1" + "0" * 400, "1" + "0" * 5000, "0x" + "f" * 9000])
@pytest.mark.parametrize(
    "text",
    [
        "seeds = {}",
        "from = {}",
        "threads = {}",
        "tune = {{ k = {} }}",
        "title = {}",
        "[executor]\nname = 'slurm'\ncpus = {}",
        "[[claim]]\ntext = 'a'\nsource = 'b'\ntest = 'trend'\nis = 'falling'\nentry = {{ runs = {} }}",
        "[figure]\nsource = 'a'\nminutes = {}",
        "[figure]\nsource = 'a'\nminutes = 1\npanels = [{{ kind = 'bars', marks = [{{ published = [[0, {}]] }}] }}]",
    ],
)
def test_a_number_of_more_than_64_bits_is_refused_wherever_it_stands(tmp_path, text, number):
    with pytest.raises(UsageError, match="holds a whole number of more than 64 bits"):
        read_study(written(tmp_path, text.format(number)))


@pytest.mark.parametrize("text", ["title" + ".a" * 5000 + " = 1", "title = " + "[" * 90 + "]" * 90])
def test_a_file_whose_tables_are_nested_without_end_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match="is no study: its tables are nested deeper than 12 levels"):
        read_study(written(tmp_path, text))


def test_a_mark_of_the_byte_order_is_no_part_of_a_file(tmp_path):
    assert read_study(written(tmp_path, b"\xef\xbb\xbfseeds = 3")).requests == ({"seeds": (3,)},)


def test_every_field_of_a_request_has_a_key():
    fields = {key.keyword or name for name, key in _REQUEST.items()}
    assert fields - {"data"} == {*Request.__dataclass_fields__}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds = = 3", "is no TOML: Invalid value (at line 1, column 9)."),
        ("a = " + "[" * 5000, "is no study: its tables are nested"),
        (b"seeds = '\xff'", "is no text in UTF-8: byte 9 is none."),
        ('method = ["l2"]', "unknown key 'method'. Did you mean 'methods'"),
        ("[[run]]", "unknown key 'run'. Did you mean 'runs'"),
        ('[[runs]]\nscenari = "bitflip"', "runs 1: unknown key 'scenari'. Did you mean 'scenario'?"),
        (
            '[[runs]]\n[[runs]]\nresults = "there"',
            "runs 2: 'results' holds for the whole study; write it above [[runs]]",
        ),
        ("runs = []", "'runs' must be one or more tables, each begun by a line [[runs]]"),
        ("[runs]\nseeds = 1", "'runs' must be one or more tables, each begun by a line [[runs]]"),
        ('runs = ["bitflip"]', "'runs' must be one or more tables, each begun by a line [[runs]]"),
        ('methods = "none"', """'methods' must be a list of texts, as in ["none", "l2"], got 'none'"""),
        ("methods = [1]", "'methods' must be a list of texts"),
        ("scenario = 1", "'scenario' must be a text, got '1'"),
        ('seeds = "4-0"', "'seeds': seeds '4-0' count down; write 0-4"),
        ("seeds = 1.5", "'seeds' must be seeds, as in \"0-4\", 3 or [0, 2], got '1.5'"),
        ("seeds = [true]", "'seeds' must be seeds"),
        ("seeds = []", "'seeds' must be seeds, as in \"0-4\", 3 or [0, 2], got '[]'"),
        ("seeds = [0, -3]", "'seeds': seeds are whole numbers from 0 to 9,223,372,036,854,775,807, got -3"),
        ('from = "half"', "'from' must be a number from 0 to 1, got 'half'"),
        ("from = true", "'from' must be a number from 0 to 1"),
        ("from = nan", "'from' must be a number from 0 to 1, got 'nan'"),
        ("from = 1.5", "'from' must be a number from 0 to 1, got '1.5'"),
        ("threads = 0", "'threads' must be a whole number from 1 to 1024, got '0'"),
        ("threads = 1025", "'threads' must be a whole number from 1 to 1024, got '1025'"),
        ('results = "a\\u0000b"', "'results' must be a path"),
        ('plugins = ["a\\u0000b"]', "'plugins' must be a list of paths"),
        ("results = 3", "'results' must be a path, got '3'"),
        ("title = 3", "'title' must be a text, got '3'"),
        ("claim = 3", "'claim' must be one or more tables, each begun by a line [[claim]]"),
        ('[[claim]]\ntest = "order"', "claim 1: 'text' is missing"),
        ("figure = []", "'figure' must be a table, begun by a line [figure]"),
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
