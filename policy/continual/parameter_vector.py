"""Parameters as one vector, in the order of `named_parameters`, each row-major."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def concatenate(params: Mapping[str, Tensor]) -> Float[Tensor, "P"]:
    """Return a copy of all parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in params.values()])


def split(flat: Shaped[Tensor, "P"], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return views of the vector under the names and shapes of `like`."""
    pieces = flat.split([p.numel() for p in like.values()])
    return {
        name: piece.view(p.shape) for (name, p), piece in zip(like.items(), pieces, strict=True)
    }


@torch.no_grad()
def flatten_parameters(network: nn.Module) -> Float[Tensor, "P"]:
    """Move the parameters into one buffer and return it: whoever writes it writes the network.

    load_state_dict and optimisers keep the tie; a deep copy, and moving to another device or dtype,
    do not.
    """
    params = dict(network.named_parameters())
    flat = concatenate(params)
    for name, view in split(flat, params).items():
        params[name].data = view
    return flat


def flatten_gradients(network: nn.Module) -> Float[Tensor, "P"]:
    """Make the gradients views of one zero vector and return it; `backward` adds to it."""
    params = dict(network.named_parameters())
    flat = torch.zeros_like(concatenate(params))
    for name, view in split(flat, params).items():
        params[name].grad = view
    return flat
