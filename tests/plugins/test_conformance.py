"""Every built-in passes the checks that third parties are held to."""

from lopbench.core.interfaces import KINDS
from lopbench.core.manager import plugins
from lopbench.testing import examples, parametrize_with_checks

BUILTINS = [
    component
    for kind in KINDS
    for entry in plugins().registry.entries(kind)
    if entry.distribution.name == "lopbench"
    for component in examples(entry.load())
]


@parametrize_with_checks(BUILTINS)
def test_every_builtin_conforms(component, check):
    check(component)
