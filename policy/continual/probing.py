"""When which tasks are probed while one is learned."""

from __future__ import annotations

from dataclasses import dataclass

SERIES = tuple(digit * 10**power for power in range(1, 9) for digit in (1, 2, 5))
DENSE = (2, 4, 6, 8, 10, 15, 20, 30, 50, *SERIES[3:])
"""Update counts at which recovery is probed: dense early, then 100, 200, 500, 1000, ..."""
COARSE = SERIES[::2]
"""A few of them, for many tasks: 10, 50, 200, 1000, 5000, ..."""


@dataclass(frozen=True)
class Probing:
    """Which tasks are probed, and how finely."""

    rollouts: int = 0  # the first of the evaluation's episodes; 0: no probes
    tasks: int | None = None  # the first tasks of the sequence that are probed; None: all
    dense: int | None = None  # the first of these, at DENSE, the others at COARSE; None: all
    current: int = 0  # probes of the task being learned, evenly spaced to its last update

    def due(self, learning: int, update: int, updates: int) -> list[int]:
        """Return the tasks to probe after `update` of the `updates` on task `learning`.

        Every task that is probed at all is so at the last update.
        """
        if not self.rollouts:
            return []
        earlier = range(learning)[: self.tasks]
        fine = earlier[: self.dense]
        even = {updates * (i + 1) // self.current for i in range(self.current)}
        return [
            task
            for task in earlier
            if update == updates or update in (DENSE if task in fine else COARSE)
        ] + [learning] * (update in even)
