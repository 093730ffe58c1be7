"""The built-in scenarios."""

from lopbench.core.hookspecs import Register, hookimpl


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    """Register the built-in scenarios."""
    register(
        "tinyimagenet40",
        "lopbench_plugins.scenarios.tinyimagenet40:TinyImageNet40",
        "40 tasks of 5 new classes of Tiny ImageNet each (Joudaki et al. 2025)",
    )
