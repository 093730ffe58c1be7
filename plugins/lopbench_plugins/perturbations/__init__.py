"""The built-in methods, one published idea a file. Registered by path, so that listing them imports no torch."""

from lopbench import Register, hookimpl

_PACKAGE = "lopbench_plugins.perturbations"


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Register the built-in methods."""
    for name, component, summary in (
        ("cbp", "ContinualBackprop", "redraws a few mature units of least utility at each step"),
        ("cpr", "PartialResets", "moves units that learn little a small way to new ones, now and then"),
        ("dropout", "Dropout", "drops hidden activations at random"),
        ("head_reset", "HeadReset", "redraws the last layers at each task"),
        ("l2", "L2", "pulls all parameters towards zero"),
        ("l2_init", "L2Init", "pulls all parameters towards where they started"),
        ("layernorm", "LayerNorm", "normalises the features in front of each activation function"),
        ("noisy_sgd", "NoisySGD", "adds noise in proportion to the gradient's norm"),
        ("optimizer_reset", "OptimizerReset", "clears the optimizer at each task: what that alone does"),
        ("redo", "ReDo", "redraws, now and then, the units that are hardly active"),
        ("regrama", "ReGraMa", "redraws, now and then, the units that hardly get a gradient"),
        ("reset", "Reset", "starts afresh at each task: the control whose retention is 1"),
        ("shrink_and_perturb", "ShrinkAndPerturb", "mixes in a fresh network at each task"),
        ("shrink_and_perturb_step", "ShrinkAndPerturbStep", "weight decay and small noise at each step"),
        ("snr", "SelfNormalizedResets", "redraws units that are silent for unlikely long"),
        ("swr", "SelectiveWeightReinitialisation", "redraws single weights of least utility, now and then"),
        ("upgd", "UPGD", "moves useful weights less, and perturbs the others"),
        ("weight_clipping", "WeightClipping", "keeps the weights of each layer within a bound"),
    ):
        register(name, f"{_PACKAGE}.{name}:{component}", summary)
