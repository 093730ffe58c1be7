"""Runs that clone their learner: the clone, the base beside it, and the fresh network of both."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from stopping import Stopping
from torch import nn

from lopbench.core import rng
from lopbench.core.errors import UnsupportedError, UsageError
from lopbench.core.interfaces import Architecture, Cloner
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.core.spec import ComponentSpec, build_optimizer
from lopbench.data import ImageSet
from lopbench.learner.learner import StackLearner
from lopbench.learner.step import Taken
from lopbench.results.leaderboard import leaderboard
from lopbench.results.record import read_record, record_path
from lopbench.results.seed_scores import BASE
from lopbench.runner import session, study
from lopbench.runner.scored import ScoredLearner
from lopbench.runner.setting import Setting
from lopbench_plugins.architectures.cnn import CNN
from lopbench_plugins.architectures.mlp import MLP
from lopbench_plugins.architectures.resnet18 import ResNet18
from lopbench_plugins.architectures.vit import ViT
from lopbench_plugins.cloners.interleave import Interleave

CLASSES, TRAIN, TEST = 10, 9, 4
BASE_EPOCHS, EPOCHS, STEPS = 2, 5, 3
SCENARIO = f"cloning:base_epochs={BASE_EPOCHS},epochs={EPOCHS},images_per_class=8,batch_size=32"
CLONED = STEPS * BASE_EPOCHS
METRICS = ("cloning_r2_forward", "cloning_r2_backward", "manifold_distance", "effective_rank", "distance_from_init")
ARCHITECTURE = "mlp:width=12,depth=2,normalization=batch"


def images(*_, **__):
    """Stands for `load_data`: ten classes that differ in colour, under noise."""
    draws = np.random.default_rng(0)
    colours = draws.integers(60, 196, (CLASSES, 1, 3, 1, 1))

    def draw(count):
        noise = draws.integers(-60, 60, (CLASSES, count, 3, 32, 32))
        return np.clip(colours + noise, 0, 255).astype(np.uint8).reshape(-1, 3, 32, 32)

    return ImageSet(
        name="tiny",
        content_hash="0" * 64,
        subset=False,
        classes=tuple(f"c{k}" for k in range(CLASSES)),
        train_images=draw(TRAIN),
        train_labels=np.repeat(np.arange(CLASSES), TRAIN),
        test_images=draw(TEST),
        test_labels=np.repeat(np.arange(CLASSES), TEST),
        real=False,
        notice="Ten coloured classes.",
        terms="",
    )


@pytest.fixture
def make_study(monkeypatch, tmp_path):
    """Return `plan` for tiny runs that clone."""
    monkeypatch.setattr(study, "load_data", images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    defaults = {"scenario": SCENARIO, "architecture": ARCHITECTURE, "metrics": METRICS, "device": "cpu"}
    yield lambda results=tmp_path / "results", **changes: study.plan(results=results, **{**defaults, **changes})
    torch.set_num_threads(threads)


def learners(planned):
    """Return a study of the runs that were asked for, without their references."""
    return replace(planned, pending=planned.specs)


def done(planned):
    """Do the runs that were asked for; returns their records."""
    assert study.execute(learners(planned)) == []
    return [read_record(record_path(planned.results, spec)) for spec in planned.specs]


def rows(record, metric):
    """Return step, task and value of each row of a metric, in order."""
    frame = record.measurements
    found = frame[frame["metric"] == metric]
    return list(zip(found["step"], found["task"], found["value"], strict=True))


def values(record, metric):
    return [value for _, _, value in rows(record, metric)]


# -- what a run is


def test_clone_and_base_train_as_they_would_by_themselves(make_study):
    optimizer = "sgd:lr=0.05,momentum=0.9"
    (record,) = done(make_study(optimizers=[optimizer]))
    scenario = record.spec.scenario.build()
    stream = scenario.stream(0, data=images(), device=torch.device("cpu"))
    architecture = MLP(width=12, depth=2, normalization="batch")
    shared = {
        "seeds": [0],
        "optimizer": build_optimizer(ComponentSpec.parse("optimizers", optimizer)),
        "example": torch.zeros(2, 3, 32, 32),
        "outputs": CLASSES,
    }
    base = StackLearner(build=lambda g: architecture.build((3, 32, 32), CLASSES, generator=g), **shared)
    clone = None
    base_losses, clone_losses = [], []
    for epoch in range(scenario.tasks):
        task = stream.task(epoch)
        if epoch == scenario.growth.task:
            wide = Interleave().clone(
                base.network.module, 2, example=torch.zeros(2, 3, 32, 32), generator=rng.derive(0, "x")
            )
            clone = StackLearner(build=None, clones=([wide[0]], wide[1]), **shared)  # with a new optimizer
        for learner in filter(None, (base, clone)):
            learner.turn_to(epoch, [task])
        batches = task.batches()
        sums = torch.zeros(2, scenario.steps_per_task, dtype=torch.float64)
        for step in range(scenario.steps_per_task):
            batch = next(batches)  # the same for both
            sums[0, step] = base.step([batch]).losses.item()
            if clone:
                sums[1, step] = clone.step([batch]).losses.item()
        base_losses.append(sums[0].mean().item())
        clone_losses.append(sums[1].mean().item())
    measured = values(record, "online_loss")
    assert measured[:BASE_EPOCHS] + values(record, "base_online_loss") == base_losses
    assert measured[BASE_EPOCHS:] == clone_losses[BASE_EPOCHS:]
    last = stream.task(scenario.tasks - 1)
    assert values(record, "base_heldout_accuracy")[-1] == base.evaluate(0, last)["heldout_score"]
    assert values(record, "heldout_accuracy")[-1] == clone.evaluate(0, last)["heldout_score"]


def test_clone_starts_with_the_function_of_the_base_and_both_are_measured_there(make_study):
    (record,) = done(make_study())
    for layer, found in record.measurements.groupby("layer"):
        if layer:
            at = found[found["step"] == CLONED].set_index(["task", "metric"])["value"]
            before, clone = at[BASE_EPOCHS - 1, "effective_rank"], at[BASE_EPOCHS, "effective_rank"]
            assert at[BASE_EPOCHS, "base_effective_rank"] == before
            assert clone == pytest.approx(before, rel=1e-4)
            assert at[BASE_EPOCHS, "cloning_r2_forward"] == 1
    assert values(record, "distance_from_init")[BASE_EPOCHS + 1] == 0  # of the clone, from where it was born
    assert values(record, "base_distance_from_init")[0] > 0


@pytest.mark.parametrize(
    ("architecture", "optimizer"),
    [
        (ARCHITECTURE, "sgd:lr=0.05,momentum=0.9"),
        (ARCHITECTURE, "adam:lr=1e-3"),
        ("cnn:channels=4/6,hidden=8,normalization=batch", "sgd:lr=0.05"),
        ("vit:width=12,depth=1,heads=2", "sgd:lr=0.05"),
    ],
)
def test_clone_stays_on_the_manifold_without_a_method(make_study, architecture, optimizer):
    (record,) = done(make_study(architecture=architecture, optimizers=[optimizer]))
    for metric in ("cloning_r2_forward", "cloning_r2_backward"):
        found = rows(record, metric)
        assert [value for _, _, value in found] == pytest.approx([1.0] * len(found), abs=1e-6)
        assert sorted({(step, task) for step, task, _ in found}) == [
            (CLONED, BASE_EPOCHS),
            *((STEPS * (task + 1), task) for task in range(BASE_EPOCHS, BASE_EPOCHS + EPOCHS)),
        ]
    assert max(values(record, "manifold_distance")) < 1e-6


def test_methods_act_on_the_clone_alone_and_lead_it_off_the_manifold(make_study):
    plain, noisy = done(make_study(methods=["none", "noisy_sgd:scale=0.01"]))
    assert values(noisy, "manifold_distance")[0] == 0
    assert values(noisy, "manifold_distance")[-1] > 1e-3
    assert values(noisy, "cloning_r2_forward")[-1] < 0.9999
    assert values(noisy, "online_loss")[BASE_EPOCHS:] != values(plain, "online_loss")[BASE_EPOCHS:]
    before = {"online_loss", "online_accuracy", "effective_rank"}
    for metric in {name for name in plain.measurements["metric"] if name.startswith("base_")} | before:
        kept = [
            [row for row in rows(record, metric) if metric.startswith("base_") or row[1] < BASE_EPOCHS]
            for record in (plain, noisy)
        ]
        assert kept[0] == kept[1]
        assert kept[0]


def test_what_a_method_builds_into_the_network_is_in_both(make_study):
    plain, dropped = done(make_study(methods=["none", "dropout:p=0.3"]))
    assert values(dropped, "online_loss")[0] != values(plain, "online_loss")[0]  # from the first epoch on
    assert values(dropped, "cloning_r2_forward")[0] == 1
    assert values(dropped, "manifold_distance")[-1] > 1e-4


def test_methods_that_reset_units_draw_them_from_the_law_of_the_wider_network(make_study):
    method = "cbp:replacement_rate=0.2,maturity=1"
    (record,) = done(make_study(methods=[method], architecture="mlp:width=12,depth=2"))
    assert record.outcome == "completed"
    assert values(record, "manifold_distance")[-1] > 1e-2


def test_fresh_reference_is_one_network_as_wide_as_the_clone_and_as_old_as_its_base(make_study):
    planned = make_study()
    assert study.execute(planned) == []
    (spec,) = planned.specs
    assert planned.pending == (spec, spec.reference())
    assert planned.steps == (STEPS * (BASE_EPOCHS + EPOCHS), STEPS * (BASE_EPOCHS + EPOCHS))
    record, fresh = (read_record(record_path(planned.results, each)) for each in planned.pending)
    assert list(fresh.per_task("online_accuracy")) == list(range(BASE_EPOCHS + EPOCHS))
    assert fresh.status["steps"] == STEPS * (BASE_EPOCHS + EPOCHS)
    assert fresh.status["state_bytes"] == record.status["state_bytes"]  # both without the base
    assert not [name for name in fresh.measurements["metric"] if name.startswith("base_")]
    row = leaderboard(planned.results).iloc[0]
    scores = [record.per_task("online_accuracy"), record.per_task("base_online_accuracy")]
    scores.append(fresh.per_task("online_accuracy"))
    gained = [sum(each[task] - 0.1 for task in range(BASE_EPOCHS, BASE_EPOCHS + EPOCHS)) for each in scores]
    assert row["retention"] == pytest.approx(gained[0] / gained[1])
    assert row["wide_retention"] == pytest.approx(gained[0] / gained[2])
    assert row["reference"] == "base"


#: A base, and what is twice as wide.
WIDER = [
    (MLP(width=6), MLP(width=12)),
    (MLP(width=6, normalization="batch"), MLP(width=12, normalization="batch")),
    (CNN(channels=(3, 4), hidden=5), CNN(channels=(6, 8), hidden=10)),
    (ResNet18(base_width=4), ResNet18(base_width=8)),
    (ViT(depth=1, width=8, heads=2), ViT(depth=1, width=16, heads=4)),
]


@pytest.mark.parametrize(("base", "wide"), WIDER, ids=repr)
def test_fresh_network_beside_a_clone_is_one_that_was_built_as_wide(make_study, base, wide):
    (spec,) = make_study(architecture=base).specs
    setting = Setting.of([spec.reference()], data=images(), device=torch.device("cpu"))
    learner = setting.new_learner(setting.schedule.places[0])
    # So each layer has the law of its new width: the very draws of a network for which that width was asked.
    built = wide.build((3, 32, 32), CLASSES, generator=rng.derive(spec.seed, "init", 0))
    fresh = {name: value[0] for name, value in learner.view.parameters.items()}
    torch.testing.assert_close(fresh, dict(built.named_parameters()), rtol=0, atol=0)
    narrow = base.build((3, 32, 32), CLASSES, generator=rng.derive(0, "x"))
    clone, profile = Interleave().clone(narrow, 2, example=torch.zeros(2, 3, 32, 32), generator=rng.derive(0))
    assert {name: value.shape for name, value in fresh.items()} == {
        name: value.shape for name, value in clone.named_parameters()
    }
    # Nothing in it is a clone; vectors cannot show it, for norms have one value and the head's bias is not widened.
    assert min(apart.abs().max() for apart in profile.residual(fresh).values() if apart.ndim > 1) > 1e-4


def test_an_architecture_that_cannot_say_has_no_network_as_wide_beside_its_clones(make_study, monkeypatch):
    monkeypatch.setattr(MLP, "widened", Architecture.widened)
    planned = make_study()
    assert planned.pending == planned.specs
    assert study.execute(planned) == []
    row = leaderboard(planned.results).iloc[0]
    assert not np.isnan(row["retention"])  # the base is there
    assert np.isnan(row["wide_retention"])


@pytest.mark.parametrize("method", ["none", "dropout:p=0.3"])
def test_base_and_clone_are_scored_on_every_task_from_the_cloning_on_without_noise(make_study, method):
    still = "sgd:lr=1e-12"  # nothing moves, so that the clone keeps the function of its base
    (record,) = done(make_study(methods=[method], architecture="mlp:width=12,depth=2", optimizers=[still]))
    for metric in ("online_accuracy", "online_loss", "heldout_accuracy", "heldout_loss"):
        base = record.per_task(f"base_{metric}")
        assert list(base) == list(range(BASE_EPOCHS, BASE_EPOCHS + EPOCHS))
        assert base == pytest.approx({task: record.per_task(metric)[task] for task in base}, rel=1e-5)


def test_base_that_diverged_is_measured_no_more():
    class Learner:
        device = torch.device("cpu")
        replicas = 1

        def step(self, batches, **options):
            return Taken(torch.tensor([torch.nan]), torch.tensor([0.0]))

    base = ScoredLearner(Learner(), metrics=(), score="accuracy", prefix=BASE)
    base.start_counting(3)
    base.step([])
    assert list(base.task_scores(0, None)) == []
    assert list(base.diagnostics(0, None)) == []


# -- resuming


@pytest.mark.parametrize("method", ["noisy_sgd+l2", "dropout", "cbp:replacement_rate=0.2,maturity=1"])
@pytest.mark.parametrize("architecture", ["mlp:width=12,depth=2", ARCHITECTURE])
def test_run_stopped_anywhere_ends_bit_for_bit_as_one_left_alone(
    make_study, monkeypatch, tmp_path, method, architecture
):
    request = {"methods": [method], "architecture": architecture, "optimizers": ["sgd:lr=0.05,momentum=0.9"]}
    (whole,) = done(make_study(tmp_path / "whole", **request))
    monkeypatch.setattr(session, "LOOK_S", 0.0)
    planned = learners(make_study(**request))
    # In the base's time; before, at and after the end of its last epoch; in the clone's first and a later one.
    for looks in (2, CLONED - 3, 1, 1, 1, 6):
        with pytest.raises(KeyboardInterrupt):
            study.execute(planned, Stopping(looks), checkpoint_s=0.0)
    (record,) = done(planned)
    assert record.status["sessions"] == 7
    assert record.measurements_digest == whole.measurements_digest


# -- refusals


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"scenario": "tinyimagenet40", "cloner": "interleave"}, "--cloner interleave: tinyimagenet40 clones nothing"),
        ({"scenario": "tinyimagenet40", "metrics": ["cloning_r2_forward"]}, "compares clones, and tinyimagenet40"),
        ({"cloner": "interleaved"}, "Did you mean 'interleave'"),
        ({"methods": ["l2"], "start": 0.5}, "acts on the clone from its beginning in cloning; leave out --from"),
        ({"methods": ["reset"]}, "cloning is a stream without any"),
    ],
)
def test_requests_that_make_no_sense_are_refused_in_a_sentence(make_study, request_, message):
    with pytest.raises(UsageError, match=message):
        make_study(**request_)


def test_cloner_is_part_of_the_protocol_and_interleave_unless_named(make_study):
    usual, named, other = (make_study(cloner=text).specs[0] for text in (None, "interleave", "tile"))
    assert usual.cloner.name == "interleave"
    assert usual == named
    assert usual.protocol_id != other.protocol_id
    assert study.Request(scenario="tinyimagenet40").asked().specs(None)[0].cloner is None


def test_metrics_of_clones_are_measured_unless_others_are_named(make_study):
    labels = [metric.label() for metric in make_study(metrics=None).specs[0].metrics]
    assert {"cloning_r2_forward", "cloning_r2_backward", "effective_rank"} <= set(labels)
    assert len(set(labels)) == len(labels)


@dataclass(frozen=True, kw_only=True)
class Unwidened(Architecture):
    """A network that does not say how wider ones start."""

    name: ClassVar[str] = "unwidened"

    def build(self, input_shape, outputs, *, generator):
        return MLP(width=12, depth=1).build(input_shape, outputs, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Unwilling(Cloner):
    """Clones nothing."""

    name: ClassVar[str] = "unwilling"

    def clone(self, module: nn.Module, factor, *, example, generator):
        raise UnsupportedError("no layer can be served")


@pytest.fixture
def strangers(monkeypatch):
    """Register a cloner that refuses and an architecture without a law of wider networks, for one test."""
    for kind, component in (("architectures", Unwidened), ("cloners", Unwilling)):
        entry = Registration(kind, component.name, component, "", Distribution("tests", "1"))
        monkeypatch.setitem(plugins().registry._entries[kind], component.name, entry)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"cloner": "unwilling"}, "no layer can be served"),
        ({"architecture": "unwidened", "methods": ["cbp"]}, "unwidened does not say how its wider networks start"),
    ],
)
def test_what_cannot_be_cloned_is_refused_before_the_base_is_trained(
    make_study, strangers, monkeypatch, tmp_path, request_, message
):
    def untrained(*arguments):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(StackLearner, "step", untrained)
    with pytest.raises(UnsupportedError, match=message):
        make_study(**request_)
    assert not (tmp_path / "results").exists()


def test_architecture_without_a_law_of_wider_networks_serves_methods_that_reset_nothing(make_study, strangers):
    (record,) = done(make_study(architecture="unwidened", methods=["noisy_sgd"]))
    assert record.outcome == "completed"


def test_a_method_that_changed_nothing_in_the_clone_is_noted(make_study):
    (record,) = done(make_study(methods=["dropout+noisy_sgd+l2:strength=0+cbp:maturity=1000"], metrics=[]))
    assert record.status["idle"] == [None, None, "zero", "nothing"]
