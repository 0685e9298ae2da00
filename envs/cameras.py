"""Cameras as observations: which pictures an observation holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reconverge.envs.suites import SUITES
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError, unknown

SMALLEST, LARGEST = 16, 512  # pixels
DEPTH = "_depth"


@dataclass(frozen=True)
class View:
    """Which pictures an observation holds: one from each of the cameras, square.

    The cameras have the same names in every suite (`Suite.cameras`); with DEPTH at its end a name
    stands for what that camera measures (`render.depth`). Raises ReconvergeError for a
    size out of range, and for cameras that are none or repeated.
    """

    cameras: tuple[str, ...]
    size: int = 84  # height and width, pixels

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise ReconvergeError(
                f"pictures of {self.size} pixels: give a size from {SMALLEST} to {LARGEST}"
            )
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ReconvergeError(
                f"cameras {', '.join(self.cameras) or '(none)'}: give one or more, each once"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pictures of one observation: cameras, height, width, RGB."""
        return (len(self.cameras), self.size, self.size, 3)

    def in_suite(self, task: Task) -> dict[str, str]:
        """Return the cameras with their names in MuJoCo; ReconvergeError lists those that the
        task's suite has for one that it lacks.
        """
        known = SUITES[task.suite].cameras
        for camera in self.cameras:
            if camera.removesuffix(DEPTH) not in known:
                legal = [*known, *(f"{name}{DEPTH}" for name in known)]
                raise unknown(f"camera of {task.name}", camera, legal)
        return {camera: known[camera.removesuffix(DEPTH)] for camera in self.cameras}


def proprioception(task: Task, flat: np.ndarray) -> np.ndarray:
    """Return of flat observations [..., Do] what the robot itself measures [..., P], in the order
    of `Suite.proprioception`: what stands beside pictures.
    """
    parts = task.split(flat)
    return np.concatenate([parts[key] for key in SUITES[task.suite].proprioception], axis=-1)
