"""Lets the tests of this folder import what they share, and find the plugins' modules."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def plugin_modules():
    """Put the plugins' modules back where tests of the command line have made lopbench forget them."""
    from third_party_lab import loaded

    sys.modules.update({module.__name__: module for module in loaded().manager.get_plugins()})
