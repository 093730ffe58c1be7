"""What is drawn of each method."""

import pytest

from lopbench.core.manager import plugins
from lopbench.results.looks import (
    COLOURS,
    DARK_COLOURS,
    DARK_GREYS,
    GREYS,
    MARKERS,
    PLAIN,
    looks,
    shades,
)


def test_plain_learning_is_grey_and_a_method_looks_the_same_in_all_figures():
    assert looks(["none", "cbp"])["none"] == (PLAIN, "o")
    alone = {name: looks([name])[name] for name in plugins().registry.names("methods")}
    for name, look in alone.items():
        assert looks(["none", name])[name] == look
        assert looks([f"{name}:field=1"])[f"{name}:field=1"] == look
        assert look.colour != PLAIN


def test_the_methods_that_are_compared_most_look_the_same_whatever_stands_beside_them():
    names = ["cbp", "l2", "l2_init", "layernorm", "shrink_and_perturb", "redo", "noisy_sgd", "dropout"]
    alone = {name: looks([name])[name] for name in names}
    assert looks(["none", *names])["redo"] == alone["redo"]
    assert {name: look for name, look in looks(["none", *names]).items() if name != "none"} == alone
    assert looks(["cbp"]) == {"cbp": ("#005ab4", ">")}  # a change here changes every figure


def test_no_two_methods_of_a_figure_share_a_look_while_there_are_some_left():
    methods = plugins().registry.names("methods")
    found = looks(["none", *methods[: len(COLOURS)]])
    assert {look.colour for look in found.values()} == {PLAIN, *COLOURS}
    assert len({look.marker for look in found.values()}) == len(found)
    found = looks(methods)
    assert len(COLOURS) * 2 < len(methods) <= len(COLOURS) * len(MARKERS)
    assert len(set(found.values())) == len(methods)
    used = [sum(look.colour == colour for look in found.values()) for colour in COLOURS]
    assert max(used) - min(used) <= 1
    many = [f"cbp:maturity={number}" for number in range(12)]
    assert set(looks(many)) == set(many)
    assert looks(reversed(many)) == looks(many)


def test_numbers_are_a_ramp_from_light_to_dark_in_the_colour_of_the_method():
    labels = [f"noisy_sgd:decay={decay}" for decay in ("0.9", "0.999", "0.99")]
    found = looks([*labels, "none"])
    assert list(found) == ["none", *sorted(labels)]
    darkness = [luminance(found[label].colour) for label in sorted(labels)]
    assert darkness == sorted(darkness, reverse=True)
    assert len({look.marker for look in found.values()}) == 4
    assert looks(labels[:1])[labels[0]] == looks(["noisy_sgd"])["noisy_sgd"]


def test_dark_paper_has_other_colours_for_the_same_methods_and_markers():
    labels = ["none", "cbp", "l2", *(f"noisy_sgd:decay={decay}" for decay in (0.9, 0.99, 0.999))]
    light, dark = looks(labels), looks(labels, dark=True)
    assert list(light) == list(dark)
    assert [look.marker for look in light.values()] == [look.marker for look in dark.values()]
    assert (dark["none"].colour, dark["cbp"].colour) == (
        DARK_GREYS[0],
        DARK_COLOURS[COLOURS.index(light["cbp"].colour)],
    )
    ramp = [luminance(dark[label].colour) for label in labels[3:]]
    assert ramp == sorted(ramp)  # the larger, the further from the paper
    assert len(set(ramp)) == 3


def luminance(colour):
    return sum(int(colour[place : place + 2], 16) for place in (1, 3, 5))


def test_each_method_has_a_ramp_of_its_own():
    labels = [f"{method}, adam:lr={rate}" for method in ("none", "l2") for rate in ("0.001", "0.003", "1e-05")]
    found = looks(labels)
    order = ["1e-05", "0.001", "0.003"]
    assert list(found) == [f"{method}, adam:lr={rate}" for method in ("none", "l2") for rate in order]
    greys = [found[f"none, adam:lr={rate}"].colour for rate in order]
    assert all(len({colour[place : place + 2] for place in (1, 3, 5)}) == 1 for colour in greys)


def test_of_two_numbers_one_is_the_ramp_and_the_other_tells_ramps_apart():
    labels = [f"x:a={a},b={b}" for b in (1, 2) for a in (1, 2, 3)]
    assert list(looks(labels)) == labels
    assert len({look.colour for look in looks(labels).values()}) == 6


def test_defaults_that_labels_do_not_show_have_their_place_in_the_ramp():
    fields = {"noisy_sgd": {"decay": 1.0}, "noisy_sgd:decay=0": {"decay": 0.0}, "noisy_sgd:decay=0.9": {"decay": 0.9}}
    assert list(looks(fields, fields)) == ["noisy_sgd:decay=0", "noisy_sgd:decay=0.9", "noisy_sgd"]


@pytest.mark.parametrize("colour", [*COLOURS, *GREYS])
def test_no_shade_is_too_light_for_white_paper(colour):
    ramp = shades(colour, 5)
    assert len(set(ramp)) == 5
    assert max(map(luminance, ramp)) <= max(luminance(colour), 3 * 215)
    assert shades(colour, 1) == [colour]


@pytest.mark.parametrize("colour", [*DARK_COLOURS, *DARK_GREYS])
def test_no_shade_is_too_dark_for_dark_paper(colour):
    ramp = shades(colour, 5, dark=True)
    assert len(set(ramp)) == 5
    assert min(map(luminance, ramp)) >= min(luminance(colour), 3 * 80)
    assert shades(colour, 1, dark=True) == [colour]
