"""The built-in optimizers, one update rule a file. Registered by path, so that listing them imports no torch."""

from lopbench import Register, hookimpl

_PACKAGE = "lopbench_plugins.optimizers"


@hookimpl
def lopbench_optimizers(register: Register) -> None:
    """Register the built-in optimizers."""
    for name, component, summary in (
        ("adam", "Adam", "adaptive moments, weight decay added to the gradient"),
        ("adamw", "AdamW", "adaptive moments, weight decay beside the step"),
        ("muon", "Muon", "orthogonalised momentum for hidden matrices, adam for the rest"),
        ("rmsprop", "RMSprop", "gradients divided by their running size"),
        ("sgd", "SGD", "gradient descent, with momentum where wanted"),
    ):
        register(name, f"{_PACKAGE}.{name}:{component}", summary)
