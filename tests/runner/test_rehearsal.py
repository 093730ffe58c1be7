"""What cannot be run is told by the plan, in one sentence, and what is done is not rehearsed."""

import pytest

from lopbench import DataError, UnsupportedError
from lopbench.learner.learner import StackLearner
from lopbench.runner import rehearsal, study

BITS = "bitflip:samples=24,m=6,f=3,T=6,steps_per_task=6"


@pytest.mark.parametrize(
    ("scenario", "architecture", "told"),
    [
        (BITS, "char_transformer", "char_transformer reads tokens, and bitflip gives numbers; use an architecture for"),
        (BITS, "actor_critic", "actor_critic reads what an agent observes, and no agent acts in bitflip; use"),
    ],
)
def test_an_architecture_that_reads_other_inputs_is_refused(tmp_path, scenario, architecture, told):
    with pytest.raises(UnsupportedError, match=f"^{told}"):
        study.plan(scenario=scenario, architecture=architecture, device="cpu", results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_an_agent_may_be_one_network_or_actor_and_critic(tmp_path):
    for architecture in ("mlp", "actor_critic"):
        study.plan(
            scenario="cartpole", profile="smoke", architecture=architecture, device="cpu", results=tmp_path / "results"
        )


@pytest.mark.parametrize("task", [0, -1])
def test_a_task_that_the_data_cannot_feed_is_refused(tmp_path, monkeypatch, task):
    planned = study.plan(scenario=BITS, device="cpu", results=tmp_path / "results")
    stream = type(planned.scenario.stream(0, data=None, device=rehearsal.torch.device("cpu")))
    original, refused = stream.task, task % planned.scenario.tasks

    def refusing(self, index):
        if index == refused:
            raise DataError("too few bits")
        return original(self, index)

    monkeypatch.setattr(stream, "task", refusing)
    with pytest.raises(DataError, match=r"^too few bits$"):
        study.plan(scenario=BITS, device="cpu", seeds=range(3), methods=["none", "l2"], results=tmp_path / "results")


def test_one_network_is_made_of_each_kind_and_none_of_what_is_recorded(tmp_path, monkeypatch):
    made = []
    original = StackLearner.__init__

    def counting(self, **given):
        made.append(given["seeds"])
        original(self, **given)

    monkeypatch.setattr(StackLearner, "__init__", counting)
    asked = {"scenario": BITS, "device": "cpu", "seeds": range(4), "results": tmp_path / "results"}
    study.plan(**asked, methods=["none", "l2", "l2:strength=0.1"], sweeps=["lr=0.01,0.001"])
    assert made == [[0], [0]]
    monkeypatch.setattr(study, "is_recorded", lambda results, spec: True)
    study.plan(**asked, methods=["none", "l2"])
    assert len(made) == 2


def test_methods_that_fail_alike_give_one_sentence_and_are_named(tmp_path, monkeypatch):
    def refuse(self, learner, state):
        raise UnsupportedError("l2: needs more")

    monkeypatch.setattr("lopbench_plugins.perturbations.l2.L2.begin", refuse, raising=False)
    planned = study.plan(scenario=BITS, device="cpu", results=tmp_path / "results", methods=["none"])
    l2 = study.Request(scenario=BITS, methods=["none", "l2", "l2+cbp", "l2:strength=0.1"]).asked().specs(None)
    with pytest.raises(UnsupportedError, match=r"^l2: needs more; leave out l2 and l2\+cbp$"):
        rehearsal.rehearse(l2, data=planned.images)


def test_what_fails_in_another_way_is_left_to_its_run(tmp_path, monkeypatch):
    def crash(self, module, **_):
        raise ZeroDivisionError

    monkeypatch.setattr("lopbench_plugins.perturbations.layernorm.LayerNorm.configure", crash)
    planned = study.plan(scenario=BITS, device="cpu", methods=["layernorm", "none"], results=tmp_path / "results")
    assert {spec.method_label for spec in planned.specs} == {"layernorm", "none"}
