"""Windows of all episodes, resident in memory: observation histories and their action chunks."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reconverge.datasets.uncompressed import Frames, moved
from reconverge.errors import ReconvergeError


@dataclass(frozen=True)
class Windows:
    """Hold a window for each step t: observations t-To+1..t, actions t..t+Tp-1 of its episode.

    Beyond the episode its first or last frame repeats, as in diffusion_policy's sampler. `first`
    and `last` are the steps that begin and end the episode of each step.

    With `frames` an observation ends with pixels, 0 to 255: those of the store's step that `shown`
    names, moved at random by up to `crop` pixels in `sample`.
    """

    observations: Float[Tensor, "T Do"]
    actions: Float[Tensor, "T Da"]
    first: Int[Tensor, " T"]
    last: Int[Tensor, " T"]
    n_obs_steps: int
    horizon: int
    shown: Int[Tensor, " T"]
    frames: Frames | None = None
    crop: int = 0

    @classmethod
    def from_episodes(
        cls,
        observations: Float[np.ndarray, "T Do"],
        actions: Float[np.ndarray, "T Da"],
        episode_ends: Int[np.ndarray, " E"],
        n_obs_steps: int,
        horizon: int,
        device: torch.device | str = "cpu",
        frames: Frames | None = None,
        crop: int = 0,
    ) -> "Windows":
        """Copy episodes laid end to end to the device; episode i ends before episode_ends[i].

        Raises ReconvergeError without episodes and for steps below 1, ValueError for lengths that
        disagree.
        """
        ends = np.asarray(episode_ends, dtype=np.int64)
        _check(tuple(observations.shape), tuple(actions.shape), ends, n_obs_steps, horizon)
        lengths = np.diff(ends, prepend=0)
        return cls(
            observations=torch.tensor(observations, dtype=torch.float32, device=device),
            actions=torch.tensor(actions, dtype=torch.float32, device=device),
            first=torch.tensor(np.repeat(ends - lengths, lengths), device=device),
            last=torch.tensor(np.repeat(ends - 1, lengths), device=device),
            n_obs_steps=n_obs_steps,
            horizon=horizon,
            shown=torch.arange(len(observations), device=device),
            frames=frames,
            crop=crop,
        )

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def lengths(self) -> Int[Tensor, " E"]:
        """Return the steps of every episode."""
        return self.first.unique_consecutive(return_counts=True)[1]

    def select(self, episodes: Int[Tensor, " n"]) -> "Windows":
        """Copy the windows of these episodes, by their numbers, in this order."""
        lengths = self.lengths
        starts, counts = (lengths.cumsum(0) - lengths)[episodes], lengths[episodes]
        ends = counts.cumsum(0)
        first = (ends - counts).repeat_interleave(counts)
        steps = torch.arange(len(first), device=first.device)
        rows = steps - first + starts.repeat_interleave(counts)
        last = (ends - 1).repeat_interleave(counts)
        return replace(
            self,
            observations=self.observations[rows],
            actions=self.actions[rows],
            first=first,
            last=last,
            shown=self.shown[rows],
        )

    def gather(
        self, indices: Int[Tensor, " B"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B To Do"], Float[Tensor, "B Tp Da"]]:
        """Return the windows of these steps, each in 0..len-1, in their order.

        A generator moves their pictures.
        """
        steps = indices.to(self.observations.device)[:, None]
        history = torch.arange(1 - self.n_obs_steps, 1, device=steps.device)
        chunk = torch.arange(self.horizon, device=steps.device)
        observed = torch.maximum(steps + history, self.first[steps])
        acted = torch.minimum(steps + chunk, self.last[steps])
        seen = self.observations[observed]
        if self.frames is not None:
            pictures = self.frames.gather(self.shown[observed])
            if generator is not None and self.crop:
                pictures = moved(pictures, self.crop, generator)
            seen = torch.cat([seen, pictures.flatten(2).float()], dim=2)
        return seen, self.actions[acted]

    def sample(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B To Do"], Float[Tensor, "B Tp Da"]]:
        """Draw windows uniformly with replacement, on the generator's device."""
        steps = torch.randint(
            len(self), (batch_size,), generator=generator, device=generator.device
        )
        return self.gather(steps, generator)


def _check(
    observations: tuple[int, ...],
    actions: tuple[int, ...],
    ends: np.ndarray,
    n_obs_steps: int,
    horizon: int,
) -> None:
    if len(observations) != 2 or len(actions) != 2 or observations[0] != actions[0]:
        raise ValueError(
            f"observations {observations}, actions {actions}: need [T, Do] and [T, Da] of one T"
        )
    if ends.ndim != 1 or len(ends) == 0 or (np.diff(ends, prepend=0) <= 0).any():
        raise ReconvergeError(
            f"episode_ends {ends}: need at least one, growing from above 0; collect episodes first"
        )
    if ends[-1] != observations[0]:
        raise ValueError(
            f"episode_ends ends at {ends[-1]}, there are {observations[0]} steps; give all of both"
        )
    if min(n_obs_steps, horizon) < 1:
        raise ReconvergeError(
            f"n_obs_steps={n_obs_steps}, horizon={horizon}: both must be at least 1"
        )
