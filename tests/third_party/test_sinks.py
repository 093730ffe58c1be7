"""The sinks of Weights & Biases and MLflow, against stubs of their clients that refuse what those would refuse."""

import json
import math
import re
import signal
import sys
import types
from pathlib import Path

import pytest
import torch

from lopbench.core.manager import build_manager
from lopbench.results.record import find_records
from lopbench.runner import report, session, study
from lopbench.testing import checks, examples

FOLDER = Path(__file__).parents[2] / "plugins" / "example-sinks"
BITS = {
    "scenario": "bitflip:samples=100,m=8,f=5,T=10,steps_per_task=20,probe_every=4",
    "architecture": "online_mlp:width=4",
    "metrics": ["effective_rank", "gradient_norm"],
    "methods": ["cbp+cbp:replacement_rate=1e-3"],
    "seeds": [0, 1],
    "device": "cpu",
}


class WandB(types.ModuleType):
    """Keeps runs by id, as `wandb` does."""

    def __init__(self):
        super().__init__("wandb")
        self.runs = {}

    def init(self, *, project, name, config, resume, reinit, **given):
        assert (project, reinit, resume) == ("lopbench", "create_new", "allow")
        json.dumps(config)
        run = self.runs.setdefault(given["id"], WandBRun(name, config))
        run.codes.append(None)
        return run


class WandBRun:
    def __init__(self, name, config):
        self.name, self.config = name, config
        self.rows, self.codes, self.axis = [], [], None

    def define_metric(self, name, *, step_metric):
        self.axis = name, step_metric

    def log(self, row):
        assert self.codes[-1] is None
        assert {type(value) for value in row.values()} <= {int, float}
        self.rows.append(row)

    def finish(self, *, exit_code):
        assert self.codes[-1] is None
        self.codes[-1] = exit_code


class MLflow(types.ModuleType):
    """Keeps runs of one experiment, as `mlflow` does."""

    def __init__(self):
        super().__init__("mlflow")
        self.runs = []
        self.MlflowClient = lambda: self

    def set_experiment(self, name):
        assert name == "lopbench"
        return types.SimpleNamespace(experiment_id="1")

    def search_runs(self, experiments, query):
        assert experiments == ["1"]
        (run_id,) = re.fullmatch("tags.lopbench_run = '(.*)'", query).groups()
        return [run for run in reversed(self.runs) if run.tags["lopbench_run"] == run_id]

    def create_run(self, experiment, *, run_name, tags):
        assert experiment == "1"
        info = types.SimpleNamespace(run_id=f"run{len(self.runs)}")
        self.runs.append(types.SimpleNamespace(info=info, name=run_name, tags=tags, rows=[], states=[]))
        return self.runs[-1]

    def _run(self, run_id):
        return self.runs[int(run_id.removeprefix("run"))]

    def update_run(self, run_id, *, status):
        self._run(run_id).states.append(status)

    def log_metric(self, run_id, key, value, *, step):
        run = self._run(run_id)
        assert run.states[-1] == "RUNNING"
        assert re.fullmatch(r"[\w./ -]+", key)
        assert isinstance(value, float)
        run.rows.append((step, key, value))

    def set_terminated(self, run_id, status):
        assert self._run(run_id).states[-1] == "RUNNING"
        assert status in ("FINISHED", "FAILED", "KILLED")
        self._run(run_id).states.append(status)


@pytest.fixture
def sink(monkeypatch, request):
    """Return the stub of a client, and the sink that tells it."""
    stub = request.param()
    name = stub.__name__
    monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.delitem(sys.modules, f"lopbench_file_lopbench_{name}", raising=False)
    plugins = build_manager(load_entry_points=False)
    plugins.load_file(FOLDER / f"lopbench_{name}.py")
    cls = plugins.registry.get("sinks", name).load()
    yield stub, cls
    del sys.modules[f"lopbench_file_lopbench_{name}"]


@pytest.fixture
def planned(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield study.plan(**BITS, results=tmp_path)
    torch.set_num_threads(threads)


class Stops(report.Quiet):
    """Interrupts at the fourth look."""

    looks = 0

    def advanced(self, steps, task, tasks, score):
        self.looks += 1
        if self.looks == 4:
            signal.raise_signal(signal.SIGINT)


def killed_and_done(planned, cls, monkeypatch, capsys):
    """Do a study that is interrupted once, and return its records."""
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        study.execute(planned, Stops(), checkpoint_s=0.0, sinks=[cls()])
    assert study.execute(planned, sinks=[cls()]) == []
    assert capsys.readouterr().err == ""  # the sink has not failed
    return find_records(planned.results)


def rows_of(record):
    """Yield step, task, name and value of a record's rows."""
    for row in record.table.to_pylist():
        name = row["metric"] + (f"/{row['layer']}" if row["layer"] else "")
        yield row["step"], row["task"], name, math.nan if row["value"] is None else row["value"]


@pytest.mark.parametrize("sink", [WandB], indirect=True)
def test_wandb_has_each_run_once_with_what_its_record_holds(sink, planned, monkeypatch, capsys):
    stub, cls = sink
    records = killed_and_done(planned, cls, monkeypatch, capsys)
    assert stub.runs.keys() == {record.run_id for record in records}
    for record in records:
        run = stub.runs[record.run_id]
        assert run.name == report.label(record.spec)
        assert run.config == json.loads((record.path / "spec.json").read_text())
        assert run.axis == ("*", "step")
        assert run.codes in ([0], [0, 0])
        logged = [(row["step"], row["task"], *each) for row in run.rows for each in row.items()]
        assert {each for each in logged if each[2] not in ("step", "task")} == set(rows_of(record))  # some twice
    assert max(len(run.codes) for run in stub.runs.values()) == 2


@pytest.mark.parametrize("sink", [MLflow], indirect=True)
def test_mlflow_has_each_run_once_with_what_its_record_holds(sink, planned, monkeypatch, capsys):
    stub, cls = sink
    records = killed_and_done(planned, cls, monkeypatch, capsys)
    runs = {run.tags["lopbench_run"]: run for run in stub.runs}
    assert len(runs) == len(stub.runs) == len(records)
    for record in records:
        run = runs[record.run_id]
        assert run.name == report.label(record.spec)
        assert run.states in (["RUNNING", "FINISHED"], ["RUNNING", "KILLED", "RUNNING", "FINISHED"])
        assert set(run.rows) == {(step, name.replace("#", "_"), value) for step, _, name, value in rows_of(record)}
    assert max(len(run.states) for run in stub.runs) == 4


@pytest.mark.parametrize("sink", [WandB, MLflow], indirect=True)
def test_they_pass_the_checks(sink):
    for component in examples(sink[1]):
        outcomes = [check.run(component) for check in checks(component)]
        assert [outcome.message for outcome in outcomes if outcome.status == "failed"] == []
        assert sum(outcome.status == "passed" for outcome in outcomes) >= 6
