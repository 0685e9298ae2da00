"""The residual MLP denoiser, the default on a CPU."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from reconverge.options import option
from reconverge.policy.model.networks.embedding import check_size, sinusoidal


class Block(nn.Module):
    """Return h + W2 silu(W1 FiLM(norm(h), context)); starts as the identity.

    FiLM: Perez et al. 2018, arXiv 1709.07871.
    """

    def __init__(self, width: int, hidden: int, context: int):
        super().__init__()
        self.film = nn.Linear(context, 2 * width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(
        self, h: Float[Tensor, "B W"], context: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B W"]:
        scale, shift = self.film(context).chunk(2, dim=1)
        # No affine part in the norm: FiLM supplies it.
        normed = functional.layer_norm(h, h.shape[-1:])
        modulated = torch.addcmul(normed + shift, normed, scale)
        return h + self.contract(functional.silu(self.expand(modulated)))


@dataclass(frozen=True)
class MLPOptions:
    """Residual MLP, fast on a CPU."""

    name: str = "mlp"
    width: int = option(256, "width of the residual stream", at_least=1, at_most=100_000)
    depth: int = option(3, "number of residual blocks", at_least=1, at_most=1000)
    expansion: float = option(
        2.0, "hidden width of a block, as a multiple of `width`", above=0, at_most=100
    )
    diffusion_step_embed_dim: int = option(
        64, "number of features of the diffusion step, even", at_least=4, at_most=100_000
    )
    context: int = option(
        128,
        "size of the features of diffusion step and condition together",
        at_least=1,
        at_most=100_000,
    )

    def build(self, *, sample_steps: int, sample_size: int, condition_size: int) -> nn.Module:
        """Make the network with fresh weights."""
        return MLP(self, sample_steps * sample_size, condition_size)


class MLP(nn.Module):
    """Denoise the flattened sample; diffusion step and condition modulate every block."""

    def __init__(self, options: MLPOptions, flat: int, condition_size: int):
        super().__init__()
        width, context = options.width, options.context
        self.embed_dim = check_size(options.diffusion_step_embed_dim)
        given = self.embed_dim + condition_size
        self.context = nn.Linear(given, context)
        self.enter = nn.Linear(flat + given, width)
        self.blocks = nn.ModuleList(
            Block(width, round(options.expansion * width), context) for _ in range(options.depth)
        )
        self.leave = nn.Linear(width, flat)

    def forward(
        self, x: Float[Tensor, "B L D"], k: Int[Tensor, "B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        given = torch.cat([sinusoidal(k, self.embed_dim, x.dtype), condition], dim=1)
        context = functional.silu(self.context(given))
        h = self.enter(torch.cat([x.flatten(1), given], dim=1))
        for block in self.blocks:
            h = block(h, context)
        return self.leave(functional.layer_norm(h, h.shape[-1:])).view_as(x)
