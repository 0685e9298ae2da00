"""The diffusion policy: from an observation history to a chunk of actions, executed in receding horizon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from policy.diffusion import Diffusion
from policy.networks import build_network
from policy.normalizer import Normalizer

TASK_CONDITIONING = ("embedding", "none")
ROWS = 16  # batches of a multiple of this many rows give each row the same result bit for bit (MLP, on a CPU)


@dataclass(frozen=True)
class Batch:
    """Windows of one or several tasks. Observations are padded with zeros to the largest Do of the sequence."""

    observations: Float[Tensor, "B To Do"]
    actions: Float[Tensor, "B Tp Da"]
    task: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.task)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """`size` windows drawn with replacement."""
        index = torch.randint(len(self), (size,), generator=generator, device=self.task.device)
        return Batch(self.observations[index], self.actions[index], self.task[index])


class WindowSource(Protocol):
    """Windows to draw batches from."""

    def sample(self, size: int, generator: torch.Generator) -> Batch: ...


def join(parts: Sequence[Batch]) -> Batch:
    """The windows of all parts, in order."""
    return Batch(
        torch.cat([part.observations for part in parts]),
        torch.cat([part.actions for part in parts]),
        torch.cat([part.task for part in parts]),
    )


class DiffusionPolicy(nn.Module):
    """A denoiser of action chunks conditioned on the observation history and, if `task_conditioning`, on the task.

    The task enters as a one-hot vector: the first layer's columns for it are its embedding. With "none" the
    observation alone must tell (normalisation still uses the bounds that the task's own row declares).
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
        executed_steps: int,
        action_size: int,
        task_conditioning: str = "embedding",
        fourier_octaves: int = 3,
    ):
        super().__init__()
        if fourier_octaves < 0:
            raise ValueError(f"fourier_octaves={fourier_octaves}: must be at least 0")
        self.fourier_octaves = fourier_octaves
        if task_conditioning not in TASK_CONDITIONING:
            raise ValueError(
                f"unknown task_conditioning {task_conditioning!r}; choose from {', '.join(TASK_CONDITIONING)}"
            )
        if not 1 <= executed_steps <= action_steps:
            raise ValueError(f"executed_steps must be in 1..{action_steps} (action_steps), got {executed_steps}")
        self.diffusion = diffusion
        self.normalizer = normalizer
        self.observation_steps, self.action_steps = observation_steps, action_steps
        self.executed_steps, self.action_size = executed_steps, action_size
        n_tasks, observation_size = normalizer.low.shape
        self.n_tasks = n_tasks if task_conditioning == "embedding" else 0
        self.network = build_network(
            network,
            sample_steps=action_steps,
            sample_size=action_size,
            condition_size=observation_steps * observation_size * (1 + 2 * fourier_octaves) + self.n_tasks,
            **network_options,
        )

    def condition(self, observations: Float[Tensor, "B To Do"], task: Int[Tensor, " B"]) -> Float[Tensor, "B C"]:
        """What the denoiser is conditioned on: the normalised history, flattened, its Fourier features, and the task.

        A network learns low frequencies first; sin and cos of 2^i pi times every entry let it tell millimetres within
        bounds of a metre (arXiv 2006.10739).
        """
        history = self.normalizer.normalize(observations, task).flatten(1)
        angles = [history * (math.pi * 2**octave) for octave in range(self.fourier_octaves)]
        history = torch.cat([history, *(wave(a) for a in angles for wave in (torch.sin, torch.cos))], dim=1)
        if not self.n_tasks:
            return history
        return torch.cat([history, nn.functional.one_hot(task, self.n_tasks).to(history.dtype)], dim=1)

    @torch.no_grad()
    def plan(
        self,
        observations: Float[Tensor, "B To Do"],
        task: Int[Tensor, " B"],
        noise: Float[Tensor, "B Tp Da"],
    ) -> Float[Tensor, "B Tp Da"]:
        """Action chunks in [-1, 1] from the sampler started at `noise`; the first `executed_steps` are executed."""
        return self.diffusion.sample(self.network, noise, self.condition(observations, task)).clamp(-1.0, 1.0)


class PolicyActor:
    """Runs a policy on one task in a rollout (`envs.rollout.Actor`); an episode's noise depends on its seed alone.

    Batches are filled up to a multiple of `rows`: matrix products round a few last rows differently, and an episode
    must not depend on how many others run beside it. Convolutions (unet1d) round by batch size all the same.
    Who always asks for one action gets it sooner with one row.

    With `recording`, the windows of every episode are kept in `windows`, by seed: what the policy saw and what it
    planned then.
    """

    def __init__(self, policy: DiffusionPolicy, task: int, recording: bool = False, rows: int = ROWS):
        self.policy = policy
        self.rows = rows
        self.task = task
        self.observation_steps = policy.observation_steps
        self.windows: dict[int, list[Batch]] = {}
        self._recording = recording
        self._device = policy.normalizer.low.device
        self._rng: dict[int, np.random.Generator] = {}
        self._seed: dict[int, int] = {}

    def begin(self, slot: int, seed: int) -> None:
        self._rng[slot] = np.random.default_rng([seed, 1])
        self._seed[slot] = seed

    def act(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        count, filled = len(slots), -len(slots) % self.rows
        noise = np.zeros((count + filled, self.policy.action_steps, self.policy.action_size), np.float32)
        for row, slot in enumerate(slots):
            noise[row] = self._rng[slot].standard_normal(noise.shape[1:], dtype=np.float32)
        padding = self.policy.normalizer.low.shape[1] - history.shape[2]
        padded = np.pad(history, [(0, filled), (0, 0), (0, padding)])
        seen, start = torch.from_numpy(padded).to(self._device), torch.from_numpy(noise).to(self._device)
        task = torch.full((len(seen),), self.task, device=self._device)
        plans = self.policy.plan(seen, task, start)[:count]
        if self._recording:
            for i, slot in enumerate(slots):
                window = Batch(seen[i : i + 1], plans[i : i + 1], task[i : i + 1])
                self.windows.setdefault(self._seed[slot], []).append(window)
        return plans[:, : self.policy.executed_steps].cpu().numpy()
