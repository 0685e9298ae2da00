"""A suite of simulated tasks: how its simulators are made, and what its actions mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from reconverge.envs.task import Task

QUATERNION = "quaternion (x, y, z, w)"


class Simulator(Protocol):
    """The simulator of one task. Different episodes may be used in different threads.

    An episode has `data` (MuJoCo's), and after a step `success` and `diverged`, which is true once
    MuJoCo has found a bad state. `advance` takes each of n episodes through at most `limits` [n] of
    its actions `chunks` [n, Ta, Da], until it succeeds or diverges, and returns observations
    [n, Ta, Do] after every step, and how many steps were taken [n].
    """

    model: Any  # MuJoCo's
    task: Task

    @property
    def picture_model(self) -> Any: ...  # MuJoCo's, of what pictures show
    def picture_data(self, episode: Any) -> Any: ...  # of that model, as the episode is
    def place(self, episode: Any, data: Any) -> None: ...  # make `data` of that model be like it
    @property
    def landmarks(self) -> dict[str, np.ndarray]: ...
    @property
    def versions(self) -> dict[str, str]: ...
    @property
    def fingerprint(self) -> dict[str, Any]: ...
    def new_episode(self) -> Any: ...
    def reset(self, episode: Any, seed: int) -> None: ...
    def restore(self, episode: Any, state: np.ndarray) -> None: ...
    def step(self, episode: Any, action: np.ndarray) -> None: ...
    def advance(
        self, episodes: list[Any], chunks: np.ndarray, limits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def success(self, episode: Any) -> bool: ...
    def observe(self, episodes: list[Any]) -> np.ndarray: ...


@dataclass(frozen=True)
class Suite:
    """Everything that the tasks of a suite share. `make` imports the simulation when called."""

    name: str
    make: Callable[[Task], Simulator]
    control_hz: int  # control steps in a second of simulated time
    restores_states: bool = False  # as well as starting from seeds
    official_starts: int = 0  # start states that the suite publishes for every task
    input_frames: Mapping[str, str] = field(default_factory=lambda: {"base": "robot's base"})
    actions: tuple[tuple[int, str], ...] = ()  # sizes and meanings; {frame}: of the input frame
    convention: Mapping[str, Any] = field(default_factory=dict)  # of actions, by robosuite's terms
    meanings: Mapping[str, str] = field(default_factory=dict)  # of observation keys
    camera: str = ""  # of films
    geom_groups: tuple[int, ...] = (0, 1, 2)  # MuJoCo's groups that a film shows
    site_groups: tuple[int, ...] = (0, 1, 2)
    cameras: Mapping[str, str] = field(default_factory=dict)  # of observations: our names, MuJoCo's
    proprioception: tuple[str, ...] = ()  # observation keys that a robot itself measures


def advance_by_steps(
    step: Callable[[Any, np.ndarray], None],
    read: Callable[[Any, np.ndarray], None],
    episodes: list[Any],
    chunks: np.ndarray,
    limits: np.ndarray,
    seen: np.ndarray,
) -> np.ndarray:
    """Do the work of `Simulator.advance` with one call of `step` a control step, after which `read`
    fills its row of `seen` [n, Ta, ...]; return the steps [n].
    """
    steps = np.zeros(len(episodes), np.int64)
    for i, episode in enumerate(episodes):
        for action, row in zip(chunks[i, : limits[i]], seen[i], strict=False):
            step(episode, action)
            read(episode, row)
            steps[i] += 1
            if episode.success or episode.diverged:
                break
    return steps
