"""The replay generator: a diffusion model of whole windows (observation history and action chunk) given the task.

It stands in for the demonstrations of earlier tasks and is itself trained continually: on the windows of the task
just learned and on its own samples of the tasks before (generative replay, arXiv 2602.02417).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policy.agent import Batch, WindowSource, join
from policy.diffusion import Diffusion, mean_square
from policy.loading import PolicySpec
from policy.networks import build_network
from policy.normalizer import Normalizer

MEASURED = 8192  # windows that a task's bounds are measured on
FINEST = 1e-3  # least range of an observation entry, as a share of its declared range


class WindowGenerator(nn.Module):
    """Denoiser of windows flattened to one row: normalised observations [To * Do], then actions [Tp * Da].

    Observations are normalised by the range that a task's own windows have, measured once, when the task has been
    learned. Declared bounds are the arm's reach, and an object that is never more than some centimetres away from its
    place would be generated with an error of the same size.
    """

    def __init__(
        self,
        *,
        network: str,
        network_options: dict,
        diffusion: Diffusion,
        normalizer: Normalizer,
        observation_steps: int,
        action_steps: int,
        action_size: int,
    ):
        super().__init__()
        self.diffusion, self._declared = diffusion, normalizer
        self.n_tasks, observation_size = normalizer.low.shape
        self.normalizer = Normalizer(self.n_tasks, observation_size)
        self.observation_shape = (observation_steps, observation_size)
        self.action_shape = (action_steps, action_size)
        self.size = observation_steps * observation_size + action_steps * action_size
        self.network = build_network(
            network, sample_steps=1, sample_size=self.size, condition_size=self.n_tasks, **network_options
        )

    def measure(self, task: int, windows: WindowSource, generator: torch.Generator) -> None:
        """Set the bounds of `task`, whose windows these are."""
        seen = windows.sample(MEASURED, generator).observations.flatten(0, 1)
        margin = 0.5 * FINEST * (self._declared.high[task] - self._declared.low[task])
        self.normalizer.set_task(task, seen.amin(0) - margin, seen.amax(0) + margin)

    def rows(self, batch: Batch) -> Float[Tensor, "B W"]:
        """Windows as the denoiser sees them, flattened and normalised."""
        observations = self.normalizer.normalize(batch.observations, batch.task)
        return torch.cat([observations.flatten(1), batch.actions.flatten(1)], dim=1)

    def condition(self, task: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        return nn.functional.one_hot(task, self.n_tasks).to(torch.float32)

    def loss(
        self,
        batch: Batch,
        noise: Float[Tensor, "B 1 W"],
        k: Int[Tensor, " B"],
        teacher: WindowGenerator | None = None,
        taught: int = 0,
    ) -> Float[Tensor, " B"]:
        """Denoising loss of every window; of the last `taught`, the squared distance to what `teacher` answers."""
        rows = self.rows(batch)[:, None]
        noisy, condition = self.diffusion.add_noise(rows, noise, k), self.condition(batch.task)
        target = self.diffusion.target(rows, noise, k)
        if teacher is not None and taught:
            with torch.no_grad():
                answers = teacher.network(noisy[-taught:], k[-taught:], condition[-taught:])
            target = torch.cat([target[:-taught], answers])
        return mean_square(self.network(noisy, k, condition) - target)

    @torch.no_grad()
    def generate(self, task: int, count: int, generator: torch.Generator, batch_size: int = 2048) -> Batch:
        """`count` windows of `task`, observations in their own units."""
        device = self.normalizer.low.device
        parts = []
        for start in range(0, count, batch_size):
            tasks = torch.full((min(batch_size, count - start),), task, device=device)
            noise = torch.randn((len(tasks), 1, self.size), generator=generator, device=device)
            rows = self.diffusion.sample(self.network, noise, self.condition(tasks))[:, 0]
            split = self.observation_shape[0] * self.observation_shape[1]
            observations = rows[:, :split].unflatten(1, self.observation_shape)
            observations = self.normalizer.unnormalize(observations, tasks)
            actions = rows[:, split:].unflatten(1, self.action_shape)
            parts.append(Batch(observations, actions, tasks))
        return join(parts)


def make_generator(settings: Mapping[str, Any], spec: PolicySpec, normalizer: Normalizer) -> WindowGenerator:
    """A fresh generator of the windows that the policy of `spec` sees; `settings`: its `network` and `diffusion`."""
    options = dict(settings["network"])
    device = normalizer.low.device
    return WindowGenerator(
        network=options.pop("name"),
        network_options=options,
        diffusion=Diffusion(**settings["diffusion"], device=device),
        normalizer=normalizer,
        observation_steps=spec.observation_steps,
        action_steps=spec.action_steps,
        action_size=spec.action_size,
    ).to(device)
