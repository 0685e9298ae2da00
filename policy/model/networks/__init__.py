"""The table of networks: network(x [B, L, D], k [B], condition [B, C]) -> [B, L, D].

A row is the options of a network, a frozen dataclass whose first field is `name`. Its
`build(sample_steps=L, sample_size=D, condition_size=C)` makes the network.
"""

from typing import Protocol

from torch import nn

from reconverge.policy.model.networks.mlp import MLPOptions
from reconverge.policy.model.networks.unet1d import UNet1dOptions


class NetworkOptions(Protocol):
    name: str

    def build(self, *, sample_steps: int, sample_size: int, condition_size: int) -> nn.Module: ...


NETWORKS: dict[str, type] = {"mlp": MLPOptions, "unet1d": UNet1dOptions}
