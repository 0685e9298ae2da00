"""The replay generator: a diffusion model of whole windows, given the task.

A window is an observation history and the action chunk after it. The generator stands in for the
demonstrations of earlier tasks and is itself trained continually: on the windows of the task just
learned and on its own samples of the tasks before (generative replay, Wang et al. 2026, arXiv
2602.02417).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.policy.model.batch import Batch, join
from reconverge.policy.model.diffusion import Diffusion, masked
from reconverge.policy.model.networks import NetworkOptions
from reconverge.policy.model.normalizer import Normalizer
from reconverge.policy.model.policy import PolicyOptions

MEASURED = 8192  # windows that a task's bounds are measured on
FINEST = 1e-3  # least range of an observation entry, as a share of its declared range


class WindowGenerator(nn.Module):
    """Denoiser of windows flattened to one row: normalised observations, then actions.

    W = To * Do + Tp * Da. Observations are normalised by the range that a task's own windows have,
    measured once, when the task has been learned. Declared bounds are the arm's reach, and an
    object that is never more than some centimetres away from its place would be generated with an
    error of the same size. Padding of observations is a constant that it learns; that of actions
    is masked, by `action_mask`, as in the policy.
    """

    mask: Tensor  # [K, W]

    def __init__(
        self,
        options: PolicyOptions,
        network: NetworkOptions,
        diffusion: Diffusion,
        normalizer: Normalizer,
        action_mask: Float[Tensor, "K Da"],
    ):
        super().__init__()
        self.diffusion, self._declared = diffusion, normalizer
        self.n_tasks, observation_size = normalizer.low.shape
        self.normalizer = Normalizer(self.n_tasks, observation_size)
        self.observation_shape = (options.n_obs_steps, observation_size)
        self.action_shape = (options.horizon, action_mask.shape[1])
        observed = torch.ones(len(action_mask), options.n_obs_steps * observation_size)
        mask = torch.cat([observed, action_mask.repeat(1, options.horizon)], dim=1)
        self.register_buffer("mask", mask, persistent=False)
        self.size = mask.shape[1]
        self.network = network.build(
            sample_steps=1, sample_size=self.size, condition_size=self.n_tasks
        )

    def measure(self, task: int, windows, generator: torch.Generator) -> None:
        """Set the bounds of `task` by the range of its windows."""
        seen = windows.sample(MEASURED, generator).observations.flatten(0, 1)
        margin = 0.5 * FINEST * (self._declared.high[task] - self._declared.low[task])
        self.normalizer.set_task(task, seen.amin(0) - margin, seen.amax(0) + margin)

    def clean(self, batch: Batch) -> Float[Tensor, "B 1 W"]:
        """Return x_0 of a batch: windows flattened and normalised."""
        observations = self.normalizer.normalize(batch.observations, batch.task)
        return torch.cat([observations.flatten(1), batch.actions.flatten(1)], dim=1)[:, None]

    def conditions(self, batch: Batch) -> Float[Tensor, "B K"]:
        """Return the task of every window, one-hot."""
        return self._one_hot(batch.task)

    def masks(self, batch: Batch) -> Float[Tensor, "B 1 W"]:
        """Return 1 for the entries that windows of the tasks have, 0 for padding of actions."""
        return self.mask[batch.task][:, None]

    def action_size_of(self, task: int) -> int:
        """Return the number of entries that an action of the task has."""
        return int(self.mask[task, -self.action_shape[1] :].sum())

    @torch.no_grad()
    def generate(
        self, task: int, count: int, generator: torch.Generator, batch_size: int = 2048
    ) -> Batch:
        """Sample `count` windows of `task`, observations in their own units."""
        device = self.normalizer.low.device
        parts = []
        for start in range(0, count, batch_size):
            tasks = torch.full((min(batch_size, count - start),), task, device=device)
            noise = torch.randn((len(tasks), 1, self.size), generator=generator, device=device)
            mask = self.mask[tasks][:, None]
            network = masked(self.network, mask)
            rows = self.diffusion.sample(network, mask * noise, self._one_hot(tasks))[:, 0]
            split = self.observation_shape[0] * self.observation_shape[1]
            observations = rows[:, :split].unflatten(1, self.observation_shape)
            observations = self.normalizer.unnormalize(observations, tasks)
            actions = rows[:, split:].unflatten(1, self.action_shape)
            parts.append(Batch(observations, actions, tasks))
        return join(parts)

    def _one_hot(self, task: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        return nn.functional.one_hot(task, self.n_tasks).to(torch.float32)
