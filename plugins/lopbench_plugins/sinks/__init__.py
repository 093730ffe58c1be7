"""The built-in sinks, one a file. Registered by path, so that listing them imports no torch."""

from lopbench import Register, hookimpl


@hookimpl
def lopbench_sinks(register: Register) -> None:
    """Register the built-in sinks."""
    register("tensorboard", "lopbench_plugins.sinks.tensorboard:TensorBoard", "event files that TensorBoard shows")
