"""The diffusion policy: from an observation history to a chunk of actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.errors import ReconvergeError
from reconverge.options import check_options, option
from reconverge.policy.model.batch import Batch
from reconverge.policy.model.diffusion import Diffusion, masked
from reconverge.policy.model.encoders.resnet import Eye, Seeing
from reconverge.policy.model.networks import NetworkOptions
from reconverge.policy.model.normalizer import Normalizer

TASK_CONDITIONING = ("embedding", "none")


@dataclass(frozen=True)
class PolicyOptions:
    """How a policy sees and acts: histories in, action chunks out, in receding horizon."""

    n_obs_steps: int = option(
        2, "To, newest observations that the policy sees", at_least=1, at_most=1000
    )
    horizon: int = option(
        4, "Tp, actions predicted at once, from the current step on", at_least=1, at_most=1000
    )
    n_action_steps: int = option(
        2, "Ta, predicted actions that are executed before the next prediction", at_least=1
    )
    fourier_octaves: int = option(
        3,
        "frequencies of the Fourier features of each observation entry (0: none)",
        at_least=0,
        at_most=24,
    )
    task_conditioning: str = option(
        "embedding",
        "embedding: the policy is told the task | none: only the task's declared bounds normalise "
        "what it sees",
        choices=TASK_CONDITIONING,
    )

    @classmethod
    def of(cls, source: Any) -> PolicyOptions:
        """Return those that are attributes of a run's options, or of a policy's spec."""
        return cls(**{own.name: getattr(source, own.name) for own in fields(cls)})


class DiffusionPolicy(nn.Module):
    """A denoiser of action chunks, conditioned on the observation history and on the task.

    The task enters as a one-hot vector: the first layer's columns for it are its embedding. With
    task_conditioning=none the observation alone must tell (normalisation still uses the bounds
    that the task's own row declares).

    With `eyes`, one a camera, the policy learns to see: an observation ends with the pixels of
    pictures of `picture_size`, 0 to 255, and the network looks at them.

    Row k of `action_mask` is 1 for the entries that an action of task k has, and 0 for those after
    them, where noise, answers and plans are zero.
    """

    action_mask: Tensor

    def __init__(
        self,
        options: PolicyOptions,
        network: NetworkOptions,
        diffusion: Diffusion,
        normalizer: Normalizer,
        action_mask: Float[Tensor, "K Da"],
        eyes: Sequence[Eye] = (),
        picture_size: int = 0,
    ):
        super().__init__()
        check_options(options)
        if options.n_action_steps > options.horizon:
            raise ReconvergeError(
                f"n_action_steps={options.n_action_steps}: must be 1 to horizon={options.horizon}"
            )
        self.options = options
        self.n_obs_steps, self.horizon = options.n_obs_steps, options.horizon
        self.n_action_steps, self.action_size = options.n_action_steps, action_mask.shape[1]
        self.diffusion = diffusion
        self.normalizer = normalizer
        self.register_buffer("action_mask", action_mask, persistent=False)
        n_tasks, observation_size = normalizer.low.shape
        self.n_tasks = n_tasks if options.task_conditioning == "embedding" else 0
        self.pixels = len(eyes) * 3 * picture_size**2
        told = (observation_size - self.pixels) * (1 + 2 * options.fourier_octaves)
        seen = sum(eye.size for eye in eyes)
        self.network = network.build(
            sample_steps=options.horizon,
            sample_size=self.action_size,
            condition_size=options.n_obs_steps * (told + seen) + self.n_tasks,
        )
        if eyes:
            shape = (options.n_obs_steps, picture_size, picture_size)
            self.network = Seeing(eyes, self.network, shape)

    def clean(self, batch: Batch) -> Float[Tensor, "B Tp Da"]:
        """Return x_0 of a batch: its action chunks."""
        return batch.actions

    def conditions(self, batch: Batch) -> Float[Tensor, "B C"]:
        """Return `condition` of a batch."""
        return self.condition(batch.observations, batch.task)

    def condition(
        self, observations: Float[Tensor, "B To Do"], task: Int[Tensor, " B"]
    ) -> Float[Tensor, "B C"]:
        """Return the normalised history, flattened, its Fourier features, the task, and pixels.

        A network learns low frequencies first; sin and cos of 2^i pi times every entry let it tell
        millimetres within bounds of a metre (Tancik et al. 2020, arXiv 2006.10739).
        """
        normalised = self.normalizer.normalize(observations, task)
        told = normalised.shape[2] - self.pixels
        history = normalised[:, :, :told].flatten(1)
        angles = [history * (math.pi * 2**octave) for octave in range(self.options.fourier_octaves)]
        parts = [history, *(wave(a) for a in angles for wave in (torch.sin, torch.cos))]
        if self.n_tasks:
            parts.append(nn.functional.one_hot(task, self.n_tasks).to(history.dtype))
        if self.pixels:
            parts.append(normalised[:, :, told:].flatten(1))
        return torch.cat(parts, dim=1)

    def informed(
        self, observations: Float[Tensor, "B To Do"], task: Int[Tensor, " B"]
    ) -> tuple[nn.Module, Float[Tensor, "B C"]]:
        """Return a network to sample with and its condition: pictures are looked at once, and not
        at every diffusion step.
        """
        condition = self.condition(observations, task)
        if isinstance(self.network, Seeing):
            return self.network.denoiser, self.network.look(condition)
        return self.network, condition

    def masks(self, batch: Batch) -> Float[Tensor, "B 1 Da"]:
        """Return `mask` of a batch."""
        return self.mask(batch.task)

    def mask(self, task: Int[Tensor, " B"]) -> Float[Tensor, "B 1 Da"]:
        """Return 1 for the entries that actions of the tasks have, 0 for padding."""
        return self.action_mask[task][:, None]

    @property
    def tells_tasks_apart(self) -> bool:
        """Whether the policy is told its task, be it by bounds or sizes alone."""
        known, bounds = self.normalizer.is_set, (self.normalizer.low, self.normalizer.high)
        rows = (*(bound[known] for bound in bounds), self.action_mask)
        return self.n_tasks > 0 or any(not (row == row[0]).all() for row in rows)

    def action_size_of(self, task: int) -> int:
        """Return the number of entries that an action of the task has."""
        return int(self.action_mask[task].sum())

    @torch.no_grad()
    def plan(
        self,
        observations: Float[Tensor, "B To Do"],
        task: Int[Tensor, " B"],
        noise: Float[Tensor, "B Tp Da"],
    ) -> Float[Tensor, "B Tp Da"]:
        """Return action chunks in [-1, 1], sampled from `noise`, zero where a task has no entry.

        The first `n_action_steps` of a chunk are executed.
        """
        mask = self.mask(task)
        network, condition = self.informed(observations, task)
        return self.diffusion.sample(masked(network, mask), mask * noise, condition).clamp(-1, 1)
