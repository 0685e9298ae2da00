"""diffusers' two-dimensional U-Net as a denoiser's network, told the class.

The core's samples are rows of numbers [L, D]: a picture is its rows of pixels, one channel after
another, L = C * H and D = W.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.continual.region import FISHER_BATCH

MOST_GROUPS = 32
HEAD = 8  # channels of a head of attention, as diffusers has it
WIDENING = 4  # of the embedding of step and class against the first level, as diffusers has it

Shape = tuple[int, int, int]
"""C, H, W of a picture"""


@dataclass(frozen=True)
class UNet2dOptions:
    """diffusers' UNet2DModel in a size for processors: about a million parameters."""

    fisher_batch: ClassVar[int] = FISHER_BATCH

    name: str = "unet2d"
    channels: list[int] = option(
        [32, 64, 64], "channels of every level; each but the first has half the pixels"
    )
    layers: int = option(1, "residual blocks of a level on the way down", at_least=1, at_most=8)
    attention: list[int] = option(
        [], "levels, from 0, with self-attention; the middle always has it"
    )

    def build(self, shape: Shape, condition_size: int) -> PictureUNet:
        """Make the network of pictures of a shape; ReconvergeError for one that it cannot have."""
        return PictureUNet(self, shape, condition_size)


@dataclass(frozen=True)
class PaperUNet2dOptions(UNet2dOptions):
    """The size of arXiv 2509.23593 for 32 pixels, without its dropout."""

    fisher_batch: ClassVar[int] = 64  # 512 would take 22 GB, by their sizes

    name: str = "unet2d_paper"
    channels: list[int] = option([128, 256, 256, 256], "as of unet2d")
    layers: int = option(2, "as of unet2d", at_least=1, at_most=8)
    attention: list[int] = option([2], "as of unet2d")


UNETS: dict[str, type] = {"unet2d": UNet2dOptions, "unet2d_paper": PaperUNet2dOptions}


class PictureUNet(nn.Module):
    """network(x [B, C * H, W], k [B], condition [B, classes]) -> [B, C * H, W].

    The class is added to the embedding of the step, as diffusers does it; a linear layer of
    one-hots is its table of embeddings. There is no dropout: its numbers would not be keyed.
    Attention is spelled out, as the fused one has no forward-mode derivative.
    """

    def __init__(self, options: UNet2dOptions, shape: Shape, condition_size: int):
        super().__init__()
        _check(options, shape)
        self.shape, self.fisher_batch = shape, options.fisher_batch
        channels, height, width = shape
        levels = range(len(options.channels))
        kinds = ["Attn" if level in options.attention else "" for level in levels]
        diffusers = _diffusers()
        self.unet = diffusers.UNet2DModel(
            sample_size=(height, width),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(options.channels),
            layers_per_block=options.layers,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            norm_num_groups=_groups(options.channels),
            class_embed_type="identity",
        )
        for module in self.unet.modules():
            if isinstance(module, diffusers.models.attention_processor.Attention):
                module.set_processor(diffusers.models.attention_processor.AttnProcessor())
        self.classes = nn.Linear(condition_size, WIDENING * options.channels[0], bias=False)
        nn.init.normal_(self.classes.weight)

    def forward(
        self, x: Float[Tensor, "B L D"], k: Int[Tensor, " B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        picture = x.unflatten(1, self.shape[:2])
        return self.unet(picture, k, class_labels=self.classes(condition)).sample.flatten(1, 2)


def _diffusers() -> Any:
    """Import diffusers, which takes seconds, when a network is made."""
    try:
        diffusers = import_module("diffusers")
        import_module("diffusers.models.attention_processor")
    except ImportError as error:
        raise ReconvergeError(
            "networks of pictures are diffusers'; pip install -e '.[images]'"
        ) from error
    return diffusers


def _groups(channels: list[int]) -> int:
    return min(MOST_GROUPS, max(1, channels[0] // 4))


def _check(options: UNet2dOptions, shape: Shape) -> None:
    channels, levels = options.channels, len(options.channels)
    groups = _groups(channels) if channels else 1
    if not channels or min(channels) < 1 or any(number % groups for number in channels):
        raise ReconvergeError(
            f"network.channels={channels}: give whole multiples of {groups}, a quarter of the "
            f"first and at most {MOST_GROUPS}, the groups of their norms"
        )
    if wrong := [level for level in options.attention if not 0 <= level < levels]:
        raise ReconvergeError(f"network.attention={wrong}: must be in 0..{levels - 1}")
    if min(channels[level] for level in (*options.attention, -1)) < HEAD:
        raise ReconvergeError(
            f"network.channels={channels}: the last level and those of network.attention need at "
            f"least {HEAD}, for a head of attention"
        )
    step = 2 ** (levels - 1)
    if any(pixels % step for pixels in shape[1:]):
        raise ReconvergeError(
            f"network.channels={channels}: {levels} levels halve the pixels {levels - 1} times, so "
            f"size must be a multiple of {step}, got {shape[2]}"
        )
