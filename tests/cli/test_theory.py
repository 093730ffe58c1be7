import json
import subprocess
import sys

import pytest

from lopbench.cli.theory import describe
from lopbench.theory.kernels import CorrelationKernel


def test_the_table_shows_the_activations_of_the_field(lopbench):
    shown = lopbench("theory")
    assert shown.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines() if line.strip()}
    first = list(rows).index("relu")  # below the headings, which are broken
    assert list(rows)[first : first + 8] == ["relu", "leaky_relu", "gelu", "silu", "elu", "selu", "tanh", "sigmoid"]
    # bias, gain, kappa, at r, alpha, alpha as printed, rank gain at .5, .9, .99 (5.262669 / 3.883495, ...), frozen
    assert rows["relu"] == ["0", "1", "0.0889", "0.7097", "0.4669", "0.0000", "1.3551", "1.0758", "1.0085", "0.5000"]


@pytest.mark.parametrize("how", [["--json"], ["--format", "json"]])
def test_json_has_every_combination_in_full(lopbench, how):
    arguments = ["--activation=relu", "--activation=tanh", "--bias=0", "--bias=-1", "--gain=2"]
    rows = json.loads(lopbench("theory", *arguments, *how).stdout)
    assert [(row["activation"], row["bias"], row["gain"]) for row in rows] == [
        ("relu", 0.0, 2.0),
        ("relu", -1.0, 2.0),
        ("tanh", 0.0, 2.0),
        ("tanh", -1.0, 2.0),
    ]
    assert rows[3] == describe(CorrelationKernel("tanh", -1.0, 2.0))


def test_an_infinite_rate_is_null_in_json_and_inf_in_the_table(lopbench):
    (row,) = json.loads(lopbench("theory", "--activation=sign", "--json").stdout)
    assert row["alpha_centred"] is None
    assert row["kappa"] == pytest.approx(0.305637, abs=1e-6)
    assert "  inf  " in lopbench("theory", "--activation=sign").stdout


def test_the_plot_is_written_and_said_on_stderr(lopbench, tmp_path):
    shown = lopbench("theory", "--activation=gelu", "--plot=figure.svg", "--json")
    assert shown.exit_code == 0
    assert shown.stderr == "Written to figure.svg.\n"
    json.loads(shown.stdout)
    assert ">gelu<" in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--activation=rleu"], 2, "Unknown activation 'rleu'. Did you mean 'relu'"),
        (["--gain=0"], 1, "gain must be a number above 0, got 0.0"),
        (["--activation=relu", "--bias=-40"], 1, "is constant"),
        (["--activation=relu", "--plot=figure.jpg"], 2, "saved as .svg, .pdf or .png"),
    ],
)
def test_a_users_mistake_is_a_sentence(lopbench, arguments, code, reason):
    shown = lopbench("theory", *arguments)
    assert shown.exit_code == code
    assert reason in shown.stderr


def test_help_loads_no_torch():
    code = (
        "import sys, lopbench.cli; lopbench.cli.cli(['theory', '--help'], standalone_mode=False);"
        "sys.exit(str({'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "set()\n"
