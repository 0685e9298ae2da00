"""Run anything that maps observations to action chunks, in many episodes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Protocol, SupportsIndex

import numpy as np

from reconverge.envs.vector import VectorEnv


class Actor(Protocol):
    """A diffusion policy, an expert, or anything else that acts in a rollout."""

    n_obs_steps: int  # To

    def begin(self, slot: int, seed: int) -> None:
        """Start an episode in `slot`; all randomness of the actor is drawn from `seed`."""

    def act(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        """Return action chunks [n, Ta, Da] for observation histories [n, To, Do], oldest first."""


@dataclass(frozen=True)
class Rollout:
    """The end of one episode."""

    seed: int
    slot: int
    success: bool
    steps: int
    diverged: bool


@dataclass
class _Running:
    seed: int
    history: np.ndarray  # [To, Do]
    steps: int = 0


@dataclass
class _Batch:
    env: VectorEnv
    actor: Actor
    max_steps: int
    running: dict[int, _Running] = field(default_factory=dict)

    def start(self, slots: Sequence[int], seeds: Sequence[int]) -> None:
        if not slots:
            return
        for slot, seed, first in zip(slots, seeds, self.env.reset(slots, seeds), strict=True):
            self.actor.begin(slot, seed)
            self.running[slot] = _Running(
                seed, np.repeat(first[None], self.actor.n_obs_steps, axis=0)
            )

    def advance(self) -> Iterator[Rollout]:
        """Plan once for every running episode, execute the chunks, and yield the ended episodes."""
        slots = sorted(self.running)
        chunks = self.actor.act(slots, np.stack([self.running[slot].history for slot in slots]))
        length = chunks.shape[1]
        stride = self.env.stride or length
        for start in range(0, length, stride):
            rows = [row for row, slot in enumerate(slots) if slot in self.running]
            if rows:
                piece = chunks[rows, start : start + stride]
                yield from self._execute([slots[row] for row in rows], piece)

    def _execute(self, slots: Sequence[int], chunks: np.ndarray) -> Iterator[Rollout]:
        """Execute chunks [n, Ta, Da]; yield the ended episodes, those of fewer steps first."""
        episodes = [self.running[slot] for slot in slots]
        done = self.env.advance(slots, chunks, [self.max_steps - each.steps for each in episodes])
        for row in np.argsort(done.steps, kind="stable"):
            slot, episode, taken = slots[row], episodes[row], int(done.steps[row])
            episode.steps += taken
            past = np.concatenate([episode.history, done.observations[row, :taken]])
            episode.history = past[-self.actor.n_obs_steps :]
            success, diverged = bool(done.success[row]), bool(done.diverged[row])
            if success or diverged or episode.steps >= self.max_steps:
                del self.running[slot]
                yield Rollout(episode.seed, slot, success, episode.steps, diverged)


def rollout(
    env: VectorEnv,
    actor: Actor,
    seeds: Iterable[SupportsIndex],
    on_end: Callable[[Rollout], object] | None = None,
) -> list[Rollout]:
    """Run one episode for each seed, in the order of `seeds`; a finished episode's slot takes the
    next seed.

    An episode ends at success, divergence or the task's `max_steps`. `on_end` is called as each one
    ends, before its slot is used again.
    """
    batch = _Batch(env, actor, env.task.max_steps)
    chosen = [index(seed) for seed in seeds]
    waiting = chosen[::-1]
    first = [waiting.pop() for _ in range(min(len(env), len(waiting)))]
    batch.start(range(len(first)), first)
    ended: dict[int, Rollout] = {}
    while batch.running:
        free = []
        for result in batch.advance():
            ended[result.seed] = result
            free.append(result.slot)
            if on_end is not None:
                on_end(result)
        replacing = free[: len(waiting)]
        batch.start(replacing, [waiting.pop() for _ in replacing])
    return [ended[seed] for seed in chosen]
