"""Vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929v2) of the size that Joudaki et al. 2025 train.

Built from timm's VisionTransformer, which has the parameters of the authors' own. Deviation: LayerNorm's epsilon is
torch's 1e-5, for all normalisations alike, where timm has 1e-6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from lopbench import UnsupportedError, whole
from lopbench_plugins._multiples import check_multiple
from lopbench_plugins.architectures._base import (
    Activation,
    Normalization,
    PaperArchitecture,
    drop_idle_dropout,
    image_shape,
)


@dataclass(frozen=True, kw_only=True)
class ViT(PaperArchitecture):
    """Pre-norm transformer on square patches, a class token and learned positions; the class token feeds the head.

    Dropout acts on the embedded tokens, the attention weights, the attention's projection and the MLP. Initialised as
    the authors do: linear weights, class token and positions from a normal of standard deviation 0.02 truncated at
    +-2, linear biases 0, norms at 1 and 0, the patch embedding as torch does.

    Args:
        normalization: Kind of normalisation; "batch" takes statistics over samples and tokens, "group" over the tokens
            of a sample and the channels of a group.
        patch: Side of a patch in pixels, at least 1; must divide both sides of the image.
        width: Size of a token, at least 1; a multiple of ``heads``.
        depth: Number of blocks, at least 1.
        heads: Attention heads of a block, at least 1.
    """

    name: ClassVar[str] = "vit"
    examples: ClassVar[tuple[Mapping[str, object], ...]] = ({"width": 12, "depth": 2, "heads": 2},)
    normalization: Normalization = "layer"
    activation: Activation = "gelu"
    patch: int = whole(8, least=1)
    width: int = whole(384, least=1)
    depth: int = whole(6, least=1)
    heads: int = whole(6, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_multiple(self.name, "heads", self.heads, width=self.width)

    def assemble(self, input_shape: Sequence[int], outputs: int) -> nn.Module:
        """Return the network for images whose sides are multiples of ``patch``."""
        channels, height, width = image_shape(self.name, input_shape)
        if height % self.patch or width % self.patch:
            raise UnsupportedError(
                f"vit cannot cut {height}x{width} images into patches of {self.patch}x{self.patch}; "
                "choose a patch that divides both sides, as in vit:patch=4"
            )

        def norm_layer(features: int, **_: object) -> nn.Module:  # timm passes device and dtype, which are the defaults
            return self.normalization_layer("token", features) or nn.Identity()

        network: nn.Module = VisionTransformer(
            img_size=(height, width),
            patch_size=self.patch,
            in_chans=channels,
            num_classes=outputs,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
            pos_drop_rate=self.dropout,
            proj_drop_rate=self.dropout,
            attn_drop_rate=self.dropout,
            norm_layer=norm_layer,
            act_layer=self.activation_layer,
        )
        nn.init.trunc_normal_(network.get_parameter("cls_token"), std=0.02)  # timm: normal of 1e-6
        drop_idle_dropout(network)
        return network

    @property
    def transformer(self) -> bool:
        """True."""
        return True

    def layers(self, module: nn.Module) -> Sequence[str]:
        """Return the names of the blocks, whose outputs ``(N, T, width)`` are the residual stream."""
        return [name for name, block in module.named_modules() if isinstance(block, Block)]

    def widened(self, factor: int) -> "ViT":
        """Return the architecture with ``factor`` times the width of a token and as many more heads."""
        return replace(self, width=self.width * factor, heads=self.heads * factor)
