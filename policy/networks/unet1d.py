"""1-D conditional U-Net denoiser with FiLM and optional self-attention. arXiv 2303.04137, 2602.02417."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policy.networks.embedding import check_size, sinusoidal


class ConvBlock(nn.Sequential):
    """Convolution, group norm, activation at constant length."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int):
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(groups, outputs), nn.Mish()
        )


class ResidualBlock(nn.Module):
    """Two convolutions with FiLM between them, and a skip."""

    def __init__(self, inputs: int, outputs: int, context: int, kernel: int, groups: int):
        super().__init__()
        self.first = ConvBlock(inputs, outputs, kernel, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(context, 2 * outputs))
        self.second = ConvBlock(outputs, outputs, kernel, groups)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, h: Float[Tensor, "B c l"], context: Float[Tensor, "B G"]) -> Float[Tensor, "B d l"]:
        scale, shift = self.film(context)[:, :, None].chunk(2, dim=1)
        # 1 + scale: at the start FiLM hardly changes its input.
        return self.second((1 + scale) * self.first(h) + shift) + self.skip(h)


class SelfAttention(nn.Module):
    """Pre-norm multi-head self-attention along the length, added to its input."""

    def __init__(self, channels: int, heads: int, groups: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads={heads} does not divide channels={channels}: choose a divisor")
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, h: Float[Tensor, "B c l"]) -> Float[Tensor, "B c l"]:
        q, k, v = self.qkv(self.norm(h)).unflatten(1, (3, self.heads, -1)).unbind(1)
        # Written out: the fused kernels lack the forward-mode derivative that the Fisher estimate takes.
        weights = torch.softmax(q.transpose(-1, -2) @ k / q.shape[-2] ** 0.5, dim=-1)
        return h + self.out((v @ weights.transpose(-1, -2)).flatten(1, 2))


class Level(nn.Module):
    """Two residual blocks at one resolution, and attention where asked."""

    def __init__(self, inputs: int, outputs: int, context: int, kernel: int, groups: int, heads: int | None):
        super().__init__()
        self.first = ResidualBlock(inputs, outputs, context, kernel, groups)
        self.second = ResidualBlock(outputs, outputs, context, kernel, groups)
        self.attention = SelfAttention(outputs, heads, groups) if heads else nn.Identity()

    def forward(self, h: Float[Tensor, "B c l"], context: Float[Tensor, "B G"]) -> Float[Tensor, "B d l"]:
        return self.attention(self.second(self.first(h, context), context))


class UNet1d(nn.Module):
    """Denoiser convolving along the sample's steps; any number of steps from 1 on.

    `attention_levels` counts the levels of `channels` from 1, the finest. They attend on the way down; the
    middle, which has the coarsest level's length, attends with it.
    """

    def __init__(
        self,
        *,
        sample_steps: int,
        sample_size: int,
        condition_size: int,
        channels: Sequence[int] = (64, 128, 256),
        kernel: int = 5,
        groups: int = 8,
        embedding: int = 128,
        attention_levels: Sequence[int] = (),
        heads: int = 8,
    ):
        super().__init__()
        del sample_steps  # convolutions fit every length
        _check(channels, kernel, groups, attention_levels, heads)
        self.embedding = check_size(embedding)
        self.step = nn.Sequential(nn.Linear(embedding, 4 * embedding), nn.Mish(), nn.Linear(4 * embedding, embedding))
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
        self.lengthen = nn.ModuleList(nn.ConvTranspose1d(f, f, 4, stride=2, padding=1) for f in fine)
        self.leave = nn.Sequential(
            ConvBlock(channels[0], channels[0], kernel, groups), nn.Conv1d(channels[0], sample_size, 1)
        )

    def forward(
        self, x: Float[Tensor, "B L D"], k: Int[Tensor, "B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        context = torch.cat([self.step(sinusoidal(k, self.embedding, x.dtype)), condition], dim=1)
        h = self.down[0](x.transpose(1, 2), context)
        lengths, skips = [h.shape[-1]], []
        for shorten, level in zip(self.shorten, self.down[1:], strict=True):
            h = level(shorten(h), context)
            lengths.append(h.shape[-1])
            skips.append(h)
        h = self.middle(h, context)
        for level, lengthen, skip, length in zip(self.up, self.lengthen, skips[::-1], lengths[-2::-1], strict=True):
            # An odd length was rounded up on the way down.
            h = lengthen(level(torch.cat([h, skip], dim=1), context))[..., :length]
        return self.leave(h).transpose(1, 2)


def _check(channels: Sequence[int], kernel: int, groups: int, attention_levels: Sequence[int], heads: int) -> None:
    if not channels:
        raise ValueError("channels=(): give the U-Net at least one level")
    if min(*channels, kernel, groups, heads) < 1:
        raise ValueError(f"channels={list(channels)}, kernel={kernel}, groups={groups}, heads={heads}: all at least 1")
    if kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: give an odd size, which keeps the length")
    for c in channels:
        if c % groups:
            raise ValueError(f"groups={groups} does not divide channels={c}: choose a common divisor")
    for i in attention_levels:
        if not 1 <= i <= len(channels):
            raise ValueError(f"attention level {i}: choose among 1 to {len(channels)}")
