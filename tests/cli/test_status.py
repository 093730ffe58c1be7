import json
from pathlib import Path


def test_it_counts_what_is_done_and_tells_of_the_rest(lopbench, tiny):
    tiny("--method=none")
    shown = lopbench("status")
    assert (shown.exit_code, shown.stdout) == (0, "2 completed\n")
    tiny("--method=none", "--optimizer=sgd:lr=1e30")
    shown = lopbench("status", "results")
    counts, first, second = (text.rstrip() for text in shown.stdout.splitlines())
    assert counts == "2 completed, 2 diverged"  # the learner, and the same recipe from fresh
    for line in (first, second):
        assert line.startswith("diverged  ")
        assert "the loss was not finite at step" in line


def test_json_has_every_run(lopbench, tiny):
    tiny("--method=none")
    found = json.loads(lopbench("status", "--format=json").stdout)
    assert [each["state"] for each in found] == ["completed"] * 2
    assert {Path(each["path"]).name for each in found} == {path.name for path in Path("results/runs").iterdir()}


def test_a_folder_that_is_not_there_is_one_sentence(lopbench):
    shown = lopbench("status", "nowhere")
    assert shown.exit_code == 1
    assert shown.stderr == "Error: nowhere is not a folder; give a results folder, a run directory or a packed set.\n"
