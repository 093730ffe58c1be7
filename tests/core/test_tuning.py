"""What is asked of a tuning, which configuration it chooses, and which logs cannot be."""

from dataclasses import replace

import pytest

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.spec import ComponentSpec, RunSpec, parse_methods
from lopbench.core.tuning import Configuration, Tuning, TuningLog, best, configured, untuned
from lopbench.core.windows import first_tasks

ADAM = ComponentSpec.parse("optimizers", "adam:lr=3e-3")
L2 = parse_methods("l2")


def log(*scores, score="accuracy", chosen=None, strengths=(0.1, 0.2, 0.3), **asked):
    tried = tuple(
        Configuration({"optimizer.lr": 0.003, "l2.strength": strength}, each)
        for strength, each in zip(strengths, scores, strict=False)
    )
    tuning = Tuning(budget=len(scores), seeds=len(scores[0]), **asked)
    return TuningLog(tuning, score, 120, tried, best(tried, score) if chosen is None else chosen)


def test_what_is_left_out_is_at_its_default():
    assert Tuning.of("k=0.5") == Tuning(k=0.5, budget=16, seeds=3)
    assert Tuning.of({"k": 1, "seeds": 2}) == Tuning.of(" seeds = 2, k=1 ") == Tuning(k=1.0, seeds=2)
    assert Tuning.of(Tuning(budget=4).label) == Tuning(budget=4)
    assert Tuning(seeds=2).development_seeds == (1000, 1001)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("k=0", "k is the share of the stream, above 0 and at most 1, got 0"),
        ("k=1.5", "above 0 and at most 1, got 1.5"),
        ("k=nan", "above 0 and at most 1"),
        ("k=half", "k must be a number, got 'half'"),
        ({"k": 10**400}, "k must be a number, got '1000"),
        ("budget=1" + "0" * 5000, "budget must be a whole number, got '1000"),
        ("budget=0", "budget is a whole number from 1 to 1000, got 0"),
        ("budget=2.5", "budget must be a whole number, got '2.5'"),
        ({"budget": True}, "budget must be a whole number, got 'True'"),
        ({"seeds": 101}, "seeds is a whole number from 1 to 100, got 101"),
        ("seed=3", "unknown 'seed'. Did you mean 'seeds'? Known are: k, budget, seeds."),
        ("k=0.1,k=1", "k is given twice"),
        ("0.1", "'0.1' is not name=value; write k=0.1,budget=16,seeds=3"),
        ("", "'' is not name=value"),
    ],
)
def test_what_asks_for_no_tuning_is_one_sentence(given, told):
    with pytest.raises(UsageError) as raised:
        Tuning.of(given)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_best_mean_is_chosen_and_of_equal_ones_the_first():
    assert log((0.2, 0.4), (0.5, 0.3), (0.4, 0.4)).chosen == 1
    assert log((0.2, 0.4), (0.5, 0.3), (0.1, 0.1), score="error").chosen == 2


def test_what_did_not_complete_is_not_chosen():
    assert log((0.2, 0.2), (0.9, None)).chosen == 0
    assert best(log((0.2, None), (None, None), chosen=0).configurations, "accuracy") is None


def test_a_log_is_read_as_it_was_written():
    made = log((0.2, None), (0.5, 0.3))
    assert TuningLog.from_json(made.to_json()) == made
    assert made.names == ("optimizer.lr", "l2.strength")  # whatever the order in a record


def test_a_log_holds_together_with_the_entry_that_it_chose():
    made = log((0.2, 0.4), (0.5, 0.3))
    made.check(*configured(L2, ADAM, {"l2.strength": 0.2}))
    with pytest.raises(ResultsError, match=r"chose optimizer.lr=0.003, l2.strength=0.2, and something else was run"):
        made.check(*configured(L2, ADAM, {"l2.strength": 0.1}))
    with pytest.raises(ResultsError, match="and something else was run"):
        made.check(*configured(L2, ADAM, {"l2.strength": 0.2, "optimizer.lr": 0.1}))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (replace(log((0.2,), (0.5,)), configurations=()), "the log of its tuning is empty"),
        (replace(log((0.2,), (0.5,)), tuning=Tuning(budget=3, seeds=1)), "has 2 configurations, and its budget is 3"),
        (replace(log((0.2,), (0.5,)), tuning=Tuning(budget=2, seeds=2)), "differ in their fields or seeds"),
        (log((0.2,), (0.5,), strengths=(0.1, 0.1)), "has one configuration twice"),
        (
            log((0.2,), (0.5,), chosen=0),
            "was edited: it says that configuration 0 was chosen, and by its scores number 1 (",
        ),
        (
            log((None,), (None,), chosen=0),
            "was edited: it says that configuration 0 was chosen, and by its scores none is best",
        ),
    ],
    ids=["empty", "few", "seeds", "twice", "edited", "none"],
)
def test_a_log_that_chose_nothing_is_refused(made, told):
    with pytest.raises(ResultsError) as raised:
        made.check(*configured(L2, ADAM, {"l2.strength": 0.1}))
    assert told in str(raised.value)


def spec_of(**changes):
    toy = ComponentSpec("scenarios", "toy", 1, "tests", {"tasks": 10, "profile": "lite"})
    net = ComponentSpec("architectures", "net", 1, "tests", {})
    made = RunSpec(
        scenario=toy,
        architecture=net,
        optimizer=ADAM,
        reference_optimizer=ADAM,
        methods=L2,
        seed=3,
        metrics=(),
        data=None,
    )
    return replace(made, **changes)


def test_the_log_is_part_of_the_entry_and_how_it_was_asked_for_of_the_protocol():
    plain = spec_of()
    first, other = (
        spec_of(tuning=log(scores, (0.1, 0.1), strengths=(1e-4, 2e-4))) for scores in ((0.5, 0.3), (0.5, 0.4))
    )
    assert len({each.entry_id for each in (plain, first, other)}) == 3
    assert first.protocol_id == other.protocol_id != plain.protocol_id
    whole = spec_of(tuning=log((0.5, 0.3), (0.1, 0.1), strengths=(1e-4, 2e-4), k=1.0))
    assert whole.protocol_id != first.protocol_id
    assert whole.reference().run_id == first.reference().run_id == plain.reference().run_id
    assert first.own_reference().run_id == plain.own_reference().run_id
    assert RunSpec.from_json(first.recorded()) == first


def test_specs_without_a_log_say_nothing_of_tuning():
    assert not {"tuning", "stop"} & spec_of().to_json().keys()
    assert "tuning" not in spec_of().protocol()


def test_development_runs_follow_from_the_tuned_entry():
    plain = spec_of()
    tuned = replace(plain, methods=configured(L2, ADAM, {"l2.strength": 0.2})[0], tuning=log((0.2, 0.4), (0.5, 0.3)))
    values = {"optimizer.lr": 0.003, "l2.strength": 0.1}
    made = tuned.development(0.1, values, 1000)
    assert made.run_id == plain.development(0.1, values, 1000).run_id
    assert (made.kind, made.stop, made.seed, made.tuning, made.methods[0].fields["strength"]) == (
        "development",
        0.1,
        1000,
        None,
        0.1,
    )
    assert RunSpec.from_json(made.recorded()) == made


def test_a_method_is_one_whatever_its_tuning_chose():
    made = [
        spec_of(
            methods=configured(L2, ADAM, {"l2.strength": strength})[0],
            tuning=log(*scores, strengths=(0.1, 0.2)),
        )
        for strength, scores in ((0.1, ((0.5,), (0.2,))), (0.2, ((0.2,), (0.5,))))
    ]
    assert made[0].method_id == made[1].method_id
    assert made[0].family == made[1].family
    assert made[0].family.method_label == "l2"


def test_what_was_tuned_can_be_left_out():
    methods, optimizer = untuned(L2, ADAM, ["optimizer.lr", "l2.strength"])
    assert "strength" not in methods[0].fields
    assert "lr" not in optimizer.fields
    assert optimizer.fields["eps"] == ADAM.fields["eps"]


@pytest.mark.parametrize(
    ("tasks", "share", "first"), [(40, 0.1, 4), (30, 0.1, 3), (7, 0.1, 1), (15, 0.1, 2), (5, 1, 5)]
)
def test_a_share_of_a_stream_is_whole_tasks(tasks, share, first):
    assert first_tasks(tasks, share) == first
