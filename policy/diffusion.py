"""Denoising diffusion over arrays [L, D]: noise schedule, the network's target and a deterministic DDIM sampler."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from policy.choices import unknown

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""network(x [B, L, D], k [B], condition [B, C]) -> [B, L, D]"""


def squared_cosine_betas(steps: int) -> Float[Tensor, "k"]:
    """beta_k = min(1 - f(k+1)/f(k), 0.999), f(k) = cos^2(pi/2 (k/steps + s)/(1 + s)), arXiv 2102.09672."""
    s = 0.008
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos((k / steps + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def linear_betas(steps: int) -> Float[Tensor, "k"]:
    """beta_k evenly spaced from 0.1/steps to 20/steps, at most 0.999. arXiv 2006.11239 section 4."""
    return torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64).clamp(max=0.999)


SCHEDULES: dict[str, Callable[[int], Tensor]] = {
    "squared_cosine": squared_cosine_betas,
    "linear": linear_betas,
}
PREDICTIONS = ("epsilon", "sample", "velocity")
SPACINGS = ("leading", "trailing")


@dataclass(frozen=True)
class Diffusion:
    """The process x_k = sqrt(abar_k) x_0 + sqrt(1 - abar_k) eps, k in 0..train_steps-1.

    `clip` bounds the entries of every estimate of x_0 while sampling; None leaves them free.
    L and D are the rows and columns of one sample: Tp and Da where it is an action chunk.
    """

    train_steps: int = 100
    inference_steps: int = 10
    schedule: str = "squared_cosine"
    prediction: str = "epsilon"
    spacing: str = "leading"
    clip: float | None = 1.0
    device: torch.device | str = "cpu"
    sqrt_abar: Float[Tensor, "k"] = field(init=False, repr=False, compare=False)
    sqrt_one_minus_abar: Float[Tensor, "k"] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.prediction not in PREDICTIONS:
            raise unknown("prediction", self.prediction, PREDICTIONS)
        if self.spacing not in SPACINGS:
            raise unknown("spacing", self.spacing, SPACINGS)
        if self.train_steps < 1:
            raise ValueError(f"train_steps={self.train_steps}: needs at least 1 diffusion step")
        if not 1 <= self.inference_steps <= self.train_steps:
            raise ValueError(f"inference_steps={self.inference_steps}: choose 1 to train_steps={self.train_steps}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip={self.clip}: give a positive bound, or None for none")
        abar = torch.cumprod(1 - SCHEDULES[self.schedule](self.train_steps), dim=0)
        object.__setattr__(self, "sqrt_abar", abar.sqrt().float().to(self.device))
        object.__setattr__(self, "sqrt_one_minus_abar", (1 - abar).sqrt().float().to(self.device))

    def draw_steps(self, count: int, generator: torch.Generator) -> Int[Tensor, "{count}"]:
        """Uniform diffusion steps, one a sample; the generator must be on this device."""
        return torch.randint(self.train_steps, (count,), generator=generator, device=self.device)

    def add_noise(
        self, x0: Float[Tensor, "B L D"], noise: Float[Tensor, "B L D"], k: Int[Tensor, "B"]
    ) -> Float[Tensor, "B L D"]:
        """x_k = sqrt(abar_k) x_0 + sqrt(1 - abar_k) eps."""
        return self._signal(k) * x0 + self._noise(k) * noise

    def target(
        self, x0: Float[Tensor, "B L D"], noise: Float[Tensor, "B L D"], k: Int[Tensor, "B"]
    ) -> Float[Tensor, "B L D"]:
        """The network's target: eps, x_0, or v = sqrt(abar) eps - sqrt(1 - abar) x_0 (arXiv 2202.00512)."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return x0
        return self._signal(k) * noise - self._noise(k) * x0

    def inference_timesteps(self) -> list[int]:
        """The steps that sampling visits, the noisiest first.

        "leading" ends at 0 and skips the last train steps, where x_0 = (x - sqrt(1 - abar) eps) / sqrt(abar)
        divides an error in eps by almost nothing: the better choice for "epsilon" with few steps.
        "trailing" starts at train_steps - 1, where training saw pure noise (arXiv 2305.08891).
        """
        if self.spacing == "leading":
            stride = self.train_steps // self.inference_steps
            return [i * stride for i in reversed(range(self.inference_steps))]
        ratio = self.train_steps / self.inference_steps
        return [round(self.train_steps - i * ratio) - 1 for i in range(self.inference_steps)]

    @torch.no_grad()
    def sample(
        self, network: Denoiser, noise: Float[Tensor, "B L D"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B L D"]:
        """x_0 from standard normal noise by deterministic DDIM. arXiv 2010.02502 eq. 12 with sigma = 0."""
        x = noise
        for k, now, later in zip(*self.sampling_steps(), strict=True):
            x = self.denoise(network, x, k, now, later, condition)
        return x

    def sampling_steps(self) -> tuple[Int[Tensor, "n 1"], Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
        """Every step that sampling visits with its sqrt(abar) and sqrt(1 - abar), and those of the step after it.

        After the last step comes x_0 itself: 1 and 0.
        """
        k = torch.tensor(self.inference_timesteps(), device=self.device)
        now = torch.stack([self.sqrt_abar[k], self.sqrt_one_minus_abar[k]], dim=1)
        return k[:, None], now, torch.cat([now[1:], now.new_tensor([[1.0, 0.0]])])

    def denoise(
        self,
        network: Denoiser,
        xk: Float[Tensor, "B L D"],
        k: Int[Tensor, "1"],
        now: Float[Tensor, "2"],
        later: Float[Tensor, "2"],
        condition: Float[Tensor, "B C"],
    ) -> Float[Tensor, "B L D"]:
        """One step of DDIM: from x_k to x at the step that `later` belongs to, by the x_0 and eps implied at x_k."""
        signal, noise = now
        output = network(xk, k.expand(xk.shape[0]), condition)
        if self.prediction == "epsilon":
            x0, eps = (xk - noise * output) / signal, output
        elif self.prediction == "sample":
            x0, eps = output, (xk - signal * output) / noise
        else:
            x0, eps = signal * xk - noise * output, signal * output + noise * xk
        if self.clip is not None:
            x0 = x0.clamp(-self.clip, self.clip)
        return later[0] * x0 + later[1] * eps

    def _signal(self, k: Int[Tensor, "B"]) -> Float[Tensor, "B 1 1"]:
        return self.sqrt_abar[k][:, None, None]

    def _noise(self, k: Int[Tensor, "B"]) -> Float[Tensor, "B 1 1"]:
        return self.sqrt_one_minus_abar[k][:, None, None]


def mean_square(error: Float[Tensor, "B L D"]) -> Float[Tensor, "B"]:
    """Mean over each sample's entries of error squared."""
    return error.square().mean(dim=(1, 2))
