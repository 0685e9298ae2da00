"""Whether a store's actions still do in the simulator what they did where they were recorded."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from datasets.store import DemonstrationStore, Episode, StoreError
from envs.playback import Recording, play_back
from envs.tasks import TASKS, Task, simulated_by
from envs.vector import INPUT_FRAMES, VectorEnv

ENOUGH = 2 / 3  # share of the recorded successes that must succeed again: in contact, rounding may cost some
EPISODES = 3  # played back before training
SIMULATORS = ("mujoco", "robosuite", "metaworld")
STATES = "states"  # robosuite's flattened states, one a step


class PlaybackWarning(UserWarning):
    """A store's actions do not succeed again in this simulator."""


@dataclass(frozen=True)
class PlayedBack:
    """What came of the episodes played back."""

    episodes: int
    recorded: int  # successes in the store
    succeeded: int  # of these, again
    median_error: float  # of the episodes' largest observation errors (metres, or a quaternion's entry)
    worst_error: float
    actions: str  # array that was played back

    @property
    def fails(self) -> bool:
        return self.succeeded < ENOUGH * self.recorded

    def __str__(self) -> str:
        error = f"state error median {self.median_error:.2g}, worst {self.worst_error:.2g}"
        return f"{self.succeeded} of {self.recorded} successes again with {self.actions!r} ({error})"


def task_of(store: DemonstrationStore) -> Task | None:
    """The task that a store names, or whose environment robomimic's `env_args` names; else that of its file name."""
    if "task" in store.attributes:
        return TASKS.get(str(store.attributes["task"]))
    return simulated_by(store.attributes.get("env_args", {}).get("env_name")) or TASKS.get(store.path.stem)


def input_frame(store: DemonstrationStore) -> str:
    """The frame of a store's actions: its attribute `input_frame`, "base" where it has none; StoreError for others."""
    frame = store.attributes.get("input_frame", "base")
    task = task_of(store)
    legal = INPUT_FRAMES.get(task.suite, ("base",)) if task else INPUT_FRAMES["robosuite"]
    if frame not in legal:
        raise StoreError(
            f"{store.path}: input_frame is {frame!r}; choose from {', '.join(legal)}, or convert it again"
        )
    return frame


def input_frames(tasks: Sequence[Task], stores: Sequence[DemonstrationStore]) -> dict[str, str]:
    """By task, the frames that are not "base"."""
    frames = {task.label: input_frame(store) for task, store in zip(tasks, stores, strict=True)}
    return {label: frame for label, frame in frames.items() if frame != "base"}


def require_fit(store: DemonstrationStore, task: Task) -> None:
    """StoreError where demonstrations brought from elsewhere do not have the task's action and observations."""
    made_for = task_of(store)
    if made_for is not None and made_for.name != task.name:
        raise StoreError(f"{store.path}: is of {made_for.name}, wanted {task.name}; name another store")
    recorded = store.attributes.get("versions", {})
    running = {name: version(name) for name in SIMULATORS if name in recorded}
    store.require(action_size=task.action_size, versions=running)
    for key, size in task.sizes.items():
        found = store.observation_sizes.get(key)
        if found != size:
            has = "is missing" if found is None else f"has {found} numbers"
            raise StoreError(f"{store.path}: observation {key} {has}, {task.name} wants {size}; convert it again")
    if not len(store):
        raise StoreError(f"{store.path}: has no episode; convert it again, or delete it to record demonstrations")


def unplayable(store: DemonstrationStore) -> str:
    """Why a store's episodes cannot be played back, in one line; nothing where they can."""
    task = task_of(store)
    if task is None:
        return "the store names no task that can be simulated"
    if any(store.observation_sizes.get(key) != size for key, size in task.sizes.items()):
        return f"the store lacks observations of {task.name}"
    if store.action_size != task.action_size:
        return f"the store's actions have {store.action_size} numbers, {task.name} wants {task.action_size}"
    if "seed" in store.scalars() or (task.suite == "robosuite" and STATES in store.attributes.get("extra_sizes", {})):
        return ""
    return f"the store has neither meta/seed nor data/{STATES}, which say how an episode began"


def play_episodes(store: DemonstrationStore, env: VectorEnv, count: int) -> PlayedBack:
    """Play `count` episodes, spread over the store, back from where they began. Raises StoreError where it cannot."""
    why = unplayable(store)
    if why:
        raise StoreError(f"{store.path}: cannot be played back: {why}")
    chosen = np.unique(np.linspace(0, len(store) - 1, min(count, len(store))).round().astype(int))
    episodes = [store.episode(int(i)) for i in chosen]
    try:
        played = play_back(env, [_recording(env.task, episode) for episode in episodes])
    except ValueError as error:  # states of another model, say
        raise StoreError(f"{store.path}: cannot be played back: {error}") from error
    # An episode whose success nobody recorded was shown as one.
    wanted = [episode.success is None or bool(episode.success.any()) for episode in episodes]
    errors = [p.error for p in played]
    return PlayedBack(
        episodes=len(played),
        recorded=sum(wanted),
        succeeded=sum(p.success for p, recorded in zip(played, wanted, strict=True) if recorded),
        median_error=float(np.median(errors)),
        worst_error=max(errors),
        actions="executed_action" if "executed_action" in episodes[0].extras else "action",
    )


def _recording(task: Task, episode: Episode) -> Recording:
    seen = np.concatenate([episode.observations[key] for key in task.observations], axis=1)
    states = episode.extras.get(STATES)
    return Recording(
        actions=episode.extras.get("executed_action", episode.action),
        observations=np.clip(seen, task.low, task.high),  # as the simulator's are
        seed=int(episode.scalars.get("seed", -1)),
        state=None if states is None else states[0].astype(np.float64),
    )


def warn_unless_it_plays(store: DemonstrationStore, make_env: Callable[[], VectorEnv]) -> None:
    """Play a few episodes back, once for a store and a simulator, and warn where they do not succeed again.

    The result is remembered in `<store>.playback.json`. A store that cannot be played back passes.
    """
    if unplayable(store):
        return
    result = _remembered(store)
    if result is None:
        try:
            result = play_episodes(store, make_env(), EPISODES)
        except StoreError as error:
            warnings.warn(str(error), PlaybackWarning, 2)
            return
        _remember(store, result)
    if result.fails:
        remedy = f"see python -m tools.check_store store={store.path} playback={EPISODES}"
        message = f"{store.path}: of {result.episodes} episodes played back, {result}; {remedy}"
        warnings.warn(message, PlaybackWarning, 2)


def _file(store: DemonstrationStore) -> Path:
    return store.path.with_name(f"{store.path.name}.playback.json")


def _circumstances(store: DemonstrationStore) -> dict[str, Any]:
    """What a remembered result holds for."""
    return {"checksum": store.attributes.get("checksum"), "versions": {name: version(name) for name in SIMULATORS}}


def _remembered(store: DemonstrationStore) -> PlayedBack | None:
    try:
        found = json.loads(_file(store).read_text())
        return PlayedBack(**found["result"]) if found["of"] == _circumstances(store) else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of another version: it is made again
        return None


def _remember(store: DemonstrationStore, result: PlayedBack) -> None:
    file = _file(store)
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_text(json.dumps({"of": _circumstances(store), "result": asdict(result)}))
        os.replace(partial, file)
    except OSError:  # a folder that is read-only: the next run plays them again
        partial.unlink(missing_ok=True)
