"""The exponential moving average of a network's parameters, with warm-up."""

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
POWER = 0.75  # diffusion_policy's


class Ema(Generic[Network]):
    """Average a network into the copy `network`, at decay min(max_decay, 1 - (1 + n)^-POWER).

    n is the number of earlier updates less one, at least 0, as in diffusion_policy (Chi et al.
    2023, arXiv 2303.04137): the first two updates copy. Buffers are copied.
    """

    def __init__(self, network: Network, max_decay: float):
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.max_decay, self.updates = max_decay, 0

    @property
    def decay(self) -> float:
        """Return the decay of the next update."""
        n = max(0, self.updates - 1)
        return min(self.max_decay, 1 - (1 + n) ** -POWER)

    def counter(self, span: float) -> int:
        """Return the least number of updates after which the decay is at least 1 - 1/span."""
        return 1 + math.ceil(max(1.0, span) ** (1 / POWER) - 1)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Set average <- decay average + (1 - decay) network."""
        average: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(average, current, 1 - self.decay)
        for kept, new in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
        self.updates += 1
