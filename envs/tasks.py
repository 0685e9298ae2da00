"""The one table of tasks: what a name such as `lift` means to every other part of the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

Bounds = tuple[tuple[float, ...], tuple[float, ...]]

UNIT_QUATERNION: Bounds = ((-1.0,) * 4, (1.0,) * 4)
FINGERS: Bounds = ((0.0, -0.04), (0.04, 0.0))  # joint positions of the Panda gripper's two fingers, metres
TABLE: Bounds = ((-0.35, -0.35, 0.78), (0.35, 0.35, 1.18))  # workspace in the world frame, metres
BINS: Bounds = ((-0.25, -0.55, 0.78), (0.45, 0.55, 1.23))
REACH: Bounds = ((-0.3, -0.3, -0.3), (0.3, 0.3, 0.3))  # object relative to the gripper, metres
HAND: Bounds = ((-0.525, 0.348, -0.0525, 0.0), (0.525, 1.025, 0.7, 1.0))  # Meta-World: world frame, metres; opening
PLACE: Bounds = ((-0.6, 0.0, -0.1), (0.6, 1.1, 0.7))  # Meta-World's objects; zeros where there is none


def _join(*parts: Bounds) -> Bounds:
    low: tuple[float, ...] = sum((part[0] for part in parts), ())
    high: tuple[float, ...] = sum((part[1] for part in parts), ())
    return low, high


def _robosuite(workspace: Bounds, object_bounds: Bounds) -> dict[str, Bounds]:
    return {
        "object": object_bounds,
        "robot0_eef_pos": workspace,
        "robot0_eef_quat": UNIT_QUATERNION,
        "robot0_gripper_qpos": FINGERS,
    }


def _metaworld() -> dict[str, Bounds]:
    """Hand position and opening, two objects' positions and quaternions, both of the step before, the goal."""
    objects = _join(PLACE, UNIT_QUATERNION, PLACE, UNIT_QUATERNION)
    return {"hand": HAND, "objects": objects, "previous_hand": HAND, "previous_objects": objects, "goal": PLACE}


# Continual World's ten tasks in their order (arXiv 2105.10919).
CW10 = (
    "hammer", "push-wall", "faucet-close", "push-back", "stick-pull", "handle-press-side", "push", "shelf-place",
    "window-close", "peg-unplug-side",
)  # fmt: skip
MENDED = ("push-back", "stick-pull", "shelf-place")  # tasks whose expert is ours, of the same name


@dataclass(frozen=True)
class Task:
    """One manipulation task.

    Positions are in metres, quaternions in (x, y, z, w) order. `observations` maps every robomimic low-dimensional
    key to its declared bounds; the flat observation [Do] is their concatenation in this order, clipped to the bounds.
    Bounds are constants of the workspace, chosen without looking at any demonstration.
    """

    name: str
    suite: str  # key of envs.vector.SUITES
    simulator: str  # the environment's name in that suite
    expert: str  # key of envs.experts.EXPERTS
    horizon: int  # control steps
    observations: dict[str, Bounds]
    action_size: int = 7
    visit: int = 1  # how often a sequence has come to this task

    @property
    def label(self) -> str:
        """What a sequence calls it: its name, and from the second visit on `<name>_<visit>`."""
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
        return np.array(_join(*self.observations.values())[0], dtype=np.float32)

    @property
    def high(self) -> np.ndarray:
        return np.array(_join(*self.observations.values())[1], dtype=np.float32)

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """The named parts of flat observations [..., Do]."""
        edges = np.cumsum(list(self.sizes.values()))[:-1]
        return dict(zip(self.sizes, np.split(flat, edges, axis=-1), strict=True))


# robomimic's layout of `object`: lift = cube position, quaternion, position relative to the gripper (world axes);
# can and square = position and quaternion in the gripper's frame, then position and quaternion in the world.
TASKS = {
    task.name: task
    for task in (
        Task("lift", "robosuite", "Lift", "lift", 400, _robosuite(TABLE, _join(TABLE, UNIT_QUATERNION, REACH))),
        Task(
            "can", "robosuite", "PickPlaceCan", "can", 400,
            _robosuite(BINS, _join(REACH, UNIT_QUATERNION, BINS, UNIT_QUATERNION)),
        ),
        Task(
            "square", "robosuite", "NutAssemblySquare", "square", 400,
            _robosuite(TABLE, _join(REACH, UNIT_QUATERNION, TABLE, UNIT_QUATERNION)),
        ),
        *(
            Task(
                name, "metaworld", f"{name}-v3", name if name in MENDED else f"{name}-v3", 200, _metaworld(),
                action_size=4,
            )
            for name in CW10
        ),
    )
}  # fmt: skip

ALIASES: dict[str, tuple[str, ...]] = {
    "robosuite": ("lift", "can", "square"),
    "cw10": CW10,
    "cw20": (*CW10, *(f"{name}_2" for name in CW10)),  # CW10 twice, as Continual World's CW20
}


def simulated_by(simulator: str | None) -> Task | None:
    """The task whose environment its simulator calls so ("Lift"); None where there is none."""
    return next((task for task in TASKS.values() if task.simulator == simulator), None)


def get_task(name: str) -> Task:
    """The task of that name or, as in `lift_2`, a later visit to it; ValueError lists the choices and the nearest."""
    first, _, visit = name.partition("_")
    if first in TASKS and visit.isdecimal() and int(visit) > 1:
        return replace(TASKS[first], visit=int(visit))
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown task {name!r}{hint}; choose from {', '.join([*TASKS, *ALIASES])}")
    return TASKS[name]


def task_sequence(names: str | Sequence[str]) -> list[Task]:
    """Tasks in learning order, from `"lift,can"` or a list, with aliases expanded; ValueError if empty or repeated."""
    listed = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    listed = [name.strip() for name in listed if name.strip()]
    expanded = [task for name in listed for task in ALIASES.get(name, (name,))]
    if not expanded:
        raise ValueError(f"env= names no task; give one or more of {', '.join([*TASKS, *ALIASES])}")
    repeated = sorted({name for name in expanded if expanded.count(name) > 1})
    if repeated:
        raise ValueError(f"env= repeats {', '.join(repeated)}; name every task once")
    return [get_task(name) for name in expanded]
