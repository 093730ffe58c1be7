"""What streams of labelled images tell of forgetting: the score on the task before, alone and in runs."""

import pytest

from lopbench.core.probe import NetworkProbe
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import find_records
from lopbench.results.tasks import task_means
from lopbench.runner import study
from lopbench_plugins.metrics.former_score import FormerScore


@pytest.mark.parametrize("score", [None, 0.25])
def test_it_is_the_score_that_the_probe_tells(score):
    assert FormerScore().compute(NetworkProbe({}, {}, {}, (), score_former=lambda: score)) == score


@pytest.fixture
def runs(monkeypatch, numbered, tmp_path):
    """Return a function that does tiny runs, and returns the record of the learner."""
    monkeypatch.setattr(study, "load_data", lambda *_, **__: numbered())

    def done(scenario, metrics, folder, fields=""):
        planned = study.plan(
            results=tmp_path / folder,
            scenario=f"{scenario}:{fields}tasks=6,steps_per_task=12,batch_size=10",
            methods=["none"],
            seeds=[0],
            device="cpu",
            metrics=metrics,
        )
        assert study.execute(planned) == []
        return next(record for record in find_records(tmp_path / folder) if record.spec.kind == "continual")

    return done


@pytest.mark.parametrize("scenario", ["label_permuted", "permuted_mnist"])
def test_a_run_tells_what_it_forgets_and_is_otherwise_what_it_was(runs, scenario, tmp_path):
    plain, told = runs(scenario, [], "plain"), runs(scenario, ["former_score"], "told")
    found = task_means(told, "former_score")
    assert list(found) == [1, 2, 3, 4, 5]  # nothing is before the first
    at_end = told.per_task("heldout_accuracy")
    expected = sum(at_end[task - 1] - found[task] for task in range(1, 6)) / 5  # all tasks but the first are late
    assert leaderboard(tmp_path / "told")["forgetting"].item() == pytest.approx(expected, rel=1e-12)
    others = told.measurements[told.measurements["metric"] != "former_score"].reset_index(drop=True)
    assert others.equals(plain.measurements)
    assert told.protocol_id == plain.protocol_id


def test_a_scenario_that_does_not_tell_has_none(runs):
    assert task_means(runs("random_labels", ["former_score"], "results", "images=40,"), "former_score") == {}
