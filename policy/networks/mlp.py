"""Residual MLP denoiser, the default on a CPU."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from policy.networks.embedding import check_size, sinusoidal


class Block(nn.Module):
    """h + W2 silu(W1 FiLM(norm(h), context)); starts as the identity."""

    def __init__(self, width: int, hidden: int, context: int):
        super().__init__()
        self.film = nn.Linear(context, 2 * width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, h: Float[Tensor, "B W"], context: Float[Tensor, "B G"]) -> Float[Tensor, "B W"]:
        scale, shift = self.film(context).chunk(2, dim=1)
        # No affine part in the norm: FiLM supplies it.
        normed = functional.layer_norm(h, h.shape[-1:])
        modulated = torch.addcmul(normed + shift, normed, scale)
        return h + self.contract(functional.silu(self.expand(modulated)))


class MLP(nn.Module):
    """Denoiser over the flattened sample; diffusion step and condition modulate every block."""

    def __init__(
        self,
        *,
        sample_steps: int,
        sample_size: int,
        condition_size: int,
        width: int = 512,
        depth: int = 4,
        expansion: float = 2.0,
        embedding: int = 64,
        context: int = 128,
    ):
        super().__init__()
        self.embedding = check_size(embedding)
        flat, given = sample_steps * sample_size, embedding + condition_size
        self.context = nn.Linear(given, context)
        self.enter = nn.Linear(flat + given, width)
        self.blocks = nn.ModuleList(Block(width, round(expansion * width), context) for _ in range(depth))
        self.leave = nn.Linear(width, flat)

    def forward(
        self, x: Float[Tensor, "B L D"], k: Int[Tensor, "B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        given = torch.cat([sinusoidal(k, self.embedding, x.dtype), condition], dim=1)
        context = functional.silu(self.context(given))
        h = self.enter(torch.cat([x.flatten(1), given], dim=1))
        for block in self.blocks:
            h = block(h, context)
        return self.leave(functional.layer_norm(h, h.shape[-1:])).view_as(x)
