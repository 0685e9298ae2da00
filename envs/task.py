"""One manipulation task: its environment, horizon, observation bounds and expert as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from reconverge.errors import ReconvergeError

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # lowest and highest value of every entry
Landmarks = Mapping[str, np.ndarray]  # fixed places and sizes of a scene: metres, radians

UNIT_QUATERNION: Bounds = ((-1.0,) * 4, (1.0,) * 4)


class Expert(Protocol):
    """A controller that reads named observation parts and returns an action [Da] in [-1, 1]."""

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, " Da"]: ...


@dataclass(frozen=True)
class Task:
    """One manipulation task.

    Positions are in metres, quaternions in (x, y, z, w) order. `observations` maps every robomimic
    low-dimensional key to its declared bounds; the flat observation [Do] is their concatenation in
    this order, clipped to the bounds. Bounds are constants of the workspace, chosen without looking
    at any demonstration.
    """

    name: str
    suite: str  # key of envs.suites.SUITES
    simulator: str  # the environment's name in that suite
    expert: Callable[[Landmarks], Expert]
    expert_name: str  # recorded in stores; another expert needs another name
    max_steps: int  # control steps
    observations: dict[str, Bounds]
    action_size: int = 7
    scene: Any = None  # what the suite alone needs to know, such as suites.robosuite.scene.Scene
    camera: str | None = None  # of films; None: the suite's
    meanings: Mapping[str, str] = field(default_factory=dict)  # of keys, before the suite's
    visit: int = 1  # how often a sequence has come to this task
    index: int = 0  # place in the sequence
    input_frame: str = "base"  # frame of the actions, one of the suite's
    language: str = ""  # the instruction
    starts: str = "seeds"  # start states: "seeds", or the suite's "official" ones by number
    sight: Any = None  # of a task that is seen in pictures: envs.render.sight.Sight

    def __post_init__(self) -> None:
        for key, (low, high) in self.observations.items():
            pairs = zip(low, high, strict=False)
            if len(low) != len(high) or not all(-math.inf < a <= b < math.inf for a, b in pairs):
                raise ReconvergeError(
                    f"task {self.name}: observation {key} is from {low} to {high}: give as many "
                    "finite numbers for both, the lower ones first"
                )
        if self.max_steps < 1:
            raise ReconvergeError(f"task {self.name}: max_steps={self.max_steps}: at least 1")

    @property
    def label(self) -> str:
        """Name of the task in a sequence: `<name>`, from the second visit on `<name>_<visit>`."""
        return self.name if self.visit == 1 else f"{self.name}_{self.visit}"

    @property
    def sizes(self) -> dict[str, int]:
        """Number of entries of every observation key."""
        return {key: len(low) for key, (low, _) in self.observations.items()}

    @property
    def observation_size(self) -> int:
        return sum(self.sizes.values())

    @property
    def low(self) -> np.ndarray:
        return np.array(join(*self.observations.values())[0], dtype=np.float32)

    @property
    def high(self) -> np.ndarray:
        return np.array(join(*self.observations.values())[1], dtype=np.float32)

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return the named parts of flat observations [..., Do]."""
        edges = np.cumsum(list(self.sizes.values()))[:-1]
        return dict(zip(self.sizes, np.split(flat, edges, axis=-1), strict=True))


def no_expert(name: str, landmarks: Landmarks) -> Expert:
    """Raise ReconvergeError: what `expert` of a task without one is made of."""
    raise _without_expert([name])


def require_experts(tasks: Sequence[Task], sequence: Sequence[Task] = ()) -> None:
    """Raise ReconvergeError, which names them all, if some of the `tasks` have no scripted expert;
    it also says what is left of the `sequence` that they are of.
    """
    lacking = list(dict.fromkeys(task.name for task in tasks if not task.expert_name))
    if lacking:
        left = dict.fromkeys(task.name for task in sequence if task.name not in lacking)
        raise _without_expert(lacking, list(left))


def _without_expert(lacking: Sequence[str], left: Sequence[str] = ()) -> ReconvergeError:
    one = len(lacking) == 1
    names, file = ", ".join(lacking), lacking[0] if one else "<task>"
    remedy = f", or leave {'it' if one else 'them'} out: env={','.join(left)}" if left else ""
    return ReconvergeError(
        f"{names} {'has' if one else 'have'} no scripted expert; bring demonstrations of "
        f"{'it' if one else 'them'} as demonstrations/{file}.zarr "
        f"(python -m tools.convert --help){remedy}"
    )


def join(*parts: Bounds) -> Bounds:
    """Return the bounds of the parts' entries, one after another."""
    low: tuple[float, ...] = sum((part[0] for part in parts), ())
    high: tuple[float, ...] = sum((part[1] for part in parts), ())
    return low, high
