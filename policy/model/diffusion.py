"""Denoising diffusion over arrays [L, D]: noise schedule, network target, DDIM sampler."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.options import check_options, option

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""network(x [B, L, D], k [B], condition [B, C]) -> [B, L, D]"""


PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


@dataclass(frozen=True)
class DiffusionOptions:
    """The diffusion process and its sampler."""

    num_train_timesteps: int = option(
        100, "diffusion steps of the noise schedule", at_least=2, at_most=100_000
    )
    num_inference_steps: int = option(5, "DDIM steps in which a sample is drawn", at_least=2)
    prediction_type: str = option(
        "sample",
        "what the network predicts: epsilon | sample | v_prediction",
        choices=PREDICTION_TYPES,
    )
    clip: float | None = option(
        1.0, "bound on every entry of the estimated sample while sampling (null: none)", above=0
    )


def squared_cosine_betas(steps: int) -> Float[Tensor, "k"]:
    """Return beta_k = min(1 - f(k+1)/f(k), 0.999), f(k) = cos^2(pi/2 (k/steps + s)/(1 + s)).

    Nichol, Dhariwal 2021, arXiv 2102.09672.
    """
    s = 0.008
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


class Diffusion:
    """The process x_k = sqrt(abar_k) x_0 + sqrt(1 - abar_k) eps, k in 0..num_train_timesteps-1.

    L and D are the rows and columns of one sample: Tp and Da where it is an action chunk.
    """

    def __init__(self, options: DiffusionOptions | None = None, device: torch.device | str = "cpu"):
        self.options = options or DiffusionOptions()
        self.device = device
        check_options(self.options, "diffusion.")
        steps, most = self.options.num_inference_steps, self.options.num_train_timesteps
        if steps > most:
            raise ReconvergeError(
                f"num_inference_steps={steps}: choose 2 to num_train_timesteps={most}"
            )
        abar = torch.cumprod(1 - squared_cosine_betas(most), dim=0)
        self.sqrt_abar = abar.sqrt().float().to(device)
        self.sqrt_one_minus_abar = (1 - abar).sqrt().float().to(device)

    def draw_steps(self, count: int, generator: torch.Generator) -> Int[Tensor, "{count}"]:
        """Draw uniform diffusion steps, one a sample; the generator must be on this device."""
        most = self.options.num_train_timesteps
        return torch.randint(most, (count,), generator=generator, device=self.device)

    def add_noise(
        self, x0: Float[Tensor, "B L D"], noise: Float[Tensor, "B L D"], k: Int[Tensor, "B"]
    ) -> Float[Tensor, "B L D"]:
        """Return x_k = sqrt(abar_k) x_0 + sqrt(1 - abar_k) eps."""
        return self._signal(k) * x0 + self._noise(k) * noise

    def target(
        self, x0: Float[Tensor, "B L D"], noise: Float[Tensor, "B L D"], k: Int[Tensor, "B"]
    ) -> Float[Tensor, "B L D"]:
        """Return the network's target: eps, x_0, or v = sqrt(abar) eps - sqrt(1 - abar) x_0.

        v: Salimans, Ho 2022, arXiv 2202.00512.
        """
        if self.options.prediction_type == "epsilon":
            return noise
        if self.options.prediction_type == "sample":
            return x0
        return self._signal(k) * noise - self._noise(k) * x0

    def inference_timesteps(self) -> list[int]:
        """Return the steps that sampling visits, the noisiest first, evenly spaced down to 0.

        The last training steps are skipped ("leading" spacing): there x_0 = (x - sqrt(1 - abar)
        eps) / sqrt(abar) divides an error in eps by almost nothing.
        """
        steps = self.options.num_inference_steps
        return [i * self.options.num_train_timesteps // steps for i in reversed(range(steps))]

    @torch.no_grad()
    def sample(
        self, network: Network, noise: Float[Tensor, "B L D"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        """Turn standard normal noise into x_0 by deterministic DDIM.

        Song, Meng, Ermon 2021, arXiv 2010.02502, eq. 12 with sigma = 0.
        """
        x = noise
        for k, now, later in zip(*self.sampling_steps(), strict=True):
            x = self.denoise(network, x, k, now, later, condition)
        return x

    def sampling_steps(
        self,
    ) -> tuple[Int[Tensor, "n 1"], Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
        """Return every visited step, its (sqrt(abar), sqrt(1 - abar)), and those of the next step.

        After the last step comes x_0 itself: 1 and 0.
        """
        k = torch.tensor(self.inference_timesteps(), device=self.device)
        now = torch.stack([self.sqrt_abar[k], self.sqrt_one_minus_abar[k]], dim=1)
        return k[:, None], now, torch.cat([now[1:], now.new_tensor([[1.0, 0.0]])])

    def denoise(
        self,
        network: Network,
        xk: Float[Tensor, "B L D"],
        k: Int[Tensor, "1"],
        now: Float[Tensor, "2"],
        later: Float[Tensor, "2"],
        condition: Float[Tensor, "B C"],
    ) -> Float[Tensor, "B L D"]:
        """Take one DDIM step from x_k to the step of `later`, by the x_0 and eps implied at x_k."""
        signal, noise = now
        output = network(xk, k.expand(xk.shape[0]), condition)
        if self.options.prediction_type == "epsilon":
            x0, eps = (xk - noise * output) / signal, output
        elif self.options.prediction_type == "sample":
            x0, eps = output, (xk - signal * output) / noise
        else:
            x0, eps = signal * xk - noise * output, signal * output + noise * xk
        clip = self.options.clip
        if clip is not None:
            x0 = x0.clamp(-clip, clip)
        return later[0] * x0 + later[1] * eps

    def _signal(self, k: Int[Tensor, "B"]) -> Float[Tensor, "B 1 1"]:
        return self.sqrt_abar[k][:, None, None]

    def _noise(self, k: Int[Tensor, "B"]) -> Float[Tensor, "B 1 1"]:
        return self.sqrt_one_minus_abar[k][:, None, None]


def masked(network: Network, mask: Float[Tensor, "B 1 D"]) -> Network:
    """Return the network with an output of zero where a mask of ones is zero."""
    return lambda x, k, condition: mask * network(x, k, condition)


def mean_square(error: Float[Tensor, "B L D"]) -> Float[Tensor, "B"]:
    """Return the mean of error squared over each sample's entries."""
    return error.square().mean(dim=(1, 2))
