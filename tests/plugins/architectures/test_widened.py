"""What architectures say of their wider networks, against what a cloner makes of the narrow ones."""

import pytest
import torch

from lopbench.core.errors import UnsupportedError
from lopbench.core.spec import ComponentSpec
from lopbench_plugins.cloners.interleave import Interleave

WIDENED = {
    "mlp": "mlp:width=6,depth=2,normalization={}",
    "cnn": "cnn:channels=4/6,hidden=8,normalization={}",
    "convnet": "convnet:channels=4/6,kernels=3/3,hidden=8/6,normalization={}",
    "resnet18": "resnet18:base_width=4,normalization={}",
    "vit": "vit:width=12,depth=1,heads=2,normalization={}",
}


@pytest.mark.parametrize("name", WIDENED)
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("factor", [2, 3])
def test_widened_networks_have_the_parameters_of_clones(name, normalization, factor):
    architecture = ComponentSpec.parse("architectures", WIDENED[name].format(normalization)).build()
    generator = torch.Generator().manual_seed(0)
    base, wide = (a.build((3, 16, 16), 5, generator=generator) for a in (architecture, architecture.widened(factor)))
    clone, _ = Interleave().clone(base, factor, example=torch.zeros(2, 3, 16, 16), generator=generator)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (wide, clone)]
    assert shapes[0] == shapes[1]


def test_architecture_that_cannot_say_is_told_of_by_name():
    with pytest.raises(UnsupportedError, match="timm does not say how its wider networks start"):
        ComponentSpec.parse("architectures", "timm:resnet18").build().widened(2)
