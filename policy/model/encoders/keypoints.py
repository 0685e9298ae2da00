"""Where the channels of a feature map respond: a few bounded numbers that describe a picture."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FLAT = 1e-3  # standard deviation below which a channel counts as the same everywhere


def keypoints(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
    """Return the expected place of every channel, F = 2 C numbers: all vertical places, then all
    horizontal ones.

    Spatial softmax (Levine et al. 2016, arXiv 1504.00702). Places are in [-1, 1], from the top to
    the bottom and from the left to the right.
    """
    height, width = features.shape[2:]
    share = torch.softmax(features.flatten(2), dim=2).unflatten(2, (height, width))
    rows, columns = (torch.linspace(-1, 1, n, device=features.device) for n in (height, width))
    vertical, horizontal = share.sum(dim=3) @ rows, share.sum(dim=2) @ columns
    return torch.cat([vertical, horizontal], dim=1)


def standardised(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Return channels of one scale over each picture, where no scale is learned."""
    mean = features.mean(dim=(2, 3), keepdim=True)
    deviation = features.std(dim=(2, 3), keepdim=True, correction=0)
    return (features - mean) / (deviation + FLAT)
