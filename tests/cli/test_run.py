import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.cli.run import _check_size, split_metrics
from lopbench.core.errors import UsageError
from lopbench.core.seeds import parse_seeds
from lopbench.results.leaderboard import seed_ranges
from lopbench.runner import choice, groups
from lopbench.runner import forecast as forecasts
from lopbench.runner import study as studies
from lopbench.runner.forecast import START_S, Forecast


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (3,)),
        ("0-4", (0, 1, 2, 3, 4)),
        ("0,2,5", (0, 2, 5)),
        ("7,0-2", (7, 0, 1, 2)),
        ("1-1", (1,)),
        ("2,0-3,2", (2, 0, 1, 3)),
        (" 1 , 3 - 4 ", (1, 3, 4)),
    ],
)
def test_seeds_are_numbers_ranges_and_lists(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "1-", "4-0", "1,,2", "0-2-4", "1.5", "0..4", "²"])
def test_other_seeds_are_usage_errors(lopbench, text):
    shown = lopbench("run", f"--seeds={text}")
    assert shown.exit_code == 2
    assert "seeds" in shown.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("9" * 5000, "seeds are at most 9,223,372,036,854,775,807, got one of 5000 digits"),
        ("9-" + "1" * 25, "seeds are at most 9,223,372,036,854,775,807, got one of 25 digits"),
        ("0-" + "9" * 20, "seeds are at most 9,223,372,036,854,775,807, got one of 20 digits"),
        (str(2**63), "from 0 to 9,223,372,036,854,775,807, got 9223372036854775808"),
        ("0-99999999999", "'0-99999999999' are more than 10,000 seeds"),
        ("0-5000,6000-12000", "'0-5000,6000-12000' are more than 10,000 seeds"),
    ],
)
def test_the_bounds_of_seeds_are_told(lopbench, text, told):
    shown = lopbench("run", "--scenario=bitflip", f"--seeds={text}", "--dry-run")
    assert shown.exit_code == 2
    assert told in shown.stderr
    assert len(shown.stderr) < 2_000


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranges_name_the_seeds(seeds):
    assert set(parse_seeds(seed_ranges(seeds))) == seeds


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a, b,", ("a", "b")),
        ("a:x=1,y=2,b,c:z=3", ("a:x=1,y=2", "b", "c:z=3")),
        ("a:x=1,b:y=2", ("a:x=1", "b:y=2")),
    ],
)
def test_commas_separate_metrics_and_their_fields(text, metrics):
    assert split_metrics(text) == metrics


def test_a_run_says_what_it_does_and_ends_with_a_table(tiny, runs):
    shown = tiny("--method=none", "--method=l2", "--seeds=0-1")
    assert shown.exit_code == 0, shown.output
    for expected in ("tinyimagenet40, profile lite+custom", "none, l2", "mlp:depth=1,width=8", "0-1", "Protocol"):
        assert expected in shown.stderr
    assert "8 to do" in shown.stderr  # the reference is that of "none" as well
    assert "l2, seeds 0-1 (mlp:depth=1,width=8): completed" in shown.stderr
    assert f"Records: {Path.cwd() / 'results' / 'runs'}" in shown.stderr
    assert "trainability" in shown.stdout
    assert "l2" in shown.stdout
    assert len(runs()) == 8


def test_a_method_that_changed_nothing_is_told_of_in_the_run_and_under_the_table(tiny):
    shown = tiny("--method=none", "--method=l2:strength=0")
    assert shown.exit_code == 0, shown.output
    assert "seed 0 (mlp:depth=1,width=8): l2:strength=0 changed nothing: it is at strength zero" in shown.stderr
    assert "changed nothing in 1 of 1 run: it is at strength zero" in shown.stdout
    again = tiny("--method=none", "--method=l2:strength=0")
    assert again.stdout == shown.stdout


def test_running_again_does_nothing_and_says_so(tiny, runs):
    first = tiny()
    before = runs()
    again = tiny()
    assert again.exit_code == 0
    assert "nothing to do, all 2 are finished" in again.stderr
    assert again.stdout == first.stdout
    assert runs() == before


def test_running_again_removes_what_a_kill_after_the_last_record_left(tiny, runs):
    tiny()
    folder = Path("results", ".partial", "0123456789abcdef")
    folder.mkdir(parents=True)
    Path("results", "runs", f".{runs()[0]}.0123abcd.partial").mkdir()
    before = runs()[1:]
    tiny()
    assert not folder.parent.exists()
    assert runs() == before


def test_a_run_ends_with_what_the_table_comes_to_and_what_to_do_next(tiny):
    alone = tiny("--method=none", "--method=l2")
    told = alone.stderr.splitlines()
    verdict = next(line for line in told if line.startswith("l2 keeps "))
    assert verdict.endswith("; one seed, may be chance; repeat with --seeds 0-4.")
    number = r"-?\d\.\d\d"
    assert re.search(rf" ((more|less) than none: {number} against {number}|as much as none: {number});", verdict)
    assert any(re.match(r"Next: '.*lopbench.* report results' makes a page", line) for line in told)
    assert not any("compare" in line for line in told)
    more = tiny("--method=none", "--method=l2", "--seeds=0-1").stderr
    assert "2 seeds, may be chance" in more
    assert re.search(r"lopbench.* compare results' has the differences", more)


def test_numbers_of_smoke_mean_nothing_and_the_run_says_so(lopbench, one_thread):
    shown = lopbench("run", "--scenario=bitflip", "--profile=smoke", "--device=cpu", "--metrics=")
    assert "These numbers mean nothing: the profile smoke" in shown.stderr
    assert "without --profile smoke" in shown.stderr


def test_the_heading_fits_on_a_small_terminal_and_tells_of_data_once(tiny, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for more in ((), ("--seeds=0-4", "--method=none", "--method=cbp:replacement_rate=1e-3", "--method=layernorm")):
        lines = tiny("--dry-run", *more).stderr.splitlines()
        assert len(lines) <= 12
        assert all(len(line) <= 80 for line in lines)
        text = " ".join(line[10:].strip() for line in lines)
        assert text.count("NOT REAL DATA") == 1
        assert "lopbench data get tiny-imagenet-200" in text


def test_a_dry_run_leaves_nothing(tiny):
    shown = tiny("--dry-run")
    assert shown.exit_code == 0
    assert shown.stdout == ""
    assert "2 to do" in shown.stderr
    assert not Path("results").exists()


@pytest.mark.parametrize(("scored", "told"), [(2, ", online in their first 2 steps"), (0, ""), (5, "")])
def test_it_is_said_which_steps_are_scored(tiny, scored, told):
    few = "tasks=2,steps_per_task=5,classes_per_task=2,images_per_class=10,batch_size=4"
    shown = tiny("--dry-run", f"--scenario=tinyimagenet40:{few},scored_steps={scored}")
    lines = [line.removeprefix("Tasks").strip() for line in shown.stderr.splitlines()]
    assert f"2 of 5 steps, the last 2 are scored{told}" in lines


def test_images_that_are_not_real_cannot_be_missed(tiny):
    shown = tiny("--dry-run")
    assert shown.stderr.count("NOT REAL DATA") == 1
    assert "NOT REAL DATA" not in shown.stdout


def test_options_reach_the_study(tiny, monkeypatch, tmp_path):
    asked = {}
    plan = studies.plan
    monkeypatch.setattr(studies, "plan", lambda **keywords: asked.update(keywords) or plan(**keywords))
    tiny(
        "--data=procedural",
        f"--data-dir={tmp_path}",
        "--optimizer=adam:lr=1e-3",
        "--optimizer=sgd:lr=0.1",
        "--profile=full",
        "--results=elsewhere",
        "--dry-run",
    )
    assert tiny.asked == [("procedural", "tiny-imagenet-200", tmp_path)]
    assert asked["optimizers"] == ("adam:lr=1e-3", "sgd:lr=0.1")
    assert asked["methods"] == ("none",)
    assert asked["profile"] == "full"
    assert asked["results"] == Path("elsewhere")
    assert asked["metrics"] == ("dead_fraction",)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--scenario=tinyimagenet4"], 2, "Did you mean 'tinyimagenet40'"),
        (["--method=cbpp"], 2, "Did you mean 'cbp'"),
        (["--method=cbp:rate=1"], 2, "cbp has no field 'rate'"),
        (["--method=l2:strength=much"], 2, "strength=much is not a number"),
        (["--method=l2:strength=-1"], 2, "-1"),
        (["--method=l2", "--sweep=l2.strength=0.1,-1"], 2, "-1"),
        (["--scenario=warm_start:batch_size=0"], 2, "batch_size must be at least 1, got 0"),
        (["--scenario=random_labels:images=81"], 2, "images must be a multiple of batch_size, got images=81"),
        (["--architecture=char_transformer:width=33"], 2, "got width=33 and heads=2; the nearest is width=34"),
        (["--executor=slurm:gpus=-1"], 2, "gpus must be at least 0, got -1"),
        (["--architecture=mpl"], 2, "Did you mean 'mlp'"),
        (["--optimizer=adm:lr=1"], 2, "Did you mean 'adam'"),
        (["--metrics=dead_fractoin"], 2, "Did you mean 'dead_fraction'"),
        (["--profile=lit"], 2, "Did you mean 'lite'"),
        (["--device=gpu9"], 2, "gpu9"),
        (["--threads=0"], 2, "threads"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_bad_input_is_one_sentence(tiny, arguments, code, expected):
    shown = tiny(*arguments)
    assert shown.exit_code == code
    assert expected in shown.stderr
    assert "Traceback" not in shown.output
    assert not Path("results").exists()


def test_a_results_folder_that_cannot_be_written_is_one_sentence(tiny):
    Path("results").write_text("a file")
    shown = tiny()
    assert shown.exit_code in (1, 2)
    assert "results" in shown.stderr
    assert "Traceback" not in shown.output


def test_a_method_that_cannot_serve_the_architecture_is_refused_before_anything_is_trained(tiny, monkeypatch):
    def refuse(self, module, **_):
        raise lopbench_errors.UnsupportedError("l2 cannot serve this network")

    import lopbench.core.errors as lopbench_errors

    monkeypatch.setattr("lopbench_plugins.perturbations.l2.L2.configure", refuse)
    for more in ([], ["--dry-run"]):
        shown = tiny("--method=l2", "--method=none", "--seeds=0-1", *more)
        assert shown.exit_code == 1
        refused = "Error: method 'l2', hook configure: l2 cannot serve this network; leave out l2"
        assert " ".join(shown.stderr.split()).endswith(refused)
        assert shown.stderr.count("cannot serve") == 1
        assert not Path("results").exists()


def test_a_run_that_crashed_is_reported(tiny, monkeypatch):
    def crash(self, module, **_):
        raise ZeroDivisionError("in a plugin")

    monkeypatch.setattr("lopbench_plugins.perturbations.l2.L2.penalty", crash)
    shown = tiny("--method=l2:strength=1")
    assert shown.exit_code == 1
    assert "1 of 1 run failed" in shown.stderr.splitlines()[-1]
    assert "l2" in shown.stdout


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (None, "unknown"),
        (Forecast(7200.0, most=False), "about 2 h"),
        (Forecast(90.0, most=True), "at most 2 min"),
    ],
)
def test_forecast_is_shown_before_anything_starts(tiny, monkeypatch, found, shown):
    monkeypatch.setattr(forecasts, "forecast", lambda study, **_: found)
    (line,) = [line for line in tiny("--dry-run").stderr.splitlines() if "Time" in line]
    assert line.rstrip().endswith(shown)


@pytest.mark.parametrize(
    ("jobs", "shown"),
    [
        (1, "about 38 h"),
        (2, "about 38 h of work, 19 h on 2 workers"),
        (32, "about 38 h of work, 1 h 15 min on 32 workers"),
        (99, "about 38 h of work, 1 h on 40 workers"),  # there are no more groups
    ],
)
def test_forecast_is_in_work_and_in_time(tiny, monkeypatch, jobs, shown):
    found = Forecast(38 * 3600.0, most=False, longest=3500.0, groups=40)
    monkeypatch.setattr(forecasts, "forecast", lambda study, **_: found)
    monkeypatch.setattr(choice, "side_by_side", lambda *_, **__: None)
    (line,) = [line for line in tiny("--dry-run", f"--jobs={jobs}").stderr.splitlines() if "Time" in line]
    assert line.rstrip().endswith(shown)


def test_longest_group_and_the_start_of_workers_bound_the_time():
    found = Forecast(1000.0, most=False, longest=600.0, groups=10)
    assert [found.on(workers) - START_S for workers in (1, 2, 5)] == [1000.0, 600.0, 600.0]
    assert found.on(2, crowding=1.5) == 900.0 + START_S
    both = Forecast.of_all([found, None, Forecast(3000.0, most=True, longest=100.0, groups=30, record_bytes=7.0)])
    assert both == Forecast(4000.0, most=True, longest=600.0, groups=40, record_bytes=7.0)
    assert both.on(4) == 1000.0 + START_S
    assert Forecast.of_all([None]) is None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Forecast(38 * 3600.0, most=False), "this is about 38 h of work; add --yes to begin"),
        (Forecast(60.0, most=False, record_bytes=2.3e10), "the records will fill about 23 GB; add --yes to begin"),
    ],
)
def test_much_work_asks_for_yes_on_a_terminal(tiny, runs, monkeypatch, found, reason):
    monkeypatch.setattr(forecasts, "forecast", lambda study, **_: found)
    with pytest.raises(UsageError, match=reason):
        _check_size(found)
    _check_size(None)
    _check_size(Forecast(3600.0, most=False, record_bytes=1e9))
    assert tiny("--method=none").exit_code == 0  # nobody is there to be asked
    assert len(runs()) == 2


BITS = (
    "run",
    "--scenario=bitflip:samples=40,m=8,f=5,T=10,steps_per_task=10",
    "--device=cpu",
    "--metrics=dead_fraction",
)


def test_sweeps_and_later_starts_make_rows(lopbench, one_thread):
    shown = lopbench(*BITS, "--method=none", "--method=l2:strength=1", "--from=0.5", "--sweep=lr=0.01,0.001")
    assert shown.exit_code == 0, shown.output
    assert "none, l2:strength=1 from 0.5" in shown.stderr
    assert "sgd:lr=0.01, sgd:lr=0.001" in shown.stderr
    assert "made by the scenario" in shown.stderr
    assert "none, seed 0 (online_mlp) and 1 more run: completed" in shown.stderr
    assert "compil" not in shown.stderr
    assert shown.stdout.count("l2:strength=1 from 0.5") >= 2
    assert "fresh reference not above chance" in shown.stdout  # after ten samples


def test_what_stands_beside_clones_is_told(lopbench):
    run = ["run", "--scenario=cloning", "--profile=smoke", "--data=procedural", "--device=cpu", "--dry-run"]
    lacking = "there is no fresh network as wide to compare with, since timm does not say how its wider networks start"
    for architecture, runs, is_told in (("mlp", 2, False), ("timm:test_vit", 1, True)):
        shown = lopbench(*run, f"--architecture={architecture}")
        text = " ".join(shown.stderr.replace("│", " ").split())
        assert f"{runs} to do" in text
        assert (lacking in text) is is_told


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--scenario=bitflp"], 2, "Did you mean 'bitflip'"),
        (["--scenario=slowly_changing_regresion"], 2, "Did you mean 'slowly_changing_regression'"),
        (["--scenario=bitflip:target=joudakis"], 2, "target=joudakis is not one of paper, joudaki, dohare"),
        (["--profile=fulll"], 2, "bitflip has no profile 'fulll'. Did you mean 'full'"),
        (
            ["--scenario=bitflip:f=21,m=20"],
            2,
            "f must be at most m, for the slow bits are some of the m; got f=21, m=20",
        ),
        (["--scenario=bitflip:T=0"], 2, "T must be at least 1, got 0"),
        (["--scenario=bitflip:T=many"], 2, "T=many is not a whole number"),
        (["--method=shrink_and_perturb"], 2, "acts at task boundaries, and bitflip is a stream without any"),
        (["--method=l2+reset"], 2, "'reset' acts at task boundaries, and bitflip is a stream without any"),
        (
            ["--method=crelu+activation"],
            2,
            "'crelu' and 'activation' exclude each other: both replace every",
        ),
        (
            ["--method=layernorm+nap"],
            2,
            "'layernorm' and 'nap' exclude each other, as a small network shows",
        ),
        (["--method=infer+crelu"], 2, "'crelu' cannot act after 'infer': "),
        (["--method=l2", "--from=1.5"], 2, "in [0, 1], got 1.5"),
        (["--from=-0.5"], 2, "in [0, 1], got -0.5"),
        (["--method=l2", "--from=half"], 2, "'half' is not a valid float"),
        (["--method=layernorm", "--from=0.5"], 2, "'layernorm' is built into the network"),
        (["--sweep=lr"], 2, "--sweep lr: write lr=0.01,0.001 or METHOD.FIELD=VALUE,VALUE"),
        (["--sweep=lr=0.1,fast"], 2, "lr=fast is not a number"),
        (["--sweep=rate=0.1"], 2, "'rate' is not swept; sweep lr, or a field of a method"),
        (["--sweep=cbp.replacement_rate=0.1"], 2, "'cbp' is none of the methods that are run. They are: none."),
        (["--method=cbp", "--sweep=cbp.rate=0.1"], 2, "cbp has no field 'rate'"),
        (["--method=cbp", "--sweep=cbp.replacement_rate=2"], 2, "replacement_rate must be at least 0 and at most 1"),
        (["--sweep=lr=0.1", "--sweep=lr=0.2"], 2, "lr is swept already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_for_a_stream_of_bits_is_one_sentence(lopbench, arguments, code, expected):
    shown = lopbench("run", "--scenario=bitflip", "--device=cpu", *arguments)
    assert shown.exit_code == code
    assert expected in " ".join(shown.stderr.replace("│", " ").split())
    assert "Traceback" not in shown.output
    assert not Path("results").exists()


def test_help_says_how_to_sweep_and_to_start_later(lopbench):
    shown = " ".join(lopbench("run", "--help").output.replace("│", " ").split())
    assert "--sweep NAME=VALUE,VALUE" in shown
    assert "cbp.replacement_rate=1e-5,1e-4" in shown
    assert "--from FRACTION" in shown
    assert "after which the methods turn on" in shown


# --- study files ------------------------------------------------------------------------------------------------------

#: Two requests that share a reference, and runs that train at once.
STUDY = """
architecture = "mlp:width=8,depth=1"
metrics = ["dead_fraction"]
scenario = "{scenario}"

[[runs]]
methods = ["none", "l2"]

[[runs]]
methods = ["l2", "dropout"]
"""


@pytest.fixture
def study(tiny):
    """Return a study file of tiny runs."""
    path = Path("mine.toml")
    path.write_text(STUDY.format(scenario=tiny.scenario))
    return path


def test_a_study_does_what_each_of_its_requests_means_once(tiny, lopbench, runs, study):
    shown = lopbench("run", study, "--device=cpu", "--threads=1")
    assert shown.exit_code == 0, shown.output
    assert "In all 6 runs to do" in shown.stderr  # none, l2 and dropout, with a fresh reference of each
    assert "runs 1 of 2" in shown.stderr
    assert "[6/6]" in shown.stderr
    assert shown.stderr.count("completed") == 6
    together = runs()
    tiny("--results=alone", "--method=none", "--method=l2", "--method=dropout")
    assert together == runs(Path("alone"))
    assert {"none", "l2", "dropout"} <= set(shown.stdout.split())
    again = lopbench("run", study, "--device=cpu", "--threads=1")
    assert "In all 0 runs to do" in again.stderr
    assert again.stdout == shown.stdout


def test_options_of_the_command_line_go_before_those_of_a_study(lopbench, tiny, study, monkeypatch):
    asked = []
    plan = studies.plan
    monkeypatch.setattr(studies, "plan", lambda **keywords: asked.append(keywords) or plan(**keywords))
    study.write_text("results = 'of the file'\ndevice = 'gpu9'\n" + study.read_text())
    assert lopbench("run", study, "--device=cpu", "--dry-run").exit_code == 0
    assert [(each["results"].name, each["device"]) for each in asked] == [("of the file", "cpu")] * 2
    assert lopbench("run", study, "--device=cpu", "--results=here", "--dry-run").exit_code == 0
    assert asked[-1]["results"] == Path("here")


def test_sinks_of_a_study_are_told_and_those_of_the_command_line_go_before_them(lopbench, tiny, study, runs):
    study.write_text("sinks = ['tensorboard:events']\n" + study.read_text())
    assert lopbench("run", study, "--device=cpu", "--threads=1", "--sink=tensorboard:here").exit_code == 0
    assert not Path("events").exists()
    assert sorted(path.name for path in Path("here").iterdir()) == runs()
    shutil.rmtree("results")
    assert lopbench("run", study, "--device=cpu", "--threads=1").exit_code == 0
    assert sorted(path.name for path in Path("events").iterdir()) == runs()


def test_sinks_that_cannot_be_used_are_refused_at_once(tiny, monkeypatch):
    shown = tiny("--sink=tensorbord")
    assert shown.exit_code == 2
    assert "Unknown sink 'tensorbord'. Did you mean 'tensorboard'?" in shown.stderr
    monkeypatch.setattr("lopbench_plugins.sinks.tensorboard.find_spec", lambda name: None)
    shown = tiny("--sink=tensorboard")
    assert shown.exit_code == 1
    assert "pip install 'lopbench[tensorboard]'" in shown.stderr
    assert not Path("results").exists()


@pytest.mark.parametrize("option", ["--method=none", "--seeds=0", "--from=0.5", "--metrics=dead_fraction"])
def test_what_to_run_is_written_in_the_study_alone(lopbench, study, option):
    shown = lopbench("run", study, option)
    assert shown.exit_code == 2
    assert f"{study} says what to run: write " in shown.stderr


def test_a_study_may_bring_plugins(lopbench, tiny, study, fresh_plugins):
    study.write_text("plugins = ['nowhere.py']\n" + study.read_text())
    shown = lopbench("run", study)
    assert shown.exit_code == 1
    assert "nowhere.py" in shown.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--jobs=2", "--executor=script"], ["--jobs=2", "--executor=script", "--dry-run"]], ids=" ".join
)
def test_runs_are_put_together_once_a_command(tiny, monkeypatch, arguments):
    asked = []
    found = groups.groups
    monkeypatch.setattr(groups, "groups", lambda specs, **more: asked.append(len(specs)) or found(specs, **more))
    shown = tiny("--method=none", "--method=l2", *arguments)
    assert shown.exit_code == 0, shown.output
    assert asked == [4]  # looked at for the forecast, the list of work and the work itself
