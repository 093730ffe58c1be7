"""A plugin in one file brings a data set that is no images, and a scenario that streams it, with public names only."""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import lopbench
from lopbench.cli import cli
from lopbench.core.errors import DataError, LopbenchError, PluginError, UsageError
from lopbench.core.manager import plugins, use_file
from lopbench.core.spec import ComponentSpec, RunSpec, parse_scenario
from lopbench.data import data_set, get, load_data, locate, verify
from lopbench.testing import checks, run_checks

TEXT = b"row, row, row your boat, gently down the stream; " * 40

PLUGIN = '''
"""Songs, letter by letter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from lopbench import Batches, DataSet, Register, RemoteFile, Samples, Scenario, Stream, Task, hookimpl


@dataclass(frozen=True, kw_only=True)
class Songs(DataSet):
    """A book of songs, as bytes."""

    name: ClassVar[str] = "songs"
    title: ClassVar[str] = "Songs for all"
    terms: ClassVar[str] = "Nobody holds the rights."
    files: ClassVar[tuple[RemoteFile, ...]] = (RemoteFile(url="@URL@", size_bytes=@SIZE@, sha256="@SHA256@"),)

    def read(self, path):
        """Return the text."""
        return {"text": np.frombuffer((path / "songs.txt").read_bytes(), np.uint8)}


class Letters(Batches):
    """Eight letters and the ones after them, from a place that the step tells."""

    def __init__(self, task):
        self.task, self.step = task, 0

    def __next__(self):
        self.step += 1
        return self.task.letters(self.step)

    def state_dict(self):
        return {"step": torch.tensor(self.step)}

    def load_state_dict(self, state):
        self.step = int(state["step"])


class Song(Task):
    """The letters of one part of the book."""

    chance = 1 / 256

    def __init__(self, text):
        self.text = text

    def letters(self, start):
        places = (torch.arange(8) + start) % (len(self.text) - 1)
        return self.text[places].float()[:, None] / 256, self.text[places + 1]

    def batches(self):
        return Letters(self)

    def loss(self, outputs, targets):
        return functional.cross_entropy(outputs, targets)

    def score(self, outputs, targets):
        return (outputs.argmax(dim=1) == targets).to(outputs.dtype)

    def held_out(self):
        yield self.letters(0)

    def probe(self):
        return self.letters(0)


class Book(Stream):
    input_shape, outputs = (1,), 256

    def __init__(self, text):
        self.text = text

    def task(self, index):
        half = len(self.text) // 2
        return Song(self.text[:half] if index % 2 == 0 else self.text[half:])


@dataclass(frozen=True, kw_only=True)
class Singing(Scenario):
    """The next letter, in one half of the book after the other."""

    name: ClassVar[str] = "singing"
    default_profile: ClassVar[str] = "full"
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {"full": {}}
    default_architecture: ClassVar[str] = "mlp:width=8,depth=1"

    profile: str = "full"
    tasks: int = 6
    steps_per_task: int = 3

    @property
    def data(self):
        return "songs"

    def recipe(self, architecture):
        from lopbench import Recipe

        return Recipe(optimizer="sgd:lr=0.1", reference="sgd:lr=0.1")

    def stream(self, seed, *, data, device):
        return Book(torch.tensor(data["text"], dtype=torch.int64, device=device))


@hookimpl
def lopbench_data(register: Register) -> None:
    register("songs", Songs, "a book of songs")


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    register("singing", Singing, "the next letter")
'''


def forget():
    sys.modules.pop("lopbench_file_singing", None)
    plugins.cache_clear()


@pytest.fixture
def source(tmp_path):
    """Return the file as its publisher has it."""
    path = tmp_path / "published" / "songs.txt"
    path.parent.mkdir()
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def plugin(tmp_path, monkeypatch, source):
    """Return a function that loads the plugin, with changes, in place of what it loaded before."""
    monkeypatch.setenv("LOPBENCH_PLUGIN_FILES", "")  # restored after the test

    def load(*changes, text=PLUGIN):
        forget()
        values = {"@URL@": source.as_uri(), "@SIZE@": str(len(TEXT)), "@SHA256@": hashlib.sha256(TEXT).hexdigest()}
        for old, new in [*values.items(), *changes]:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "singing.py"
        path.write_text(text)
        use_file(path)
        return path

    yield load
    forget()


@pytest.fixture
def songs(plugin, tmp_path):
    """Return a data directory with the songs, their plugin being loaded."""
    plugin()
    folder = tmp_path / "data" / "songs"
    folder.mkdir(parents=True)
    (folder / "songs.txt").write_bytes(TEXT)
    return folder.parent


def run_spec(samples):
    return RunSpec(
        scenario=ComponentSpec("scenarios", "singing", 1, "", {}),
        architecture=ComponentSpec.parse("architectures", "mlp"),
        optimizer=ComponentSpec.parse("optimizers", "sgd:lr=0.1"),
        reference_optimizer=ComponentSpec.parse("optimizers", "sgd:lr=0.1"),
        methods=(),
        seed=0,
        metrics=(),
        data={"name": samples.name, "content_hash": samples.content_hash},
    )


def test_it_is_found_in_a_data_directory_or_named_itself(songs):
    assert locate("songs") is None
    assert locate("songs", songs) == locate("songs", songs / "songs") == songs / "songs"


def test_files_whose_hash_the_data_set_does_not_give_are_called_unverified(songs, plugin):
    plugin((f', sha256="{hashlib.sha256(TEXT).hexdigest()}"', ""))
    said = "unverified as no hash of it is known"
    assert load_data("songs", data_dir=songs).notice.startswith(f"Songs for all, {said}, from {songs / 'songs'}: arr")
    assert verify("songs", songs).message.startswith(f"songs is complete, {said}: arrays text")


def test_it_is_downloaded_into_a_folder_of_its_own_and_then_found(plugin, tmp_path):
    plugin()
    assert get("songs") == tmp_path / "cache" / "songs" / "songs.txt"
    assert load_data("auto", wanted="songs")["text"].tobytes() == TEXT


def test_the_scenario_is_given_its_arrays_mapped_from_the_cache(songs, monkeypatch):
    samples = load_data("auto", wanted="songs", data_dir=songs)
    assert isinstance(samples, lopbench.ArraySet)
    assert (samples.name, samples.real, samples.terms) == ("songs", True, "Nobody holds the rights.")
    assert samples.notice == f"Songs for all, from {songs / 'songs'}: arrays text ({len(TEXT):,})."
    assert isinstance(samples["text"], np.memmap)
    assert not samples["text"].flags.writeable
    monkeypatch.setattr(type(data_set("songs")), "read", lambda *_: pytest.fail("it is read again"))
    again = load_data("songs", wanted="songs", data_dir=songs)
    assert again.content_hash == samples.content_hash
    assert again["text"].tobytes() == TEXT


def test_its_content_and_nothing_else_is_in_the_protocol(songs, tmp_path, plugin):
    here = run_spec(load_data("auto", wanted="songs", data_dir=songs))
    elsewhere = (songs / "songs").rename(tmp_path / "elsewhere")
    same = run_spec(load_data("auto", wanted="songs", data_dir=elsewhere))
    assert same.protocol_id == here.protocol_id
    changed = TEXT.replace(b"boat", b"bark")
    (elsewhere / "songs.txt").write_bytes(changed)
    plugin((hashlib.sha256(TEXT).hexdigest(), hashlib.sha256(changed).hexdigest()))
    other = run_spec(load_data("auto", wanted="songs", data_dir=elsewhere))
    assert other.data["name"] == here.data["name"]
    assert other.protocol_id != here.protocol_id


def test_a_changed_reader_is_not_answered_from_the_cache(songs, plugin):
    before = load_data("songs", data_dir=songs)
    plugin(("np.uint8)}", "np.uint8)[:100]}"))
    assert len(load_data("songs", data_dir=songs)["text"]) == 100
    assert load_data("songs", data_dir=songs).content_hash != before.content_hash


def test_verify_compares_files_samples_and_cache(songs, tmp_path):
    assert verify("songs", songs).cache == "absent"
    samples = load_data("songs", data_dir=songs)
    report = verify("songs", songs)
    assert (report.cache, report.content_hash) == ("matches", samples.content_hash)
    assert f"arrays text ({len(TEXT):,})" in report.message
    (array,) = (tmp_path / "cache").rglob("text.npy")
    content = np.load(array)
    content[0] ^= 1
    np.save(array, content)
    report = verify("songs", songs)
    assert report.cache == "differs"
    assert str(array.parent) in report.message


def test_the_command_line_lists_shows_gets_and_verifies_it(plugin, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    path = plugin()

    def run(*arguments):
        forget()
        shown = CliRunner().invoke(cli, [*map(str, arguments), "--plugin", str(path)], prog_name="lopbench")
        assert shown.exit_code == 0, shown.output
        return shown.stdout

    assert "Nobody holds the rights." in run("show", "songs")
    assert "not here; 'lopbench data get songs' downloads it" in run("data", "list")
    assert run("data", "get", "songs").strip() == str(tmp_path / "cache" / "songs" / "songs.txt")
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--format=json"))}
    assert rows["songs"]["path"] == str(tmp_path / "cache" / "songs")
    assert rows["songs"]["distribution"] == "unpublished singing.py"
    assert "songs is complete: arrays text" in run("data", "verify", "songs")


def test_the_scenario_streams_it(songs):
    scenario = parse_scenario("singing").build()
    stream = scenario.stream(
        0, data=load_data("auto", wanted=scenario.data, data_dir=songs), device=torch.device("cpu")
    )
    inputs, targets = next(stream.task(0).batches())
    assert (inputs[:, 0] * 256).tolist() == list(TEXT[1:9])
    assert targets.tolist() == list(TEXT[2:10])


def test_a_study_has_its_hash_in_every_spec(songs, tmp_path):
    from lopbench.runner.study import plan

    study = plan(scenario="singing", data_dir=songs, metrics=[], device="cpu", results=tmp_path / "results")
    samples = load_data("songs", data_dir=songs)
    assert {json.dumps(spec.data) for spec in study.pending} == {
        json.dumps({"name": "songs", "content_hash": samples.content_hash})
    }


def refused(error, plugin, data_dir, *changes, name="auto", wanted="songs"):
    plugin(*changes)
    with pytest.raises(error) as caught:
        load_data(name, wanted=wanted, data_dir=data_dir)
    assert isinstance(caught.value, LopbenchError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def stand_in(name):
    return f'    stand_in: ClassVar[str | None] = "{name}"\n    files:'


READ = '{"text": np.frombuffer((path / "songs.txt").read_bytes(), np.uint8)}'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((READ, "[1, 2]"), "is read as a list, which has no content hash to go into the protocol; read must return"),
        ((READ, "Samples(content_hash=None)"), "has the content hash None; it goes into the protocol, and must be"),
        ((READ, "Samples(content_hash='v1')"), "has the content hash 'v1'; it goes into the protocol"),
        ((READ, "Samples()"), "fails: TypeError: .*content_hash"),
        ((READ, "{}"), "gives no array; give at least one by name"),
        ((READ, "{'text': 'row'}"), "gives 'text' as a str; give a numpy array"),
        ((READ, "{'text': np.array(['row'])}"), "gives 'text' as an array of <U3; give numbers"),
        ((READ, "{'a/b': np.zeros(2)}"), "gives an array called 'a/b'"),
        ((READ, "1 / 0"), "fails: ZeroDivisionError"),
        (('"Nobody holds the rights."', "None"), "does not say its terms"),
        (("    def read(", "    part: int\n\n    def read("), "has fields without a default"),
        (("    files:", stand_in("hums")), "names the stand-in 'hums', which is not registered"),
        (("    files:", stand_in("mnist")), "'mnist', which says that it is real"),
    ],
)
def test_what_is_written_wrongly_is_one_sentence_with_plugin_and_data_set(songs, plugin, change, says):
    found = refused(PluginError, plugin, songs, change, name="songs" if "stand_in" not in change[1] else "procedural")
    assert found.startswith("data set 'songs' of unpublished singing.py ")
    assert re.search(says, found)


def test_an_absent_set_without_stand_in_is_an_error_whatever_is_asked(plugin, tmp_path):
    for name in ("auto", "songs"):
        found = refused(DataError, plugin, tmp_path, name=name)
        assert "songs is not in" in found
        assert "'lopbench data get songs' downloads it; or name the directory that holds songs/songs.txt with" in found
    found = refused(UsageError, plugin, tmp_path, name="procedural")
    assert "streams songs, and not procedural: take songs or auto" in found


def test_a_file_that_is_not_the_published_one_is_refused_before_it_is_read(songs, plugin):
    (songs / "songs" / "songs.txt").write_bytes(TEXT.replace(b"boat", b"bark"))
    found = refused(DataError, plugin, songs, (READ, "1 / 0"))
    assert "songs.txt has the SHA-256" in found
    assert "get it again, 'lopbench data get songs' downloads it" in found
    (songs / "songs" / "songs.txt").write_bytes(TEXT[:-1])
    assert f"has {len(TEXT) - 1:,} bytes, and the original has {len(TEXT):,}" in refused(DataError, plugin, songs)


@pytest.mark.parametrize("data", ["'psalms'", "Songs()"])
def test_a_scenario_that_names_no_data_set_is_refused(songs, plugin, data):
    plugin(('return "songs"', f"return {data}"))
    scenario = parse_scenario("singing").build()
    with pytest.raises(UsageError, match=r"Unknown data set 'psalms'|A scenario names its data set, and this one"):
        load_data("auto", wanted=scenario.data, data_dir=songs)


def test_samples_of_a_kind_of_its_own_are_given_as_they_are(songs, plugin):
    own = "Lines(content_hash=hashlib.sha256(b'x').hexdigest(), lines=('row', 'boat'))"
    lines = (
        "class Songs(DataSet)",
        "class Lines(Samples):\n    lines: tuple\n\n\n@dataclass(frozen=True, kw_only=True)\nclass Songs(DataSet)",
    )
    plugin((READ, own), lines, ("import numpy as np", "import hashlib\n\nimport numpy as np"))
    samples = load_data("songs", data_dir=songs)
    assert samples.lines == ("row", "boat")
    assert samples.content_hash == hashlib.sha256(b"x").hexdigest()
    assert (samples.name, samples.terms, samples.real) == ("songs", "Nobody holds the rights.", True)
    assert samples.notice.startswith("Songs for all, from ")
    assert verify("songs", songs).ok


def test_a_made_set_stands_in_and_says_so(plugin, tmp_path):
    hums = '''

@dataclass(frozen=True, kw_only=True)
class Hums(DataSet):
    """Humming."""

    name: ClassVar[str] = "hums"
    title: ClassVar[str] = "Songs for all"
    terms: ClassVar[str] = "Free."
    real: ClassVar[bool] = False

    def read(self, path):
        """Return m."""
        return {"text": np.full(50, 109, np.uint8)}


@hookimpl
def lopbench_data('''
    plugin(
        ("    files:", stand_in("hums")),
        ("\n@hookimpl\ndef lopbench_data(", hums),
        ('"a book of songs")', '"a book of songs")\n    register("hums", Hums, "humming")'),
    )
    fallen = load_data("auto", wanted="songs")
    asked = load_data("procedural", wanted="songs")
    assert fallen.notice.startswith("NOT Songs for all (songs is not in ")
    assert asked.notice.startswith("NOT Songs for all but PROCEDURAL data, made by unpublished singing.py: arrays text")
    assert not fallen.real
    assert fallen.name == "hums"
    assert fallen.content_hash == asked.content_hash
    assert verify("hums").cache == "matches"
    with pytest.raises(DataError, match="hums is made on this machine"):
        get("hums")


def test_a_broken_data_set_does_not_take_the_list_with_it(songs, plugin, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    plugin(("    def read(", "    def find(self, place):\n        return 1 / 0\n\n    def read("))
    shown = CliRunner().invoke(cli, ["data", "list"])
    assert shown.exit_code == 0
    assert "Cannot be used: data set 'songs' of unpublished singing.py fails: ZeroDivisionError" in shown.stdout
    assert "mnist" in shown.stdout


def test_it_passes_the_checks_of_its_kind_and_a_careless_search_does_not(songs, monkeypatch):
    def failed():
        component = data_set("songs")
        return {each.check.name for each in run_checks([component], checks(component)) if each.status == "failed"}

    assert failed() == set()
    monkeypatch.setattr(type(data_set("songs")), "find", lambda self, place: Path(place))
    assert failed() == {"is-found-where-it-is"}
