"""What third parties write passes the checks, a method also beside ``l2`` (`composes`)."""

from third_party_lab import loaded

from lopbench.core.interfaces import KINDS
from lopbench.testing import examples, parametrize_with_checks

COMPONENTS = [each for kind in KINDS for entry in loaded().registry.entries(kind) for each in examples(entry.load())]


@parametrize_with_checks(COMPONENTS)
def test_every_component_conforms(component, check):
    check(component)
