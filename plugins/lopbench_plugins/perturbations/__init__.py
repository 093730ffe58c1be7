"""The built-in methods, one published idea a file. Registered by path, so that listing them imports no torch."""

from lopbench import Register, hookimpl

_PACKAGE = "lopbench_plugins.perturbations"


@hookimpl
def lopbench_methods(register: Register) -> None:
    """Register the built-in methods."""
    for name, component, summary in (
        ("activation", "Activation", "other activation functions: leaky, smooth, periodic"),
        ("c_chain", "CChain", "penalises change of outputs on samples not trained on"),
        ("cbp", "ContinualBackprop", "redraws a few mature units of least utility at each step"),
        ("cpr", "PartialResets", "moves units that learn little a small way to new ones, now and then"),
        ("crelu", "CReLU", "positive and negative parts of each unit, side by side"),
        ("dash", "Dash", "shrinks what the coming task's gradients do not point along"),
        ("dropout", "Dropout", "drops hidden activations at random"),
        ("effective_rank_penalty", "EffectiveRankPenalty", "raises the effective rank of hidden activations"),
        ("fire", "Fire", "makes weights orthogonal at each task"),
        ("hare_and_tortoise", "HareAndTortoise", "evaluates a slow mean, to which the network returns"),
        ("head_reset", "HeadReset", "redraws the last layers at each task"),
        ("infer", "InFeR", "ties functions of the features to their initial values"),
        ("input_norm", "InputNorm", "standardises the inputs by running mean and variance"),
        ("l2", "L2", "pulls all parameters towards zero"),
        ("l2_init", "L2Init", "pulls all parameters towards where they started"),
        ("layernorm", "LayerNorm", "normalises the features in front of each activation function"),
        ("nap", "NormalizeAndProject", "layer normalisation, and hidden weights of constant norm"),
        ("noisy_sgd", "NoisySGD", "adds noise in proportion to the gradient's norm"),
        ("optimizer_reset", "OptimizerReset", "clears the optimizer at each task: what that alone does"),
        ("parseval", "Parseval", "keeps the rows of hidden weights orthogonal"),
        ("plasticity_injection", "PlasticityInjection", "freezes the head and trains a fresh one beside it"),
        ("redo", "ReDo", "redraws, now and then, the units that are hardly active"),
        ("regrama", "ReGraMa", "redraws, now and then, the units that hardly get a gradient"),
        ("reset", "Reset", "starts afresh at each task: the control whose retention is 1"),
        ("shrink_and_perturb", "ShrinkAndPerturb", "mixes in a fresh network at each task"),
        ("shrink_and_perturb_step", "ShrinkAndPerturbStep", "weight decay and small noise at each step"),
        ("snr", "SelfNormalizedResets", "redraws units that are silent for unlikely long"),
        ("spectral", "Spectral", "keeps the spectral norms of weights near one"),
        ("swr", "SelectiveWeightReinitialisation", "redraws single weights of least utility, now and then"),
        ("upgd", "UPGD", "moves useful weights less, and perturbs the others"),
        ("wasserstein", "Wasserstein", "keeps the distribution of each tensor's weights near the initial one"),
        ("weight_clipping", "WeightClipping", "keeps the weights of each layer within a bound"),
        ("weight_decay", "WeightDecay", "shrinks parameters beside the optimizer's step"),
    ):
        register(name, f"{_PACKAGE}.{name}:{component}", summary)
