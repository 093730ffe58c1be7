"""Architectures: the networks of the published experiments, and any model of timm."""

from lopbench import Register, hookimpl


@hookimpl
def lopbench_architectures(register: Register) -> None:
    """Register the built-in architectures by name of module and class, so that listing them imports no torch."""
    package = "lopbench_plugins.architectures"
    register("mlp", f"{package}.mlp:MLP", "five hidden layers of 128 units, the plain baseline")
    register("cnn", f"{package}.cnn:CNN", "three convolutions with max pooling and one hidden layer")
    register("convnet", f"{package}.convnet:ConvNet", "three convolutions and two hidden layers, of continual ImageNet")
    register("resnet18", f"{package}.resnet18:ResNet18", "residual network of 18 layers for small images")
    register("vit", f"{package}.vit:ViT", "vision transformer of six blocks on 8x8 patches")
    register("timm", f"{package}.timm:Timm", "any timm model from scratch, as in timm:resnet18")
    register(
        "online_mlp", f"{package}.online_mlp:OnlineMLP", "one hidden layer of 5 units, the learner of bit flipping"
    )
    register(
        "char_transformer",
        f"{package}.char_transformer:CharTransformer",
        "causal transformer of one block, 32 wide, for tokens",
    )
    register(
        "actor_critic",
        f"{package}.actor_critic:ActorCritic",
        "two perceptrons side by side, for the policy and the value of an agent",
    )
    register("linear", f"{package}.linear:Linear", "no hidden units, the linear baseline")
