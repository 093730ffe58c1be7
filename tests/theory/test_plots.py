import subprocess
import sys

import numpy as np
import pytest

from lopbench.core.errors import InvalidInputError
from lopbench.results.plots import save
from lopbench.theory.kernels import CorrelationKernel
from lopbench.theory.plots import operating_regimes


@pytest.fixture(scope="module")
def figure():
    return operating_regimes(["relu", "tanh"], gain=2.0)


def lines(axes):
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.lines}


def test_each_activation_has_a_row_of_kernels_and_strengths(figure):
    rows = np.reshape(figure.axes, (2, 4))
    assert [row[0].get_ylabel() for row in rows] == ["relu", "tanh"]
    assert [axes.get_title() for axes in rows[0]] == ["gain 2", "gain 2", "bias 0", "bias 0"]
    assert [axes.get_xlabel() for axes in rows[1]] == ["r", "bias", "r", "gain"]


def test_what_is_drawn_is_what_the_kernel_says(figure):
    over_bias = lines(figure.axes[0])
    r, values = over_bias["-1"]
    np.testing.assert_allclose(values, CorrelationKernel("relu", -1.0, 2.0)(r))
    gains, kappa = lines(figure.axes[7])["kappa"]
    _, frozen = lines(figure.axes[7])["frozen share"]
    kernel = CorrelationKernel("tanh", 0.0, gains[20])
    assert (kappa[20], frozen[20]) == (kernel.decorrelation_strength, kernel.frozen_share())


def test_kappa_and_frozen_share_rise_together(figure):
    for axes, direction in ((figure.axes[1], -1), (figure.axes[7], 1)):
        for name in ("kappa", "frozen share"):
            assert (direction * np.diff(lines(axes)[name][1]) >= -1e-12).all()


def test_where_a_function_is_constant_nothing_is_drawn():
    figure = operating_regimes([lambda x: (x - 8).clamp(min=0)], bias=8.0)
    assert np.isfinite(lines(figure.axes[3])["kappa"][1]).all()
    biases, kappa = lines(figure.axes[1])["kappa"]
    assert np.isfinite(kappa).tolist() == (biases > 8 - 16).tolist()


def test_a_figure_of_nothing_or_of_a_bad_range_is_refused():
    with pytest.raises(InvalidInputError, match="at least one activation function"):
        operating_regimes([])
    with pytest.raises(InvalidInputError, match="gain must be a number above 0"):
        operating_regimes(["relu"], gain=-1.0)


def test_the_same_figure_is_the_same_bytes(tmp_path):
    for name in "ab":
        save(operating_regimes(["sigmoid"]), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_importing_the_plots_loads_no_plotting_library():
    code = "import sys, lopbench.theory.plots; print(sorted({'matplotlib', 'seaborn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
