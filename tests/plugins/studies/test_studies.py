"""Every study file that is shipped: it is read, means runs, and speaks of entries and numbers that these have."""

import pytest

from lopbench.core.shipped import shipped
from lopbench.results.statistics import FEWEST_SEEDS
from lopbench.runner.claimed import check_measured, meant, resolved
from lopbench.runner.study import plan_all
from lopbench.runner.study_file import read_study
from lopbench_plugins.data.procedural import procedural_images

CLAIMS, FIGURES = shipped("claims"), shipped("figures")


@pytest.fixture(scope="module")
def images():
    return procedural_images(classes=4, train=10, test=4)


@pytest.fixture
def planned(monkeypatch, tmp_path, images):
    """Return a function that plans a study of one seed; of the data only name and content matter for that."""
    monkeypatch.setattr("lopbench.runner.study.load_data", lambda name, **_: images)
    monkeypatch.setattr("lopbench.runner.rehearsal.rehearse", lambda specs, data: None)

    def plan(file):
        requests = [{**request, "seeds": (0,)} for request in file.requests]
        return [study.asked for study in plan_all(requests, results=tmp_path / "results", device="cpu")]

    return plan


def test_there_are_claims_and_figures():
    published = {"2.1", "3.1", "3.2", "4.1", *(f"B.{number}" for number in range(1, 15))}
    results = {f"D{number}" for number in range(1, 22)}
    assert {"D3-paper", "open-question", "theorem-2.1", *results, *published} <= CLAIMS.keys()
    assert {"B.2-paper", *published} <= FIGURES.keys()
    for names in (CLAIMS, FIGURES):  # a large one has a small one
        assert {name.removesuffix("-paper") for name in names} <= names.keys()


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_can_be_judged(name, planned):
    file = read_study(CLAIMS[name])
    assert file.title
    assert file.claims
    assert not file.options
    tables = planned(file)
    assert len(tables) == len(file.requests)
    assert len(resolved(file.claims, tables)) == len(file.claims)
    assert min(len(request["seeds"]) for request in file.requests) >= FEWEST_SEEDS
    assert all(claim.text[-1] != "." for claim in file.claims)  # a source follows


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn(name, planned):
    file = read_study(FIGURES[name])
    assert file.title
    assert not file.options
    assert file.figure is not None
    tables = planned(file)
    for panel in file.figure.panels:
        for quantity in panel.quantities:
            check_measured(quantity, (meant(mark.entry, tables, name) for mark in panel.marks), name)
    # Every figure shows what it is beside, but for what is published without numbers.
    if any(panel.kind != "scatter" for panel in file.figure.panels):
        assert any(mark.published for panel in file.figure.panels for mark in panel.marks)
