"""Observations of pictures: what an encoder says of each camera's picture, or the picture itself,
takes the place of the objects' poses, or comes beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from reconverge.envs.cameras import View
from reconverge.envs.suites import SUITES
from reconverge.envs.task import Bounds, Task


class Encoder(Protocol):
    """Describes pictures [n, H, W, 3] by `size` numbers each, in [-1, 1], each picture by itself.

    `fingerprint` (JSON's types) tells encoders apart that say something else of a picture.
    """

    size: int
    fingerprint: Mapping[str, Any]

    def __call__(self, pictures: UInt8[np.ndarray, "n H W 3"]) -> Float[np.ndarray, "n F"]: ...


@dataclass(frozen=True)
class Sight:
    """How a policy sees: the pictures, what is made of them, and whether it is told the state too.

    Without an encoder the policy itself learns to see, and observes every pixel, 0 to 255. `state`
    is what the simulator of the task observes (`of` fills it in).
    """

    view: View
    encoder: Encoder | None
    keeps_state: bool  # beside the pictures; else of the state only what the robot measures
    state: Mapping[str, Bounds] = field(default_factory=dict)

    def of(self, task: Task) -> Task:
        """Return the task as it is seen: its observations end with the features, or the pixels, of
        each camera.

        ReconvergeError for a camera that the task's suite lacks.
        """
        own = SUITES[task.suite].proprioception
        kept = {key: at for key, at in task.observations.items() if self.keeps_state or key in own}
        low, high = (0.0, 255.0) if self.encoder is None else (-1.0, 1.0)
        one: Bounds = ((low,) * self.size, (high,) * self.size)
        self.view.in_suite(task)
        seen = dict.fromkeys(self.keys, one)
        sight = replace(self, state=task.observations)
        return replace(task, observations=kept | seen, sight=sight)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the features or pictures, the last of the observations."""
        kind = "image" if self.encoder is None else "features"
        return tuple(f"{camera}_{kind}" for camera in self.view.cameras)

    @property
    def size(self) -> int:
        """Numbers that stand for one picture in an observation."""
        return 3 * self.view.size**2 if self.encoder is None else self.encoder.size

    @property
    def features_size(self) -> int:
        """Of all cameras together, the last numbers of an observation."""
        return self.size * len(self.view.cameras)

    def told(self, task: Task) -> Task:
        """Return a task that `of` gave with the observations that its simulator makes."""
        return replace(task, observations=dict(self.state), sight=None)

    def columns(self, task: Task) -> np.ndarray:
        """Return which entries of the simulator's flat observation a task that `of` gave keeps."""
        told = self.told(task)
        entries = told.split(np.arange(told.observation_size))
        return np.concatenate([entries[key] for key in task.observations if key in entries])

    def features(self, pictures: UInt8[np.ndarray, "n C H W 3"]) -> Float[np.ndarray, "n CF"]:
        """Return what the encoder says of the pictures of every camera, one after another, or
        their pixels.
        """
        count = len(pictures)
        if self.encoder is None:
            return pictures.reshape(count, -1).astype(np.float32)
        return self.encoder(pictures.reshape(-1, *pictures.shape[2:])).reshape(count, -1)

    def whole(self, task: Task) -> Task:
        """Return a task that `of` gave with the state beside the features."""
        return replace(self, keeps_state=True).of(self.told(task))

    @property
    def name(self) -> str:
        """A short name that no other cameras, size or encoder has."""
        text = json.dumps(self.fingerprint, sort_keys=True)
        return f"pixels-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the features of a picture, and which pictures they are: JSON's types."""
        cameras, size = list(self.view.cameras), self.view.size
        encoder = None if self.encoder is None else dict(self.encoder.fingerprint)
        return {"cameras": cameras, "size": size, "encoder": encoder}


def learns_to_see(task: Task) -> bool:
    """Return whether pixels are among a task's observations, for a policy that learns to see."""
    return task.sight is not None and task.sight.encoder is None


def numbers_of(task: Task) -> dict[str, int]:
    """Return the sizes of a task's observations that are no pixels, by key."""
    shown = task.sight.keys if learns_to_see(task) else ()
    return {key: size for key, size in task.sizes.items() if key not in shown}
