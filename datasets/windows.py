"""Windows of all episodes, resident in memory: an observation history and the action chunk that follows."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """One window for each step t: observations t-To+1..t and actions t..t+Tp-1 of the step's episode.

    Beyond the episode its first or last frame repeats, as in diffusion_policy's sampler. `first` and `last`
    are the steps that begin and end the episode of each step.
    """

    observations: Float[Tensor, "T Do"]
    actions: Float[Tensor, "T Da"]
    first: Int[Tensor, " T"]
    last: Int[Tensor, " T"]
    observation_steps: int
    action_steps: int

    @classmethod
    def from_episodes(
        cls,
        observations: Float[np.ndarray, "T Do"],
        actions: Float[np.ndarray, "T Da"],
        episode_ends: Int[np.ndarray, " E"],
        observation_steps: int,
        action_steps: int,
        device: torch.device | str = "cpu",
    ) -> "Windows":
        """Copy episodes laid end to end to the device; episode_ends[i] is one past episode i's last step.

        Raises ValueError for lengths that disagree and for steps below 1.
        """
        ends = np.asarray(episode_ends, dtype=np.int64)
        _check(tuple(observations.shape), tuple(actions.shape), ends, observation_steps, action_steps)
        lengths = np.diff(ends, prepend=0)
        return cls(
            observations=torch.tensor(observations, dtype=torch.float32, device=device),
            actions=torch.tensor(actions, dtype=torch.float32, device=device),
            first=torch.tensor(np.repeat(ends - lengths, lengths), device=device),
            last=torch.tensor(np.repeat(ends - 1, lengths), device=device),
            observation_steps=observation_steps,
            action_steps=action_steps,
        )

    def __len__(self) -> int:
        return len(self.observations)

    def gather(self, indices: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B To Do"], Float[Tensor, "B Tp Da"]]:
        """The windows of these steps, each in 0..len-1, in the order asked for."""
        steps = indices.to(self.observations.device)[:, None]
        history = torch.arange(1 - self.observation_steps, 1, device=steps.device)
        chunk = torch.arange(self.action_steps, device=steps.device)
        observed = torch.maximum(steps + history, self.first[steps])
        acted = torch.minimum(steps + chunk, self.last[steps])
        return self.observations[observed], self.actions[acted]

    def sample(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B To Do"], Float[Tensor, "B Tp Da"]]:
        """Windows drawn uniformly with replacement; indices are drawn on the generator's device."""
        return self.gather(torch.randint(len(self), (batch_size,), generator=generator, device=generator.device))


def _check(
    observations: tuple[int, ...],
    actions: tuple[int, ...],
    ends: np.ndarray,
    observation_steps: int,
    action_steps: int,
) -> None:
    if len(observations) != 2 or len(actions) != 2 or observations[0] != actions[0]:
        raise ValueError(f"observations {observations}, actions {actions}: need [T, Do] and [T, Da] of one T")
    if ends.ndim != 1 or len(ends) == 0 or (np.diff(ends, prepend=0) <= 0).any():
        raise ValueError(f"episode_ends {ends}: need at least one, growing from above 0; collect episodes first")
    if ends[-1] != observations[0]:
        raise ValueError(f"episode_ends ends at {ends[-1]}, there are {observations[0]} steps; give all of both")
    if min(observation_steps, action_steps) < 1:
        raise ValueError(
            f"observation_steps={observation_steps}, action_steps={action_steps}: both must be at least 1"
        )
