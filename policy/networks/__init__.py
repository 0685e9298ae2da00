"""The table of denoisers: network(x [B, L, D], k [B], condition [B, C]) -> [B, L, D]."""

import inspect
from typing import Any

from torch import nn

from policy.choices import unknown
from policy.networks.mlp import MLP
from policy.networks.unet1d import UNet1d

NETWORKS: dict[str, type[nn.Module]] = {
    "mlp": MLP,
    "unet1d": UNet1d,
}


def build_network(name: str, *, sample_steps: int, sample_size: int, condition_size: int, **options: Any) -> nn.Module:
    """The named denoiser of samples [sample_steps, sample_size] given a vector of condition_size numbers."""
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    sizes = {"sample_steps": sample_steps, "sample_size": sample_size, "condition_size": condition_size}
    legal = [option for option in inspect.signature(NETWORKS[name]).parameters if option not in sizes]
    for option in options:
        if option not in legal:
            raise unknown(f"option of network {name!r}", option, legal)
    return NETWORKS[name](**sizes, **options)
