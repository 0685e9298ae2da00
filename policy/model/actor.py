"""Let a policy act in rollouts: many episodes in one batch, each with its own noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reconverge.policy.model.batch import Batch, widened
from reconverge.policy.model.policy import DiffusionPolicy

ROWS = 16
"""A batch of a multiple of so many rows gives each row the same result bit for bit (MLP, CPU)."""


class PolicyActor:
    """Act on one task in a rollout (`envs.rollout.Actor`).

    The noise of an episode depends on its seed alone. Batches are filled up to a multiple of
    `rows`: matrix products round the last few rows differently, and an episode must not depend on
    the number of others beside it. Convolutions (unet1d, encoders that learn) still round by batch
    size; where an encoder learns nothing is filled up. One row is faster where a single episode
    runs. Da is the task's own, where the policy's is larger.

    With `recording`, `windows` holds the observations and plans of every episode, by seed, padded.
    """

    def __init__(
        self, policy: DiffusionPolicy, task: int, recording: bool = False, rows: int = ROWS
    ):
        self.policy = policy
        self.rows = 1 if policy.pixels else rows
        self.task = task
        self.n_obs_steps = policy.n_obs_steps
        self.action_size = policy.action_size_of(task)
        self.windows: dict[int, list[Batch]] = {}
        self._recording = recording
        self._device = policy.normalizer.low.device
        self._rng: dict[int, np.random.Generator] = {}
        self._seed: dict[int, int] = {}

    def begin(self, slot: int, seed: int) -> None:
        """Start the episode of `seed` in a slot."""
        self._rng[slot] = np.random.default_rng([seed, 1])
        self._seed[slot] = seed

    def act(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        """Return action chunks [B, Ta, Da] for the histories [B, To, Do] of these slots."""
        return self.plan(slots, history)[:, : self.policy.n_action_steps]

    def plan(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        """Return whole plans [B, Tp, Da]; `act` is their first Ta steps."""
        count, filled = len(slots), -len(slots) % self.rows
        noise = np.zeros((count + filled, self.policy.horizon, self.policy.action_size), np.float32)
        for row, slot in enumerate(slots):
            noise[row] = self._rng[slot].standard_normal(noise.shape[1:], dtype=np.float32)
        wide = widened(history, self.policy.normalizer.low.shape[1], self.policy.pixels)
        padded = np.pad(wide, [(0, filled), (0, 0), (0, 0)])
        seen, start = (
            torch.from_numpy(padded).to(self._device),
            torch.from_numpy(noise).to(self._device),
        )
        task = torch.full((len(seen),), self.task, device=self._device)
        plans = self.policy.plan(seen, task, start)[:count]
        if self._recording:
            for i, slot in enumerate(slots):
                window = Batch(seen[i : i + 1], plans[i : i + 1], task[i : i + 1])
                self.windows.setdefault(self._seed[slot], []).append(window)
        return plans[:, :, : self.action_size].cpu().numpy()
