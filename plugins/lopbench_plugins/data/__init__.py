"""The built-in data sets, and the procedural images that stand in for them."""

from lopbench import Register, hookimpl

#: Name, class and summary of each.
SETS = (
    (
        "tiny-imagenet-200",
        "lopbench_plugins.data.tiny_imagenet:TinyImageNet",
        "Tiny ImageNet: 200 classes of ImageNet at 64x64, 500 train and 50 held-out images each",
    ),
    (
        "cifar10",
        "lopbench_plugins.data.cifar:Cifar10",
        "CIFAR-10: 10 classes of small photographs at 32x32, 5,000 train and 1,000 held-out images each",
    ),
    (
        "cifar100",
        "lopbench_plugins.data.cifar:Cifar100",
        "CIFAR-100: 100 classes of small photographs at 32x32, 500 train and 100 held-out images each",
    ),
    (
        "downsampled-imagenet-32",
        "lopbench_plugins.data.downsampled_imagenet:DownsampledImageNet",
        "Downsampled ImageNet: 1,000 classes at 32x32, 1,281,167 train and 50,000 held-out images",
    ),
    (
        "mnist",
        "lopbench_plugins.data.mnist:Mnist",
        "MNIST: 10 classes of handwritten digits, grey at 28x28, 60,000 train and 10,000 held-out images",
    ),
    (
        "emnist-balanced",
        "lopbench_plugins.data.emnist:EmnistBalanced",
        "EMNIST Balanced: 47 classes of handwritten digits and letters, grey at 28x28, "
        "2,400 train and 400 held-out images each",
    ),
    (
        "tiny-shakespeare",
        "lopbench_plugins.data.tiny_shakespeare:TinyShakespeare",
        "Tiny Shakespeare: a million characters of plays, 65 different ones",
    ),
    (
        "procedural",
        "lopbench_plugins.data.procedural:Procedural",
        "NOT Tiny ImageNet: images drawn by a program in its shape, "
        "200 classes at 64x64, 250 train and 50 held-out images each",
    ),
    (
        "procedural-cifar10",
        "lopbench_plugins.data.procedural:ProceduralCifar10",
        "NOT CIFAR-10: images drawn by a program in its shape, "
        "10 classes at 32x32, 5000 train and 1000 held-out images each",
    ),
    (
        "procedural-cifar100",
        "lopbench_plugins.data.procedural:ProceduralCifar100",
        "NOT CIFAR-100: images drawn by a program in its shape, "
        "100 classes at 32x32, 500 train and 100 held-out images each",
    ),
    (
        "procedural-downsampled-imagenet-32",
        "lopbench_plugins.data.procedural:ProceduralDownsampledImageNet",
        "NOT Downsampled ImageNet 32x32: images drawn by a program in its shape, "
        "1000 classes at 32x32, 700 train and 50 held-out images each",
    ),
    (
        "procedural-mnist",
        "lopbench_plugins.data.procedural:ProceduralMnist",
        "NOT MNIST: images drawn by a program in its shape, "
        "10 classes at 28x28, 6000 train and 1000 held-out images each",
    ),
    (
        "procedural-emnist-balanced",
        "lopbench_plugins.data.procedural:ProceduralEmnistBalanced",
        "NOT EMNIST Balanced: images drawn by a program in its shape, "
        "47 classes at 28x28, 2400 train and 400 held-out images each",
    ),
)


@hookimpl
def lopbench_data(register: Register) -> None:
    """Register the built-in data sets."""
    for name, target, summary in SETS:
        register(name, target, summary)
