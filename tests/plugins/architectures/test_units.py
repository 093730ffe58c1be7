"""What the unit graph finds in the built-in architectures: the units that a method may reset."""

import pytest
import torch

from lopbench.core.rng import derive
from lopbench.core.spec import ComponentSpec
from lopbench.learner.discovery import discover

#: Widths are small: what is found does not depend on them.
ARCHITECTURES = {
    "mlp:width=16": 5,
    "mlp:width=16,normalization=batch": 5,
    "mlp:width=16,normalization=layer": 5,
    "cnn:channels=4/8/8,hidden=16": 4,
    "cnn:channels=4/8/8,hidden=16,normalization=batch": 4,
    "convnet:channels=4/8/8,hidden=16/12": 5,
    "resnet18:base_width=8": 8,
    "resnet18:base_width=8,normalization=batch": 8,
    "vit:width=24,depth=3,heads=2": 3,
    "timm:resnet18": 8,
    "timm:vit_tiny_patch16_224": 12,
    "online_mlp": 1,
}


@pytest.mark.parametrize(("architecture", "groups"), ARCHITECTURES.items())
def test_the_built_ins_have_units_to_reset(architecture, groups):
    spec = ComponentSpec.parse("architectures", architecture)
    size = 224 if "224" in architecture else 32
    module = spec.build().build((3, size, size), 10, generator=derive(0, "init"))
    found = discover(module, torch.zeros(2, 3, size, size)).groups
    assert len(found) == groups
    names = dict(module.named_parameters())
    for group in found:
        assert names[group.weight].shape[0] == group.size
        for consumer in group.consumers:
            assert names[consumer.weight].shape[1] == group.size * consumer.expansion


def test_a_flattened_map_gives_each_unit_all_its_positions():
    module = ComponentSpec.parse("architectures", "cnn:channels=4/8/8,hidden=16").build()
    network = module.build((3, 32, 32), 10, generator=derive(0, "init"))
    last_map = discover(network, torch.zeros(2, 3, 32, 32)).groups[2]
    assert [consumer.expansion for consumer in last_map.consumers] == [4 * 4]
