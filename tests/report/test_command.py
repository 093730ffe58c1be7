import shlex

import pytest

from lopbench.core.spec import ComponentSpec, Numerics, parse_methods, parse_scenario
from lopbench.report.command import beyond, command


def options(line):
    words = shlex.split(line)
    assert words[:2] == ["lopbench", "run"]
    return dict(zip(words[2::2], words[3::2], strict=True))


@pytest.mark.parametrize("text", ["bitflip", "bitflip:samples=20000,T=1000", "bitflip:m=10,f=5,beta=0.5"])
@pytest.mark.parametrize("profile", ["lite", "smoke"])
def test_scenario_and_profile_name_the_same_protocol(results, text, profile):
    scenario = parse_scenario(text, profile)
    made = options(command(results.spec(scenario=scenario), "0"))
    assert parse_scenario(made["--scenario"], made["--profile"]) == scenario


def test_all_that_has_a_default_is_written_out(results):
    methods = parse_methods("layernorm+cbp:replacement_rate=1e-3")
    metrics = tuple(ComponentSpec.parse("metrics", text) for text in ("dead_fraction", "approximate_rank:share=0.9"))
    spec = results.spec(*methods, start=0.5, metrics=metrics, architecture=ComponentSpec.parse("architectures", "mlp"))
    made = options(command(spec, "0-4,7"))
    assert parse_methods(made["--method"]) == methods
    assert made["--seeds"] == "0-4,7"
    assert made["--from"] == "0.5"
    assert made["--optimizer"] == "adam:lr=0.003"
    assert made["--architecture"] == "mlp"
    assert made["--metrics"] == ",".join(metric.label() for metric in metrics)
    assert made["--data"] == "toy-images"


def test_the_cloner_is_written_out(results):
    cloner = ComponentSpec.parse("cloners", "equitable:strength=0.25")
    made = options(command(results.spec(cloner=cloner), "0"))
    assert ComponentSpec.parse("cloners", made["--cloner"]) == cloner


def test_plain_learning_without_data_says_so_by_leaving_it_out(results):
    made = options(command(results.spec(data=None), "0"))
    assert made["--method"] == "none"
    assert not {"--data", "--from", "--cloner"} & made.keys()


def test_components_that_are_not_installed_are_written_with_all_fields(results):
    scenario = results.component("scenarios", "theirs", tasks=3, profile="lite+custom", sizes=[1, 2])
    m = results.component("methods", "their_method", rate=1e-3)
    made = options(command(results.spec(m, scenario=scenario), "0"))
    assert made["--scenario"] == "theirs:sizes=1/2,tasks=3"
    assert made["--profile"] == "lite"
    assert made["--method"] == "their_method:rate=0.001"


def test_a_name_cannot_run_anything_in_a_shell(results):
    line = command(results.spec(results.component("methods", "$(touch x); `y` 'z'")), "0")
    assert options(line)["--method"] == "$(touch x); `y` 'z'"


def test_what_no_option_sets_is_told(results):
    assert beyond(results.spec()) == []
    spec = results.spec(numerics=Numerics(dtype="float64"))
    assert beyond(spec) == ["Numerics(dtype='float64', tf32=False, deterministic=True)"]
