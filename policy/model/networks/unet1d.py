"""The 1-D conditional U-Net denoiser with FiLM and optional self-attention.

Chi et al. 2023, arXiv 2303.04137; with attention Wang et al. 2026, arXiv 2602.02417.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.model.networks.embedding import check_size, sinusoidal


class ConvBlock(nn.Sequential):
    """Apply convolution, group norm and activation; the length stays constant."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int):
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
            nn.GroupNorm(groups, outputs),
            nn.Mish(),
        )


class ResidualBlock(nn.Module):
    """Apply two convolutions with FiLM between them, and add a skip."""

    def __init__(self, inputs: int, outputs: int, context: int, kernel: int, groups: int):
        super().__init__()
        self.first = ConvBlock(inputs, outputs, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(context, 2 * outputs))
        self.second = ConvBlock(outputs, outputs, kernel, groups)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, h: Float[Tensor, "B c l"], context: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B d l"]:
        scale, shift = self.film(context)[:, :, None].chunk(2, dim=1)
        # 1 + scale: at the start FiLM hardly changes its input.
        return self.second((1 + scale) * self.first(h) + shift) + self.skip(h)


class SelfAttention(nn.Module):
    """Add multi-head self-attention along the length, of the normed input, to the input."""

    def __init__(self, channels: int, heads: int, groups: int):
        super().__init__()
        if channels % heads:
            raise ReconvergeError(
                f"heads={heads} does not divide channels={channels}: choose a divisor"
            )
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, h: Float[Tensor, "B c l"]) -> Float[Tensor, "B c l"]:
        q, k, v = self.qkv(self.norm(h)).unflatten(1, (3, self.heads, -1)).unbind(1)
        # Written out: the fused kernels lack the forward-mode derivative that the Fisher estimate
        # takes.
        weights = torch.softmax(q.transpose(-1, -2) @ k / q.shape[-2] ** 0.5, dim=-1)
        return h + self.out((v @ weights.transpose(-1, -2)).flatten(1, 2))


class Level(nn.Module):
    """Apply two residual blocks at one resolution, and attention if `heads` is given."""

    def __init__(
        self, inputs: int, outputs: int, context: int, kernel: int, groups: int, heads: int | None
    ):
        super().__init__()
        self.first = ResidualBlock(inputs, outputs, context, kernel, groups)
        self.second = ResidualBlock(outputs, outputs, context, kernel, groups)
        self.attention = SelfAttention(outputs, heads, groups) if heads else nn.Identity()

    def forward(
        self, h: Float[Tensor, "B c l"], context: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B d l"]:
        return self.attention(self.second(self.first(h, context), context))


@dataclass(frozen=True)
class UNet1dOptions:
    """1-D conditional U-Net with FiLM."""

    name: str = "unet1d"
    down_dims: list[int] = option([64, 128, 256], "channels of each level")
    kernel_size: int = option(5, "kernel size of the convolutions, odd", at_least=1, at_most=1001)
    n_groups: int = option(8, "groups of each group normalisation", at_least=1, at_most=100_000)
    diffusion_step_embed_dim: int = option(
        128, "number of features of the diffusion step, even", at_least=4, at_most=100_000
    )
    attention_levels: list[int] = option([], "levels with self-attention, 1 the finest")
    heads: int = option(8, "heads of the self-attention", at_least=1, at_most=100_000)

    def build(self, *, sample_steps: int, sample_size: int, condition_size: int) -> nn.Module:
        """Make the network with fresh weights; convolutions fit every number of sample steps."""
        return UNet1d(self, sample_size, condition_size)


class UNet1d(nn.Module):
    """Denoise by convolutions along the steps of a sample, of any number from 1 on.

    `attention_levels` counts the levels of `down_dims` from 1, the finest. They attend on the way
    down; the middle, which has the coarsest level's length, attends with it.
    """

    def __init__(self, options: UNet1dOptions, sample_size: int, condition_size: int):
        super().__init__()
        _check(options)
        channels, kernel, groups = options.down_dims, options.kernel_size, options.n_groups
        attention_levels, heads = options.attention_levels, options.heads
        self.embed_dim = embedding = check_size(options.diffusion_step_embed_dim)
        self.step = nn.Sequential(
            nn.Linear(embedding, 4 * embedding), nn.Mish(), nn.Linear(4 * embedding, embedding)
        )
        context = embedding + condition_size

        def level(inputs: int, outputs: int, attend: bool) -> Level:
            return Level(inputs, outputs, context, kernel, groups, heads if attend else None)

        attends = [i + 1 in attention_levels for i in range(len(channels))]
        inputs = [sample_size, *channels[:-1]]
        self.down = nn.ModuleList(map(level, inputs, channels, attends))
        self.shorten = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = level(channels[-1], channels[-1], attends[-1])
        # Coarse to fine, each joined to the way down's output of its length.
        coarse, fine = list(channels[:0:-1]), list(channels[-2::-1])
        self.up = nn.ModuleList(level(2 * c, f, False) for c, f in zip(coarse, fine, strict=True))
        self.lengthen = nn.ModuleList(
            nn.ConvTranspose1d(f, f, 4, stride=2, padding=1) for f in fine
        )
        self.leave = nn.Sequential(
            ConvBlock(channels[0], channels[0], kernel, groups),
            nn.Conv1d(channels[0], sample_size, 1),
        )

    def forward(
        self, x: Float[Tensor, "B L D"], k: Int[Tensor, "B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        context = torch.cat([self.step(sinusoidal(k, self.embed_dim, x.dtype)), condition], dim=1)
        h = self.down[0](x.transpose(1, 2), context)
        lengths, skips = [h.shape[-1]], []
        for shorten, level in zip(self.shorten, self.down[1:], strict=True):
            h = level(shorten(h), context)
            lengths.append(h.shape[-1])
            skips.append(h)
        h = self.middle(h, context)
        for level, lengthen, skip, length in zip(
            self.up, self.lengthen, skips[::-1], lengths[-2::-1], strict=True
        ):
            # An odd length was rounded up on the way down.
            h = lengthen(level(torch.cat([h, skip], dim=1), context))[..., :length]
        return self.leave(h).transpose(1, 2)


def _check(options: UNet1dOptions) -> None:
    channels, groups, levels = options.down_dims, options.n_groups, options.attention_levels
    if not channels or min(channels) < 1:
        raise ReconvergeError(f"down_dims={channels}: give at least one level, of at least 1")
    if options.kernel_size % 2 == 0:
        raise ReconvergeError(
            f"kernel_size={options.kernel_size}: give an odd size, which keeps the length"
        )
    for c in channels:
        if c % groups:
            raise ReconvergeError(f"n_groups={groups} does not divide {c} of down_dims={channels}")
    for i in levels:
        if not 1 <= i <= len(channels):
            raise ReconvergeError(f"attention level {i}: choose among 1 to {len(channels)}")
