"""The built-in metrics, one published idea a file. Registered by path, so that listing them imports no torch."""

from lopbench import Register, hookimpl

_PACKAGE = "lopbench_plugins.metrics"


@hookimpl
def lopbench_metrics(register: Register) -> None:
    """Register the built-in metrics."""
    for module, component, summary in (
        ("approximate_rank", "ApproximateRank", "fewest squared singular values that hold 99%"),
        ("churn", "Churn", "mean absolute change of the outputs since the last probe (C-CHAIN)"),
        ("cloning_r2_authors", "CloningR2Authors", "mean cloning R2 of all modules as the authors' code logs it"),
        ("dead_fraction", "DeadFraction", "units silent on more than 95% of the rows"),
        ("distance_from_init", "DistanceFromInit", "L2 distance of all parameters from where they started"),
        ("dormant_fraction", "DormantFraction", "units with a mean magnitude of at most tau times the layer's (ReDo)"),
        ("duplicate_fraction", "DuplicateFraction", "units that point the same way as another unit"),
        ("effective_rank", "EffectiveRank", "exponential entropy of the singular values"),
        ("feature_norm", "FeatureNorm", "mean L2 norm of a row of activations"),
        (
            "gradient_covariance_rank",
            "GradientCovarianceRank",
            "effective rank of the cosines between gradients of single samples",
        ),
        ("former_score", "FormerScore", "held-out score on the task before, which tells forgetting"),
        ("gradient_norm", "GradientNorm", "L2 norm of the gradient of the probe's loss"),
        ("manifold_distance", "ManifoldDistance", "share of the weights' norm that is off the cloning manifold"),
        ("non_gaussianity", "NonGaussianity", "distance of the units' laws from Gaussians (Shapiro, KS, kurtosis)"),
        ("ntk_rank", "NtkRank", "effective rank of the neural tangent kernel, or its condition"),
        ("participation_ratio", "ParticipationRatio", "Renyi-2 rank of the covariance"),
        ("renyi2_rank", "Renyi2Rank", "Renyi-2 rank of the correlation matrix"),
        ("sample_plasticity", "SamplePlasticity", "share by which a step lowers the loss on its own batch (UPGD)"),
        ("saturated_fraction", "SaturatedFraction", "units with next to no gradient on more than 99% of the rows"),
        ("sharpness", "Sharpness", "largest eigenvalue of the Hessian of the probe's loss"),
        ("srank", "Srank", "fewest singular values that hold 99%"),
        ("stable_rank", "StableRank", "squared Frobenius over squared spectral norm"),
        ("weight_norm", "WeightNorm", "L2 norm of all parameters"),
    ):
        register(module, f"{_PACKAGE}.{module}:{component}", summary)
    register(
        "duplicate_fraction_first",
        f"{_PACKAGE}.duplicate_fraction:DuplicateFractionFirst",
        "units that point the same way as a later unit (the authors' counting)",
    )
    for name, module, component, summary in (
        (
            "cloning_r2_forward",
            "cloning_r2",
            "CloningR2Forward",
            "variance of activations that blocks of clones explain",
        ),
        ("cloning_r2_backward", "cloning_r2", "CloningR2Backward", "the same of the gradients of activations"),
        (
            "smallest_normal_curvature",
            "normal_curvature",
            "SmallestNormalCurvature",
            "of the loss, normal to the cloning manifold: below zero, clones part",
        ),
        (
            "largest_normal_curvature",
            "normal_curvature",
            "LargestNormalCurvature",
            "of the loss, normal to the cloning manifold: above zero, clones join",
        ),
    ):
        register(name, f"{_PACKAGE}.{module}:{component}", summary)
