import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", Path(__file__).with_name("tables.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_which_methods_run_on_which_networks(tables):
    page = tables.README.read_text()
    assert tables.with_table(page) == page, "run 'python tests/tables/tables.py'"


def test_a_network_that_a_method_cannot_serve_has_the_reason(tables):
    assert tables.refusal("cbp", tables.NETWORKS["mlp"]) is None
    assert "normalises its features already" in tables.refusal("layernorm", tables.NETWORKS["vit"])
    assert "int64, tokens say" in tables.refusal("input_norm", tables.NETWORKS["char_transformer"])
