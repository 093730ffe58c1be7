"""Which tasks a run comes to, and how many steps its program takes at a time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.spec import ComponentSpec, parse_scenario
from lopbench.core.windows import reference_tasks, scored_tasks
from lopbench.runner.schedule import MAX_UNROLL, Schedule, edges, switch_step
from lopbench.runner.study import plan
from lopbench_plugins.scenarios.bitflip import BitFlip


@pytest.fixture(scope="module")
def spec_of():
    """Return a function that gives a run of bit flipping, and its scenario."""
    (spec,) = plan(scenario="bitflip", methods=["cbp"], device="cpu").specs

    def make(bins, size, start=0.0, kind="continual", probe_every=0):
        text = f"bitflip:samples={bins * size},steps_per_task={size},T={size},probe_every={probe_every}"
        scenario = parse_scenario(text)
        return scenario.build(), replace(spec, scenario=scenario, start=start, kind=kind)

    return make


def places(scenario, spec):
    return Schedule.of(scenario, spec).places


def unroll(scenario, spec):
    return Schedule.of(scenario, spec).unroll()


def test_continual_run_comes_to_all_tasks(spec_of):
    found = places(*spec_of(7, 10))
    assert [place.task for place in found] == list(range(7))
    assert [place.new for place in found] == [True] + [False] * 6
    assert all(place.measured for place in found)
    assert [place.last for place in found] == [False] * 6 + [True]
    assert {place.origin for place in found} == {0}


@pytest.mark.parametrize("covered", [reference_tasks, scored_tasks])
@pytest.mark.parametrize("start", [0.0, 0.4, 1.0])
def test_fresh_networks_are_led_in_and_measured_once_each(spec_of, start, covered):
    scenario, spec = spec_of(30, 5_000, start, "fresh")
    other = replace(spec, optimizer=ComponentSpec.parse("optimizers", "adam:lr=1"))
    spec = spec.reference() if covered is reference_tasks else other
    found = places(scenario, spec)
    lead = scenario.reference_lead(spec.optimizer.fields["lr"])
    assert lead == (4 if covered is reference_tasks else 1)
    assert [place.task for place in found if place.measured] == covered(30, start)
    lives = {origin: [p for p in found if p.origin == origin] for origin in covered(30, start)}
    assert sum(map(len, lives.values())) == len(found)
    for origin, life in lives.items():
        assert [place.task for place in life] == list(range(max(0, origin - lead), origin + 1))
        assert [place.new for place in life] == [True] + [False] * (len(life) - 1)
        assert [place.measured for place in life] == [place.last for place in life]
        assert [place.measured for place in life] == [False] * (len(life) - 1) + [True]


@pytest.mark.parametrize(("lr", "lead"), [(0.01, 4), (0.005, 8), (0.02, 2), (1e-4, 24)])
def test_fresh_networks_are_led_in_by_their_own_rate(spec_of, lr, lead):
    scenario, spec = spec_of(30, 5_000, kind="fresh")
    own = replace(spec, optimizer=ComponentSpec.parse("optimizers", f"sgd:lr={lr}"))
    for origin in scored_tasks(30):
        life = [place.task for place in places(scenario, own) if place.origin == origin]
        assert life == list(range(max(0, origin - lead), origin + 1))
    # The reference has the frozen rate, whatever the learner's.
    assert places(scenario, own.reference()) == places(scenario, spec.reference())


@pytest.mark.parametrize(("start", "step"), [(0.0, 0), (0.5, 50), (0.29, 29), (0.999, 99), (1.0, 100)])
def test_switch_is_at_the_step_that_the_fraction_names(spec_of, start, step):
    assert switch_step(*spec_of(10, 10, start)) == step


@given(
    bins=st.integers(5, 9),
    size=st.integers(1, 400),
    start=st.floats(0, 1),
    probes=st.integers(0, 50),
)
def test_calls_fit_between_all_stops(spec_of, bins, size, start, probes):
    scenario, spec = spec_of(bins, size, start, probe_every=probes)
    count = unroll(scenario, spec)
    assert 1 <= count <= MAX_UNROLL
    stops = {*range(0, bins * size + 1, size), switch_step(scenario, spec)}
    if probes:
        stops |= {first + at for first in range(0, bins * size, size) for at in range(0, size, probes)}
    assert all(stop % size % count == 0 for stop in stops)
    assert size % count == 0


@given(
    bins=st.integers(5, 9),
    size=st.integers(1, 40),
    start=st.floats(0, 1),
    probes=st.integers(0, 50),
    kind=st.sampled_from(["continual", "fresh"]),
)
def test_stretches_end_at_all_stops_and_nowhere_else(spec_of, bins, size, start, probes, kind):
    schedule = Schedule.of(*spec_of(bins, size, start, kind, probe_every=probes))
    for place in schedule.places:
        ends, step = [], 0
        while step < place.steps:
            step += schedule.stretch(place, step)
            ends.append(step)
        expected = {place.steps, *range(0, place.steps, probes or place.steps)} - {0}
        expected |= {schedule.switch - place.first} & set(range(1, place.steps))
        assert ends == sorted(expected)


@given(bins=st.integers(5, 9), size=st.integers(1, 40), start=st.floats(0, 1))
def test_methods_turn_on_once_and_stay_on(spec_of, bins, size, start):
    schedule = Schedule.of(*spec_of(bins, size, start))
    moments = [(place, step) for place in schedule.places for step in range(place.steps)]
    turned = [place.first + step for place, step in moments if schedule.turns_on(place, step)]
    switched = 0 < schedule.switch < bins * size
    assert turned == [schedule.switch] * switched
    for place, step in moments:
        assert schedule.is_on(place, step) == (switched and place.first + step >= schedule.switch)
    # A task's end is before the next one's beginning, at which methods turn on.
    assert not any(schedule.is_on(p, p.steps) for p in schedule.places if p.end == schedule.switch)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.7, 1.0])
def test_methods_of_a_fresh_network_are_on_or_off_for_life(spec_of, start):
    scenario, spec = spec_of(20, 5_000, start, "fresh")
    schedule = Schedule.of(scenario, spec)
    for place in schedule.places:
        assert schedule.waits(place) == (place.origin < 20 * start)
        assert not any(schedule.turns_on(place, step) for step in range(place.steps))


def test_clone_grows_out_of_the_learner_and_its_base_goes_on_beside_it():
    (spec,) = plan(scenario="cloning", profile="smoke", data="procedural", device="cpu").specs
    schedule = Schedule.of(spec.scenario.build(), spec)
    assert [place.cloned for place in schedule.places] == [False] * 2 + [True] * 5
    assert [place.cloning for place in schedule.places] == [False] * 2 + [True] + [False] * 4
    assert [place.new for place in schedule.places] == [True] + [False] * 6
    assert [schedule.turns_on(place, 0) for place in schedule.places] == [p.cloning for p in schedule.places]
    # All tasks are of one problem: a network is at the start of one what it was at the end of the last.
    assert [schedule.probed(place, 0) for place in schedule.places] == [True, False, True] + [False] * 4
    fresh = Schedule.of(spec.scenario.build(), spec.reference())
    assert [(place.task, place.new, place.cloned) for place in fresh.places] == [
        (task, task == 0, False) for task in range(7)
    ]


# -- tasks that differ in length

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


class Uneven(BitFlip):
    """Bins that are as long as they are told to be."""

    def steps(self, task):
        return self.lengths[task]

    def rate_factors(self, task):
        return [(step, 0.5**place) for place, step in enumerate(self.drops, start=1) if step < self.lengths[task]]

    def validate_every(self, task):
        return self.validates


def uneven(lengths, drops=(), validates=0, **fields):
    made = Uneven(samples=5 * len(lengths), steps_per_task=5, **fields)
    object.__setattr__(made, "lengths", lengths)
    object.__setattr__(made, "drops", sorted(drops))
    object.__setattr__(made, "validates", validates)
    return made


DROPS = st.sets(st.integers(0, 12), max_size=3)


@given(lengths=LENGTHS, drops=DROPS, kind=st.sampled_from(["continual", "fresh"]))
def test_the_rate_falls_at_its_steps_and_begins_anew_with_each_task(spec_of, lengths, drops, kind):
    schedule = Schedule.of(uneven(lengths, drops), replace(spec_of(5, 10)[1], kind=kind))
    for place in schedule.places:
        passed = [sum(drop <= step for drop in drops) for step in range(place.steps)]
        assert [place.factor(step) for step in range(place.steps)] == [0.5**count for count in passed]
        assert place.factor(place.steps) == place.factor(place.steps - 1)  # at the end it is that of the last step
        step = 0
        while step < place.steps:  # in no stretch is there more than one rate
            stretch = schedule.stretch(place, step)
            assert {place.factor(at) for at in range(step, step + stretch)} == {place.factor(step)}
            step += stretch


@given(lengths=LENGTHS, validates=st.integers(0, 20), kind=st.sampled_from(["continual", "fresh"]))
def test_validations_come_every_so_many_steps_and_at_the_end_and_are_counted(spec_of, lengths, validates, kind):
    schedule = Schedule.of(uneven(lengths, validates=validates), replace(spec_of(5, 10)[1], kind=kind))
    count = 0
    for place in schedule.places:
        found, step = [], 0
        while step < place.steps:
            step += schedule.stretch(place, step)
            found += [step] if place.validated(step) else []
        expected = {*range(0, place.steps, validates), place.steps} - {0} if validates else set()
        assert found == sorted(expected)
        count += len(found)
    assert schedule.validations == count


@given(lengths=LENGTHS, start=st.floats(0, 1), kind=st.sampled_from(["continual", "fresh"]))
def test_places_lie_where_the_lengths_before_them_add_up(spec_of, lengths, start, kind):
    scenario, spec = uneven(lengths), replace(spec_of(5, 10)[1], start=start, kind=kind)
    assert edges(scenario) == [sum(lengths[:task]) for task in range(len(lengths) + 1)]
    for place in places(scenario, spec):
        assert (place.first, place.steps) == (sum(lengths[: place.task]), lengths[place.task])
        assert place.end == sum(lengths[: place.task + 1])


@given(lengths=LENGTHS, data=st.data())
def test_methods_turn_on_at_a_place_among_the_tasks_whatever_their_lengths(spec_of, lengths, data):
    whole = data.draw(st.integers(0, len(lengths)))
    spec = replace(spec_of(5, 10)[1], start=whole / len(lengths))
    assert switch_step(uneven(lengths), spec) == sum(lengths[:whole])
    if whole < len(lengths):
        steps = data.draw(st.integers(0, lengths[whole] - 1))
        spec = replace(spec, start=(whole + steps / lengths[whole]) / len(lengths))
        assert switch_step(uneven(lengths), spec) == sum(lengths[:whole]) + steps


@given(lengths=LENGTHS, drops=DROPS, validates=st.integers(0, 20), start=st.floats(0, 1), probes=st.integers(0, 20))
def test_calls_fit_into_tasks_of_all_lengths(spec_of, lengths, drops, validates, start, probes):
    scenario = uneven(lengths, drops, validates, probe_every=probes)
    spec = replace(spec_of(5, 10)[1], start=start)
    count, begins = unroll(scenario, spec), edges(scenario)
    for begin, length in zip(begins, lengths, strict=False):
        stops = {0, length, *range(0, length, probes or length), *(drop for drop in drops if drop < length)}
        stops |= set(range(0, length, validates)) if validates else set()
        if begin <= switch_step(scenario, spec) <= begin + length:
            stops.add(switch_step(scenario, spec) - begin)
        assert all(stop % count == 0 for stop in stops)


@given(lengths=LENGTHS, start=st.floats(0, 1), kind=st.sampled_from(["continual", "fresh"]), probes=st.integers(0, 20))
def test_looks_are_counted_as_they_come(spec_of, lengths, start, kind, probes):
    scenario = uneven(lengths, probe_every=probes)
    schedule = Schedule.of(scenario, replace(spec_of(5, 10)[1], start=start, kind=kind))
    assert schedule.looks == sum(
        schedule.probed(place, step) for place in schedule.places for step in range(place.steps + 1)
    )


@given(size=st.integers(1, 400), probes=st.integers(0, 50), period=st.integers(1, 30))
def test_calls_are_of_whole_periods(spec_of, size, probes, period):
    schedule = Schedule.of(*spec_of(5, size, probe_every=probes))
    count = schedule.unroll(period)
    assert count % period == 0
    assert count <= max(MAX_UNROLL, period)
    if size % period == 0 and probes % period == 0 and period <= MAX_UNROLL:
        assert size % count == probes % count == 0


def test_calls_are_as_long_as_may_be(spec_of):
    assert unroll(*spec_of(5, 10_000)) == 16
    assert unroll(*spec_of(5, 4_900)) == 14
    assert unroll(*spec_of(5, 101)) == 1
