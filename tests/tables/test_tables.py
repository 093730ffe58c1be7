import importlib.util
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", Path(__file__).with_name("tables.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["methods and networks", "evidence"])
def test_the_page_has_the_tables_as_they_are_made(tables, name):
    page = tables.README.read_text()
    assert tables.with_table(page, name) == page, "run 'python tests/tables/tables.py'"


def test_there_is_evidence_of_each_method_but_the_control(tables):
    assert {*pd.read_csv(tables.EVIDENCE)["method"], "reset"} == set(tables.ours())


def test_a_network_that_a_method_cannot_serve_has_the_reason(tables):
    assert tables.refusal("cbp", tables.NETWORKS["mlp"]) is None
    assert "normalises its features already" in tables.refusal("layernorm", tables.NETWORKS["vit"])
    assert "whole numbers, such as tokens" in tables.refusal("input_norm", tables.NETWORKS["char_transformer"])
