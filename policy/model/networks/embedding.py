"""Sinusoidal features of the diffusion step."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reconverge.errors import ReconvergeError


def check_size(size: int) -> int:
    """Return `size`; raise ReconvergeError where sinusoidal features cannot have it."""
    if size < 4 or size % 2:
        raise ReconvergeError(f"timestep embedding of size {size}: give an even number from 4 on")
    return size


def sinusoidal(
    k: Int[Tensor, "B"], size: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B {size}"]:
    """Return sin and cos of k at size/2 wavelengths from 2 pi to 20000 pi steps.

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5.
    """
    half = size // 2
    exponent = torch.arange(half, device=k.device, dtype=dtype) / (half - 1)
    angle = k[:, None].to(dtype) * torch.exp(-math.log(10_000) * exponent)
    return torch.cat([angle.sin(), angle.cos()], dim=1)
