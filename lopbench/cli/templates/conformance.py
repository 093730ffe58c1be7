"""The conformance checks of lopbench, and room for tests of your own."""

from collections.abc import Callable

from lopbench.cli.templates.method import MyThing
from lopbench.testing import examples, parametrize_with_checks


@parametrize_with_checks(examples(MyThing))
def test_conformance(component: object, check: Callable[[object], None]) -> None:
    """Run one check."""
    check(component)
