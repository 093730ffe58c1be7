"""The built-in scenarios. Registered by path, so that listing them imports no torch."""

from lopbench import Register, hookimpl

_PACKAGE = "lopbench_plugins.scenarios"


@hookimpl
def lopbench_scenarios(register: Register) -> None:
    """Register the built-in scenarios."""
    for name, component, summary in (
        ("tinyimagenet40", "TinyImageNet40", "40 tasks of 5 new classes of Tiny ImageNet each (Joudaki et al. 2025)"),
        ("bitflip", "BitFlip", "online regression on bits of which one flips now and then (Joudaki et al. 2025)"),
        (
            "slowly_changing_regression",
            "SlowlyChangingRegression",
            "online regression on bits of which most are redrawn now and then (Dohare et al. 2024)",
        ),
        ("cloning", "Cloning", "one problem; the network is cloned and goes on beside its clone (Joudaki et al. 2025)"),
        (
            "permuted_mnist",
            "PermutedMnist",
            "MNIST with its pixels permuted anew in each task (Dohare et al. 2024, Kumar et al. 2023)",
        ),
        (
            "random_labels",
            "RandomLabels",
            "images to be memorised under labels that are dealt out anew in each task (Kumar et al. 2023)",
        ),
        (
            "label_permuted",
            "LabelPermuted",
            "images whose classes are renamed in each task (Elsayed and Mahmood 2024)",
        ),
        (
            "permuted_text",
            "PermutedText",
            "next characters of a text whose alphabet is permuted in each task (Farias and Jozefiak 2025)",
        ),
        (
            "five_plus_one",
            "FivePlusOne",
            "five new classes of CIFAR-100 or Tiny ImageNet, then one, in turn (Kumar et al. 2023)",
        ),
        (
            "warm_start",
            "WarmStart",
            "more and more of the images of one problem, against fresh networks on as many (Ash and Adams 2020)",
        ),
        (
            "continual_imagenet",
            "ContinualImageNet",
            "two other classes of ImageNet at 32x32 to be told apart in each task (Dohare et al. 2024)",
        ),
        (
            "incremental",
            "Incremental",
            "more and more classes of CIFAR-100 or Tiny ImageNet, against retrained networks (Dohare et al. 2024)",
        ),
        (
            "cartpole",
            "CartPole",
            "agents balance a pole, and their senses are shifted from level to level (Tang et al. 2025)",
        ),
    ):
        register(name, f"{_PACKAGE}.{name}:{component}", summary)
