"""What the continual core needs of a model and of data, and the loss that it minimises.

Nothing here knows what a sample is: a denoiser says how a batch becomes x_0 and a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.policy.model.batch import join
from reconverge.policy.model.diffusion import Diffusion, mean_square

Batch = Any
"""A dataclass of tensors [B, ...] with `len` and `sample(size, generator)`"""

PerSampleLoss = Callable[[dict[str, Tensor], tuple[Tensor, ...]], Tensor]
"""loss(params, tensors [B, ...]) -> [B], differentiable in params, the same at every call"""


class Source(Protocol):
    """Samples of one task, or of several, to draw batches from."""

    def sample(self, size: int, generator: torch.Generator) -> Batch: ...


@dataclass(frozen=True)
class Mixture:
    """Samples of several sources, each as likely."""

    sources: Sequence[Source]

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        n, device = len(self.sources), generator.device
        chosen = torch.randint(n, (size,), generator=generator, device=device)
        drawn = zip(self.sources, chosen.bincount(minlength=n).tolist(), strict=True)
        return join([source.sample(count, generator) for source, count in drawn if count])


def mixture(parts: Sequence[Source]) -> Source:
    """Return batches, which have a length, as one batch, and other sources as their mixture."""
    return join(parts) if all(isinstance(part, Sized) for part in parts) else Mixture(parts)


class Denoiser(Protocol):
    """A diffusion model of samples [L, D]; also an `nn.Module`."""

    network: nn.Module
    diffusion: Diffusion

    def clean(self, batch: Batch) -> Tensor: ...  # x_0 [B, L, D]
    def conditions(self, batch: Batch) -> Tensor: ...  # [B, C]
    def masks(self, batch: Batch) -> Tensor: ...  # [B, 1, D], 1 for an entry, 0 for padding


@dataclass(frozen=True)
class NoisySample:
    """A batch as the network sees it, and its targets; the last `taught` samples are replayed.

    Their targets are a teacher's answers, but for methods that replay without one. Padding, where
    `mask` is 0, is zero in `noisy` and counts in no loss, whatever its target.
    """

    noisy: Float[Tensor, "B L D"]
    k: Int[Tensor, " B"]
    condition: Float[Tensor, "B C"]
    mask: Float[Tensor, "B 1 D"]
    target: Float[Tensor, "B L D"]
    taught: int = 0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.noisy, self.k, self.condition, self.mask, self.target

    def split(self) -> tuple[NoisySample, NoisySample]:
        """Return the samples of the current task, and the replayed ones."""
        current = len(self.k) - self.taught
        return self._of(slice(current), 0), self._of(slice(current, None), self.taught)

    def half(self, start: int) -> NoisySample:
        """Take every second sample from `start` on, of the untaught and of the taught ones."""
        rows = torch.arange(len(self.k), device=self.k.device)
        current = len(rows) - self.taught
        index = torch.cat([rows[start:current:2], rows[current + start :: 2]])
        taught = len(index) - len(range(start, current, 2))
        return self._of(index, taught)

    def _of(self, rows: slice | Tensor, taught: int) -> NoisySample:
        noisy, k, condition, mask, target = (part[rows] for part in self.tensors)
        return NoisySample(noisy, k, condition, mask, target, taught)


class Purpose(IntEnum):
    """What a random stream is for: the part of its key after seed and task; own ones from 100."""

    BATCH = 0  # replayed samples, diffusion steps and noise of an update
    REPLAY = 1  # samples of earlier tasks drawn as a task begins
    FISHER = 2
    GENERATOR = 3  # training of the generator
    DATA = 4  # samples of the current task, drawn by the loop
    ALL_TASKS = 5  # samples of all tasks, for references
    METRIC = 6  # Fisher of the mixture of replayed samples, of centre=replayed
    MEMORY = 7  # which demonstrations of a task are kept
    SEGMENT = 8  # which samples are kept of a task that nobody announced


def random_stream(device: torch.device, *key: int) -> torch.Generator:
    """Make a generator whose numbers depend on the key alone; zeros at its end do not count."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) % 2**63)


@torch.no_grad()
def corrupt(denoiser: Denoiser, batch: Batch, stream: torch.Generator) -> NoisySample:
    """Add noise to a batch, none to its padding, at diffusion steps drawn uniformly."""
    x0, mask = denoiser.clean(batch), denoiser.masks(batch)
    k = denoiser.diffusion.draw_steps(len(batch), stream)
    noise = mask * torch.randn(x0.shape, generator=stream, device=x0.device)
    noisy, target = (
        denoiser.diffusion.add_noise(x0, noise, k),
        denoiser.diffusion.target(x0, noise, k),
    )
    return NoisySample(noisy, k, denoiser.conditions(batch), mask, target)


@torch.no_grad()
def taught_by(teacher: Denoiser, sample: NoisySample, taught: int) -> NoisySample:
    """Replace the targets of the last `taught` samples by the teacher's answers.

    Generative distillation: Masip et al. 2025, arXiv 2311.14028.
    """
    if not taught:
        return sample
    answers = teacher.network(
        sample.noisy[-taught:], sample.k[-taught:], sample.condition[-taught:]
    )
    return replace(sample, target=torch.cat([sample.target[:-taught], answers]), taught=taught)


@torch.no_grad()
def imagined(denoiser: Denoiser, sample: NoisySample, stream: torch.Generator) -> NoisySample:
    """Replace the targets by what the model itself holds likely: its answers plus unit noise.

    With these E[g g^T] is the Fisher proper, and the Gauss-Newton matrix; with those of the data
    it is the empirical Fisher, which vanishes with the residuals (Kunstner et al. 2019, arXiv
    1905.12558).
    """
    output = denoiser.network(sample.noisy, sample.k, sample.condition)
    noise = torch.randn(output.shape, generator=stream, device=output.device)
    return replace(sample, target=output + noise)


def errors(denoiser: Denoiser, sample: NoisySample) -> Float[Tensor, " B"]:
    """Return the mean squared error of the network on every sample, over its own entries.

    ReconvergeError for answers of another shape, which would be stretched to that of the targets.
    """
    answer, wanted = denoiser.network(sample.noisy, sample.k, sample.condition), sample.target
    if answer.shape != wanted.shape:
        raise ReconvergeError(
            f"{type(denoiser.network).__name__} answers {list(answer.shape)}, wanted "
            f"{list(wanted.shape)}, the shape of the noisy samples: correct its forward"
        )
    return mean_square(sample.mask * (answer - wanted)) / sample.mask.mean(dim=(1, 2))


def half_squared_errors(denoiser: Denoiser) -> PerSampleLoss:
    """Return the loss that the Fisher is taken of: half the summed squared error of a sample."""

    def loss(parameters: dict[str, Tensor], tensors: tuple[Tensor, ...]) -> Tensor:
        *inputs, mask, target = tensors
        output = torch.func.functional_call(denoiser.network, parameters, tuple(inputs))
        return 0.5 * output[0].numel() * mean_square(mask * (output - target))

    loss.network = denoiser.network  # type: ignore[attr-defined]  # whose layers K-FAC looks into
    return loss
