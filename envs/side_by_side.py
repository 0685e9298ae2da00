"""Two or more actors in one rollout, each with slots of its own, to compare them on equal seeds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from reconverge.envs.rollout import Actor


class SideBySide:
    """An `envs.rollout.Actor` that is `actors[0]` in the first `slots` slots, `actors[1]` in the
    next, and so on.

    Each plans as often, and from as many observations, as in a rollout of its own: chunks are
    stored here and executed one action at a time.
    """

    def __init__(self, actors: Sequence[Actor], slots: int):
        self.n_obs_steps = max(actor.n_obs_steps for actor in actors)
        self._actors, self._slots = actors, slots
        self._planned: dict[int, deque[np.ndarray]] = {}

    def begin(self, slot: int, seed: int) -> None:
        self._planned[slot] = deque()
        self._actors[slot // self._slots].begin(slot, seed)

    def act(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        for i, actor in enumerate(self._actors):
            rows = [
                r
                for r, slot in enumerate(slots)
                if slot // self._slots == i and not self._planned[slot]
            ]
            if rows:
                chunks = actor.act(
                    [slots[row] for row in rows], history[rows, -actor.n_obs_steps :]
                )
                for row, chunk in zip(rows, chunks, strict=True):
                    self._planned[slots[row]].extend(chunk)
        return np.stack([self._planned[slot].popleft() for slot in slots])[:, None]
