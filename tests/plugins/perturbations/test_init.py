"""What must hold for every registered method."""

import subprocess
import sys

import pytest
import torch
from method_lab import rectified

import lopbench_plugins.perturbations
from lopbench.core.errors import UnsupportedError
from lopbench.core.fields import swept, zeros
from lopbench.core.manager import build_manager
from lopbench.core.registry import Distribution
from lopbench.learner import evaluation

PLUGINS = build_manager(load_entry_points=False)
PLUGINS.register(lopbench_plugins.perturbations, name="perturbations", distribution=Distribution("lopbench", "0"))
METHODS = {name: PLUGINS.registry.get("methods", name).load() for name in PLUGINS.registry.names("methods")}

#: The fields of strength zero, none for a method that has no strength.
ZERO = {
    "activation": {},
    "c_chain": {"strength": 0.0},
    "cbp": {"replacement_rate": 0.0},
    "cpr": {"rate": 0.0},
    "crelu": {},
    "dash": {"floor": 1},
    "dropout": {"p": 0.0},
    "effective_rank_penalty": {"strength": 0.0},
    "fire": {},
    "hare_and_tortoise": {},
    "head_reset": {"layers": 0},
    "infer": {"strength": 0.0},
    "input_norm": {},
    "l2": {"strength": 0.0},
    "l2_init": {"strength": 0.0},
    "layernorm": {},
    "nap": {},
    "noisy_sgd": {"scale": 0.0},
    "optimizer_reset": {},
    "parseval": {"strength": 0.0},
    "plasticity_injection": {},
    "redo": {},
    "regrama": {},
    "reset": {},
    "shrink_and_perturb": {"shrink": 1.0, "perturb": 0.0},
    "shrink_and_perturb_step": {"weight_decay": 0.0, "std": 0.0},
    "snr": {},
    "spectral": {"strength": 0.0},
    "swr": {"share": 0.0},
    "upgd": {},
    "wasserstein": {"strength": 0.0},
    "weight_clipping": {},
    "weight_decay": {"strength": 0.0},
}
#: The fields that may differ between replicas of one program.
SWEPT = {
    "c_chain": ("strength",),
    "cbp": ("replacement_rate",),
    "cpr": ("rate", "decay", "steepness"),
    "effective_rank_penalty": ("strength",),
    "hare_and_tortoise": ("momentum",),
    "infer": ("strength", "scale"),
    "l2": ("strength",),
    "l2_init": ("strength",),
    "noisy_sgd": ("scale", "decay"),
    "parseval": ("strength",),
    "redo": ("threshold",),
    "regrama": ("threshold",),
    "shrink_and_perturb_step": ("weight_decay", "std"),
    "snr": ("eta",),
    "spectral": ("strength",),
    "swr": ("share",),
    "upgd": ("decay", "noise", "weight_decay"),
    "wasserstein": ("strength",),
    "weight_clipping": ("kappa",),
    "weight_decay": ("strength",),
}
#: Methods that act at boundaries, and those whose layers draw from the one global generator.
AWARE = {"dash", "fire", "head_reset", "optimizer_reset", "plasticity_injection", "reset", "shrink_and_perturb"}
DRAWING = {"dropout"}
#: Fields for which 25 steps are enough to see the method act.
STRONG = {
    "cbp": [
        {"replacement_rate": 0.02, "maturity": 5},
        {"replacement_rate": 0.02, "maturity": 5, "accumulate": False, "utility": "random", "bias_transfer": True},
    ],
    "noisy_sgd": [{"scale": 0.1, "decay": 0.9}],
    "shrink_and_perturb_step": [{"weight_decay": 0.1, "std": 0.01}],
    "cpr": [{"rate": 0.05, "period": 5}],
    "l2": [{"strength": 0.1}],
    "l2_init": [{"strength": 0.1}],
    "head_reset": [{"layers": 2}],
    "redo": [{"threshold": 0.9, "period": 5}, {"threshold": 0.9, "period": 5, "cap": 0.2}],
    "regrama": [{"threshold": 0.9, "period": 5}],
    "swr": [{"share": 0.1, "period": 5}],
    "snr": [{"eta": 0.6, "cap": 24, "window": 30}],
    "weight_clipping": [{"kappa": 0.5}],
    "spectral": [{"strength": 0.1}],
    "weight_decay": [{"strength": 1.0}],
    "wasserstein": [{"strength": 0.1}],
    "activation": [{"kind": "leaky_relu"}, {"kind": "fourier"}],
    "nap": [{"scales": "remove"}],
    "dash": [{"steps": 3}],
    "hare_and_tortoise": [{"momentum": 0.9, "every": 7}],
    "c_chain": [{"strength": 1.0}],
    "infer": [{"strength": 0.01, "scale": 10.0}],
    "effective_rank_penalty": [{"strength": 0.1, "every": 5}],
}
CASES = [(name, fields) for name in METHODS for fields in STRONG.get(name, [{}])]
TOGETHER = [(name, fields) for name, fields in CASES if name not in DRAWING]


#: Methods that take networks of ReLU alone.
RECTIFIED = {"crelu"}


def options(name):
    """Return what a learner needs to have a method."""
    return {"build": rectified} if name in RECTIFIED else {}


def same(ours, theirs, *sections):
    """Assert that two snapshots agree to the bit, in all sections or in those named."""
    ours, theirs = (
        {k: v for k, v in snapshot.items() if not sections or k.split("/")[0] in sections}
        for snapshot in (ours, theirs)
    )
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []


@pytest.mark.parametrize("name", METHODS)
def test_fields_say_at_which_strength_nothing_is_done_and_what_may_be_swept(name):
    assert zeros(METHODS[name]) == ZERO[name]
    assert swept(METHODS[name]) == SWEPT.get(name, ())


@pytest.mark.parametrize("name", [name for name in METHODS if ZERO[name]])
def test_strength_zero_is_bit_identical_to_no_method(name, runner):
    method = METHODS[name](**ZERO[name])
    assert not method.active
    without = runner([]).run(30, boundary_every=10).snapshot()
    same(runner([method]).run(30, boundary_every=10).snapshot(), without, "parameter", "optimizer", "buffer")


def changed(ours, theirs):
    """Return whether what is evaluated differs."""
    mine, others = (evaluation.replica(learner, 0)[0] for learner in (ours, theirs))
    return any(k not in mine or mine[k].shape != v.shape or not torch.equal(mine[k], v) for k, v in others.items())


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_method_changes_the_run(name, fields, runner):
    ours, theirs = (
        runner(methods, **options(name)).run(25, boundary_every=10).learner
        for methods in ([METHODS[name](**fields)], [])
    )
    assert changed(ours, theirs)


@pytest.mark.parametrize(("name", "fields"), TOGETHER)
def test_three_replicas_together_equal_three_alone(name, fields, runner):
    method = METHODS[name](**fields)
    exact = {**options(name), "dtype": torch.float64}
    together = runner([method], seeds=(3, 4, 5), **exact).run(25, boundary_every=10).learner.view.parameters
    for replica, seed in enumerate((3, 4, 5)):
        alone = runner([method], seeds=(seed,), **exact).run(25, boundary_every=10).learner.view.parameters
        for key, value in alone.items():
            torch.testing.assert_close(together[key][replica], value[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", sorted(DRAWING))
def test_method_whose_layers_draw_is_refused_for_several_replicas(name, runner):
    with pytest.raises(UnsupportedError):
        runner([METHODS[name]()], seeds=(0, 1))


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_resumed_run_is_bit_identical_to_an_uninterrupted_one(name, fields, runner):
    method = METHODS[name](**fields)
    whole = runner([method], **options(name)).run(13, boundary_every=5)
    saved = whole.snapshot()
    resumed = runner([method], **options(name))
    resumed.learner.load_state_dict(saved)
    resumed.step = whole.step
    same(resumed.run(12, boundary_every=5).snapshot(), whole.run(12, boundary_every=5).snapshot())


@pytest.mark.parametrize("name", METHODS)
def test_method_that_acts_at_boundaries_competes_with_others_that_do(name):
    assert METHODS[name]().track == ("boundary-aware" if name in AWARE else "boundary-free")


@pytest.mark.parametrize("name", sorted(METHODS.keys() - AWARE))
def test_method_that_does_not_act_at_boundaries_does_not_see_them(name, runner):
    fields = STRONG.get(name, [{}])[0]
    method = METHODS[name](**fields)
    with_tasks, without = (
        runner([method], **options(name)).run(25, boundary_every=every).snapshot() for every in (10, 0)
    )
    same(with_tasks, without)


def test_listing_methods_imports_no_torch():
    code = "import sys, lopbench_plugins.perturbations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
