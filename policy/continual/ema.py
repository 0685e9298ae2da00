"""The exponential moving average of a network's parameters, with warm-up."""

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Ema(Generic[Network]):
    """Average a network into the copy `network`, at decay min(max_decay, 1 - (1 + n / g)^-power).

    g is `inv_gamma`, and n the number of earlier updates less one, at least 0, as in
    diffusion_policy (Chi et al. 2023, arXiv 2303.04137): the first two updates copy. Buffers are
    copied.
    """

    def __init__(
        self,
        network: Network,
        *,
        max_decay: float = 0.9999,
        inv_gamma: float = 1.0,
        power: float = 0.75,
    ):
        if not (0 <= max_decay < 1 and inv_gamma > 0 and power > 0):
            raise ValueError(
                f"max_decay={max_decay}, inv_gamma={inv_gamma}, power={power}: "
                "give 0 <= max_decay < 1 and positive inv_gamma and power"
            )
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.max_decay, self.inv_gamma, self.power = max_decay, inv_gamma, power
        self.updates = 0

    @property
    def decay(self) -> float:
        """Return the decay of the next update."""
        n = max(0, self.updates - 1)
        return min(self.max_decay, 1 - (1 + n / self.inv_gamma) ** -self.power)

    def counter(self, span: float) -> int:
        """Return the least number of updates after which the decay is at least 1 - 1/span."""
        return 1 + math.ceil(self.inv_gamma * (max(1.0, span) ** (1 / self.power) - 1))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Set average <- decay average + (1 - decay) network."""
        average: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(average, current, 1 - self.decay)
        for kept, new in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(new)
        self.updates += 1
