"""The contract of a task: the observations that a policy takes and the meaning of its actions.

It is all that a program needs to act with an exported or served policy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from reconverge.envs.render.sight import learns_to_see
from reconverge.envs.suites import SUITES, in_frame
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError
from reconverge.policy.model.policy import DiffusionPolicy
from reconverge.schema import read_record


@dataclass(frozen=True)
class ObservationEntry:
    """One key of the observation; `low` and `high` bound each of its `size` numbers."""

    key: str
    size: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    meaning: str


@dataclass(frozen=True)
class PictureEntry:
    """One picture of the observation: uint8 [`height`, `width`, RGB], the top row first.

    `features` numbers that the encoder makes of it stand in its place in the flat observation, or
    where `as_pixels` its own: row by row, red, green and blue, 0 to 255.
    """

    key: str
    height: int
    width: int
    features: int
    meaning: str
    as_pixels: bool = False


@dataclass(frozen=True)
class ActionEntry:
    """The next `size` numbers of an action, each in [low, high]."""

    size: int
    low: float
    high: float
    meaning: str


@dataclass(frozen=True)
class Contract:
    """The observations and actions of one task, in their order in the flat vectors."""

    task: str
    index: int  # the sampler's input `task`
    control_hz: int
    n_obs_steps: int
    padded_observation_size: int  # of the flat observation, with zeros at its end, before pixels
    horizon: int
    n_action_steps: int
    action_size: int
    padded_action_size: int  # of the sampler's noise and actions, the task's own numbers first
    observation: tuple[ObservationEntry, ...]
    action: tuple[ActionEntry, ...]
    pictures: tuple[PictureEntry, ...] = ()  # whose features come after `observation`

    @property
    def own_observation_size(self) -> int:
        """Of the flat observation without the zeros at its end."""
        told = sum(entry.size for entry in self.observation)
        return told + sum(picture.features for picture in self.pictures)

    @property
    def ends_with_pixels(self) -> bool:
        """Whether pictures stand in an observation as they are, after its zeros."""
        return any(picture.as_pixels for picture in self.pictures)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Contract:
        """Read what `to_json` gave; ReconvergeError names `where` and the damaged field."""
        return read_record(cls, value, where)


def make_contract(task: Task, policy: DiffusionPolicy) -> Contract:
    """Return the contract of acting on `task`, whose `index` and `input_frame` are the policy's.

    Bounds are those of the checkpoint, by which it normalises. ReconvergeError if the task has
    another size today.
    """
    bounds = policy.normalizer
    low, high = bounds.low[task.index].tolist(), bounds.high[task.index].tolist()
    action_size = policy.action_size_of(task.index)
    if task.observation_size > len(low) or task.action_size != action_size:
        raise ReconvergeError(
            f"{task.name} has {task.observation_size} observations and {task.action_size} actions, "
            f"the policy at most {len(low)} and {action_size}; "
            "use a checkpoint of this version"
        )
    suite = SUITES[task.suite]
    frame = suite.input_frames[in_frame(task, task.input_frame).input_frame]
    return Contract(
        task=task.label,
        index=task.index,
        control_hz=suite.control_hz,
        n_obs_steps=policy.n_obs_steps,
        padded_observation_size=len(low),
        horizon=policy.horizon,
        n_action_steps=policy.n_action_steps,
        action_size=action_size,
        padded_action_size=policy.action_size,
        observation=_observation(task, low, high),
        action=_action(suite.actions, action_size, frame),
        pictures=_pictures(task),
    )


def _action(told: tuple[tuple[int, str], ...], size: int, frame: str) -> tuple[ActionEntry, ...]:
    """Return entries of all `size` numbers, of those too that the suite says nothing about."""
    untold = size - sum(count for count, _ in told)
    rest = [(untold, "as the simulator takes it")] if untold > 0 else []
    return tuple(
        ActionEntry(count, -1.0, 1.0, meaning.format(frame=frame))
        for count, meaning in (*told, *rest)
    )


def _pictures(task: Task) -> tuple[PictureEntry, ...]:
    if task.sight is None:
        return ()
    size, features, raw = task.sight.view.size, task.sight.size, learns_to_see(task)
    meaning = "picture of {}: uint8, red, green and blue, the top row first"
    return tuple(
        PictureEntry(f"{camera}_image", size, size, features, meaning.format(camera), raw)
        for camera in task.sight.view.cameras
    )


def _observation(task: Task, low: list[float], high: list[float]) -> tuple[ObservationEntry, ...]:
    entries, start = [], 0
    features = () if task.sight is None else task.sight.keys
    for key, size in task.sizes.items():
        if key in features:
            continue
        part = slice(start, start + size)
        meaning = task.meanings.get(key) or SUITES[task.suite].meanings.get(key)
        meaning = meaning or "as the simulator gives it"
        entries.append(ObservationEntry(key, size, tuple(low[part]), tuple(high[part]), meaning))
        start += size
    return tuple(entries)


def to_markdown(contract: Contract) -> str:
    """Return a section of Markdown: tables of the observation's and the action's entries."""
    lines = [
        f"## {contract.task}: `task` = {contract.index}, "
        f"{contract.control_hz} control steps a second",
        "",
        "| entries | observation key | meaning | low | high |",
        "|---|---|---|---|---|",
    ]
    start = 0
    for size, meaning in _rows(contract):
        lines.append(f"| {_range(start, size)} | {meaning} |")
        start += size
    lines += ["", "| entries | action, in [-1, 1] |", "|---|---|"]
    start = 0
    for action in contract.action:
        lines.append(f"| {_range(start, action.size)} | {action.meaning} |")
        start += action.size
    padding = contract.padded_action_size - start
    if padding:
        lines.append(f"| {_range(start, padding)} | padding: zeros, not for the robot |")
    return "\n".join(lines)


def _rows(contract: Contract) -> list[tuple[int, str]]:
    """Return how many entries of an observation each row of the table is about, and the rest of
    the row.
    """
    told = [
        (
            part.size,
            f"`{part.key}` | {part.meaning} | {_numbers(part.low)} | {_numbers(part.high)}",
        )
        for part in contract.observation
    ]
    shown = []
    for picture in contract.pictures:
        what = "pixels of the" if picture.as_pixels else "features of the"
        bounds = "0 | 255" if picture.as_pixels else "-1 | 1"
        shape = f"[{picture.height}, {picture.width}, 3]"
        row = f"`{picture.key}` | {what} {picture.meaning}, {shape} | {bounds}"
        shown.append((picture.features, row))
    lacking = contract.padded_observation_size - contract.own_observation_size
    padding = [(lacking, "| padding: zeros | |")] if lacking else []
    return told + padding + shown if contract.ends_with_pixels else told + shown + padding


def _range(start: int, size: int) -> str:
    return f"{start}" if size == 1 else f"{start}-{start + size - 1}"


def _numbers(values: tuple[float, ...]) -> str:
    """Return all values, or one where they are equal: `-1` for four times -1."""
    shown = [f"{value:g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)
