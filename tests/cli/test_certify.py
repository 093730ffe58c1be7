import json

import pytest

MLP = "--architecture=mlp:width=8,depth=2"
QUICK = ("certify", "--input-shape=1/4/4", "--outputs=3", "--steps=2")


@pytest.mark.parametrize("cloner", ["interleave", "tile", "equitable"])
def test_clones_are_certified(lopbench, cloner):
    done = lopbench(*QUICK, MLP, f"--cloner={cloner}", "--factor=3", "--optimizer=adam:lr=1e-3")
    assert done.exit_code == 0
    assert "layers.1.linear" in done.stdout
    assert "Certified" in done.stdout


def test_dropout_is_named_and_the_exit_code_is_one(lopbench):
    done = lopbench(*QUICK, f"{MLP},dropout=0.5")
    assert done.exit_code == 1
    assert "layers.0.dropout (Dropout) breaks MC1" in done.stderr
    assert "persistence" in done.stdout  # the table stands all the same


def test_noise_breaks_the_function(lopbench):
    done = lopbench(*QUICK, MLP, "--cloner=noisy:strength=0.1")
    assert done.exit_code == 1
    assert "The clone does not compute the base's function." in done.stderr


def test_frozen_units_are_certified(lopbench):
    done = lopbench(*QUICK, MLP, "--frozen")
    assert done.exit_code == 0
    assert "exactly zero" in done.stdout
    done = lopbench(*QUICK, f"{MLP},activation=leaky_relu", "--frozen")
    assert done.exit_code == 1
    assert "layers.0.linear breaks the frozen manifold" in done.stderr


@pytest.mark.parametrize("frozen", [(), ("--frozen",)])
def test_json_goes_to_stdout(lopbench, frozen):
    value = json.loads(lopbench(*QUICK, MLP, "--format=json", *frozen).stdout)
    assert value["passed"]
    assert value["verdict"].startswith("Certified")


@pytest.mark.parametrize("shape", ["9" * 5000, "3/9999999999", "", "3/0", "a/b", "3x4"])
def test_shapes_of_another_form_are_refused(lopbench, shape):
    done = lopbench("certify", MLP, f"--input-shape={shape}")
    assert done.exit_code == 2
    assert "3/32/32" in done.stderr


def test_unknown_cloners_are_refused_with_a_near_miss(lopbench):
    done = lopbench("certify", MLP, "--cloner=interleaf")
    assert done.exit_code == 2
    assert "Did you mean 'interleave'?" in done.stderr


PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from torch import nn
from lopbench import Architecture, hookimpl


@dataclass(frozen=True, kw_only=True)
class Normed(Architecture):
    name: ClassVar[str] = "normed"
    affine: bool = True
    tracked: bool = False

    def build(self, input_shape, outputs, *, generator):
        norm = nn.BatchNorm1d(6, affine=self.affine, track_running_stats=self.tracked)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), norm, nn.ReLU(), nn.Linear(6, outputs))


@hookimpl
def lopbench_architectures(register):
    register("normed", Normed, "with a norm")
"""


@pytest.mark.parametrize("fields", ["affine=true", "affine=false", "affine=false,tracked=true"])
def test_batch_norm_without_running_statistics_of_a_plugin_file_is_certified(lopbench, tmp_path, fresh_plugins, fields):
    (tmp_path / "normed_plugin.py").write_text(PLUGIN)
    shown = lopbench(
        "certify", f"--architecture=normed:{fields}", "--input-shape=3/4", f"--plugin={tmp_path / 'normed_plugin.py'}"
    )
    assert shown.exit_code == 0, shown.output
    assert "Certified: every module keeps clones equal" in shown.stdout
    assert shown.stderr == f"certifying normed:{fields} ...\n"
