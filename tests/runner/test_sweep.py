"""Sweeps: which runs they ask for, and what is wrong with those that ask for none."""

import pytest

from lopbench.core.errors import InvalidInputError, UsageError
from lopbench.core.spec import ComponentSpec, parse_methods
from lopbench.runner.sweep import crossed

SGD = ComponentSpec.parse("optimizers", "sgd:lr=0.1,momentum=0.9")
ADAM = ComponentSpec.parse("optimizers", "adam:lr=0.1,eps=1e-6")
METHODS = [parse_methods(text) for text in ("none", "cbp:maturity=7", "l2+cbp:maturity=9")]


def labels(methods):
    return ["+".join(part.label() for part in each) or "none" for each in methods]


def test_sweep_of_the_rate_replaces_it_in_all_optimizers_and_nothing_else():
    methods, optimizers = crossed(METHODS, [SGD, ADAM], ["lr=0.01, 1e-3"])
    assert methods == METHODS
    assert [optimizer.label() for optimizer in optimizers] == [
        "sgd:lr=0.01,momentum=0.9",
        "sgd:lr=0.001,momentum=0.9",
        "adam:lr=0.01,eps=1e-06",
        "adam:lr=0.001,eps=1e-06",
    ]


def test_sweep_of_a_field_changes_the_methods_that_have_this_part():
    methods, optimizers = crossed(METHODS[1:], [SGD], ["cbp.replacement_rate=1e-5,0.001"])
    assert optimizers == [SGD]
    assert labels(methods) == [
        "cbp:maturity=7,replacement_rate=1e-05",
        "cbp:maturity=7,replacement_rate=0.001",
        "l2+cbp:maturity=9,replacement_rate=1e-05",
        "l2+cbp:maturity=9,replacement_rate=0.001",
    ]


def test_several_sweeps_are_crossed(make_study):
    planned = make_study(
        methods=["none", "l2+noisy_sgd"],
        seeds=[0, 1],
        sweeps=["lr=0.01,0.001", "l2.strength=0,0.1", "noisy_sgd.scale=0.1,0.2,0.3"],
    )
    assert len(planned.specs) == 2 * 2 * (1 + 2 * 3)  # "none" has no field that is swept
    assert len({spec.run_id for spec in planned.specs}) == len(planned.specs)


def test_values_that_mean_the_same_are_one_run(make_study):
    planned = make_study(methods=["cbp"], sweeps=["lr=0.001,1e-3", "cbp.replacement_rate=0.0001,1e-4"])
    assert len(planned.specs) == 1
    assert planned.specs[0].method_label == "cbp"


@pytest.mark.parametrize(
    ("sweeps", "message"),
    [
        (["lr"], r"--sweep lr: write lr=0\.01,0\.001 or METHOD\.FIELD=VALUE,VALUE"),
        (["lr="], "--sweep lr=: write lr="),
        (["lr=0.1,,0.2"], "write lr="),
        (["=0.1"], "--sweep =0.1: write lr="),
        (["lr=fast"], "sgd: lr=fast is not a number"),
        (["lr=nan"], "sgd: lr=nan is not a finite number"),
        (["momentum=0.9,0.99"], r"'momentum' is not swept; sweep lr, or a field of a method: METHOD\.FIELD"),
        (["cpb.replacement_rate=0.1"], r"'cpb' is none of the methods that are run\. Did you mean 'cbp'\?"),
        (["noisy_sgd.scale=0.1"], r"'noisy_sgd' is none of the methods .* They are: cbp, l2\."),
        (["cbp.replacment_rate=0.1"], r"cbp has no field 'replacment_rate'\. Did you mean 'replacement_rate'"),
        (["cbp.replacement_rate=much"], "replacement_rate=much is not a number"),
        (["cbp.maturity=1.5"], "maturity=1.5 is not a whole number"),
        (["lr=0.1", "lr=0.2"], "--sweep lr=0.2: lr is swept already"),
        (["cbp.maturity=1", "cbp.maturity=2"], "cbp.maturity is swept already"),
    ],
)
def test_wrong_sweep_is_a_usage_error_that_says_what_was_meant(sweeps, message):
    with pytest.raises(UsageError, match=message):
        crossed(METHODS, [SGD], sweeps)


def test_sweep_of_a_field_without_methods_says_so():
    with pytest.raises(UsageError, match="They are: none"):
        crossed([()], [SGD], ["cbp.replacement_rate=0.1"])


def test_swept_rate_out_of_range_is_refused():
    with pytest.raises(InvalidInputError, match="sgd: lr must be above 0, got -1"):
        crossed(METHODS, [SGD], ["lr=0.1,-1"])


def test_swept_value_out_of_range_is_refused():
    with pytest.raises(InvalidInputError, match="replacement_rate must be at least 0 and at most 1"):
        crossed(METHODS, [SGD], ["cbp.replacement_rate=2"])
