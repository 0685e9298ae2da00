"""Encoders that learn with the policy: they are a part of its network.

So the trust region, the average of the weights, the teacher and the Fisher hold for them too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.model.encoders.keypoints import keypoints
from reconverge.policy.model.encoders.pretrained import make

GROUP = 16  # channels that are normalised together, as in diffusion_policy
REDUCTIONS = (8, 16, 32)


@dataclass(frozen=True)
class ResNet18Options:
    """ResNet-18 (He et al. 2015, arXiv 1512.03385) from fresh weights, one for each camera.

    As in diffusion_policy (Chi et al. 2023, arXiv 2303.04137) groups of channels are normalised
    (Wu, He 2018, arXiv 1803.08494), as statistics of batches and averaged weights do not go
    together, and of its last map keypoints are taken.
    """

    name: str = "resnet18"
    width: int = option(
        64,
        "channels of the first stage, a multiple of 16; each stage has twice those of the one "
        "before",
        at_least=GROUP,
        at_most=1024,
    )
    reduction: int = option(
        32,
        "pixels of the picture for one of the last map: 16 leaves out the last stage, 8 the last "
        "two",
        at_least=REDUCTIONS[0],
        at_most=REDUCTIONS[-1],
    )
    keypoints: int = option(32, "channels whose places are taken", at_least=1, at_most=4096)
    crop: int = option(
        4,
        "pixels by which a picture is moved at most in training, its border repeated: a random "
        "crop of the padded picture (Kostrikov et al. 2020, arXiv 2004.13649)",
        at_least=0,
        at_most=64,
    )

    def eye(self, picture_size: int) -> Eye:
        """Return an encoder with fresh weights; ReconvergeError for sizes that there are not, and
        for pictures that are too small to have places.
        """
        if self.width % GROUP:
            raise ReconvergeError(f"encoder.width={self.width}: must be a multiple of {GROUP}")
        if self.reduction not in REDUCTIONS:
            legal = ", ".join(map(str, REDUCTIONS))
            raise ReconvergeError(f"encoder.reduction={self.reduction}: must be one of {legal}")
        if 2 * self.crop >= picture_size:
            raise ReconvergeError(
                f"encoder.crop={self.crop}: must be less than half of picture_size={picture_size}"
            )
        if picture_size <= self.reduction:
            raise ReconvergeError(
                f"encoder.reduction={self.reduction}: leaves one place of a picture of "
                f"{picture_size} pixels; choose a smaller one, or a larger picture_size="
            )
        width, stage = self.width, REDUCTIONS.index(self.reduction) + 2
        trunk = make(
            "resnet18",
            pretrained=False,
            features_only=True,
            out_indices=(stage,),
            norm_layer=_group_norm,
            channels=(width, 2 * width, 4 * width, 8 * width),
        )
        return Eye(trunk, self.keypoints)


class Eye(nn.Module):
    """Keypoints of a picture: F = 2 `count` numbers in [-1, 1]."""

    def __init__(self, trunk: Any, count: int):
        super().__init__()
        self.trunk = trunk
        self.points = nn.Conv2d(trunk.feature_info.channels()[-1], count, kernel_size=1)
        self.size = 2 * count

    def forward(self, pictures: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B F"]:
        # oneDNN takes twenty times as long for the gradient of a convolution in bfloat16.
        with torch.autocast("cpu", enabled=False):
            (maps,) = self.trunk(pictures.permute(0, 3, 1, 2))
            maps = self.points(maps).float()
        with torch.autocast(maps.device.type, enabled=False):  # places want float32
            return keypoints(maps)


class Seeing(nn.Module):
    """A denoiser that sees: its condition ends with pictures, [To, C, H, W, 3] in [-1, 1].

    The denoiser in it is given features in their place.
    """

    fisher_batch = 64  # windows; layers of pictures take much memory

    def __init__(self, eyes: Sequence[Eye], denoiser: nn.Module, shape: tuple[int, int, int]):
        super().__init__()
        self.eyes, self.denoiser = nn.ModuleList(eyes), denoiser
        self._shape = (shape[0], len(eyes), *shape[1:], 3)

    def forward(
        self, x: Float[Tensor, "B L D"], k: Int[Tensor, " B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        return self.denoiser(x, k, self.look(condition))

    def look(self, condition: Float[Tensor, "B C"]) -> Float[Tensor, "B c"]:
        """Return the condition with features in place of the pictures."""
        pixels = math.prod(self._shape)
        told = condition[:, :-pixels]
        pictures = condition[:, -pixels:].unflatten(1, self._shape)
        seen = []
        for camera, eye in enumerate(self.eyes):
            features = eye(pictures[:, :, camera].flatten(0, 1)).to(told.dtype)
            seen.append(features.unflatten(0, (-1, self._shape[0])).flatten(1))
        return torch.cat([told, *seen], dim=1)


def _group_norm(channels: int, **where: Any) -> nn.Module:
    return nn.GroupNorm(channels // GROUP, channels, **where)
