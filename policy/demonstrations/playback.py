"""Play recorded actions back in the simulator, from the state in which each recording began."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reconverge.datasets.store import DemonstrationStore, Episode, StoreError
from reconverge.datasets.sums import checksum
from reconverge.envs.render.sight import numbers_of
from reconverge.envs.task import Task
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.files import write_json
from reconverge.policy.demonstrations.fit import STATES, simulator_versions, unplayable

# Share of the episodes that must go as recorded: in contact, rounding may cost some.
REQUIRED_SHARE = 2 / 3
# Metres, or a quaternion's entry. Of ten episodes of each of six tasks of our experts, the median
# error is below 1e-4 and the worst, in contact at an episode's end, 0.08.
MOST_ERROR = 0.1
EPISODES = 3  # played back before training


class PlaybackWarning(UserWarning):
    """A store's actions do not succeed again in this simulator, or could not be tried."""


@dataclass(frozen=True)
class Recording:
    """A recorded episode of T steps, which began in `state` or else from `seed`."""

    actions: np.ndarray  # [T, Da] as executed
    observations: np.ndarray  # [T, Do] before each action
    seed: int = -1
    state: np.ndarray | None = None  # of `RobosuiteSimulator.restore`


@dataclass(frozen=True)
class Playback:
    """The result of a recording: `error` is the largest difference of an observation from the
    recorded one.
    """

    success: bool  # at any step
    error: float  # metres, or a quaternion's entry up to the quaternion's sign; inf if it diverged


@dataclass(frozen=True)
class StorePlayback:
    """The result of some of a store's episodes."""

    episodes: int
    recorded: int  # successes in the store
    succeeded: int  # of these, again
    median_error: float  # of the episodes' largest errors (metres, or a quaternion's entry)
    worst_error: float
    near: int  # episodes with errors of at most MOST_ERROR
    actions: str  # array that was played back

    @property
    def fails(self) -> bool:
        again = self.succeeded >= REQUIRED_SHARE * self.recorded
        return not again or self.near < REQUIRED_SHARE * self.episodes

    def __str__(self) -> str:
        error = f"state error median {self.median_error:.2g}, worst {self.worst_error:.2g}"
        if self.near < self.episodes:
            error += f", {self.episodes - self.near} of {self.episodes} beyond {MOST_ERROR}"
        return (
            f"{self.succeeded} of {self.recorded} successes again with {self.actions!r} ({error})"
        )


def play_back(env: VectorEnv, recordings: Sequence[Recording]) -> list[Playback]:
    """Play every recording in order, as many at a time as the environment has slots."""
    batches = [recordings[i : i + len(env)] for i in range(0, len(recordings), len(env))]
    return [playback for batch in batches for playback in _play(env, batch)]


def _play(env: VectorEnv, recordings: Sequence[Recording]) -> list[Playback]:
    seen = np.stack([_start(env, slot, recording) for slot, recording in enumerate(recordings)])
    success, error = np.zeros(len(recordings), bool), np.zeros(len(recordings))
    running = list(range(len(recordings)))
    for step in range(max(len(recording.actions) for recording in recordings)):
        running = [slot for slot in running if step < len(recordings[slot].actions)]
        if not running:
            break
        recorded = np.stack([recordings[slot].observations[step] for slot in running])
        error[running] = np.maximum(error[running], difference(env.task, seen[running], recorded))
        actions = np.stack([recordings[slot].actions[step] for slot in running]).astype(np.float64)
        seen[running], solved, diverged = env.step(running, actions)
        success[running] |= solved
        error[np.array(running)[diverged]] = np.inf
        running = [slot for slot, failed in zip(running, diverged, strict=True) if not failed]
    return [Playback(bool(s), float(e)) for s, e in zip(success, error, strict=True)]


def _start(env: VectorEnv, slot: int, recording: Recording) -> np.ndarray:
    """Start the recording's episode; return its first observation [Do]."""
    if recording.state is not None:
        return env.restore([slot], [recording.state])[0]
    return env.reset([slot], [recording.seed])[0]


def difference(task: Task, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the largest difference in each row of observations [n, Do], but for features of
    pictures; a quaternion and its negative are one rotation.
    """
    told = task.observation_size - (task.sight.features_size if task.sight else 0)
    a, b = a[:, :told], b[:, :told]
    found = np.abs(a - b)
    for start in quaternions(task):
        entries = slice(start, start + 4)
        mirrored = np.abs(a[:, entries] + b[:, entries])
        nearer = mirrored.max(axis=1) < found[:, entries].max(axis=1)
        found[nearer, entries] = mirrored[nearer]
    return found.max(axis=1)


def quaternions(task: Task) -> list[int]:
    """Return the first entries of the quaternions in the flat observation: of every four in a row
    that are declared to be in [-1, 1].
    """
    unit = (task.low == -1.0) & (task.high == 1.0)
    if task.sight:
        unit[-task.sight.features_size :] = False
    edges = np.flatnonzero(np.diff(unit, prepend=False, append=False)).reshape(-1, 2)
    return [start for begin, end in edges for start in range(int(begin), int(end) - 3, 4)]


def play_episodes(store: DemonstrationStore, env: VectorEnv, count: int) -> StorePlayback:
    """Play `count` episodes, spread over the store, back from where they began.

    Raises StoreError for a store that cannot be played back.
    """
    why = unplayable(store)
    if why:
        raise StoreError(f"{store.path}: cannot be played back: {why}")
    chosen = np.unique(np.linspace(0, len(store) - 1, min(count, len(store))).round().astype(int))
    episodes = [store.episode(int(i), cameras=()) for i in chosen]
    try:
        played = play_back(env, [_recording(env.task, episode) for episode in episodes])
    except ReconvergeError as error:  # states of another model, say
        raise StoreError(f"{store.path}: cannot be played back: {error}") from error
    # An episode without a record of its success was demonstrated as one.
    wanted = [episode.success is None or bool(episode.success.any()) for episode in episodes]
    errors = [p.error for p in played]
    return StorePlayback(
        episodes=len(played),
        recorded=sum(wanted),
        succeeded=sum(p.success for p, recorded in zip(played, wanted, strict=True) if recorded),
        median_error=float(np.median(errors)),
        worst_error=float(np.max(errors)),
        near=sum(error <= MOST_ERROR for error in errors),
        actions="executed_action" if "executed_action" in episodes[0].extras else "action",
    )


def _recording(task: Task, episode: Episode) -> Recording:
    seen = np.concatenate([episode.observations[key] for key in numbers_of(task)], axis=1)
    told = seen.shape[1]
    states = episode.extras.get(STATES)
    return Recording(
        actions=episode.extras.get("executed_action", episode.action),
        observations=np.clip(seen, task.low[:told], task.high[:told]),  # as the simulator's are
        seed=int(episode.scalars.get("seed", -1)),
        state=None if states is None else states[0].astype(np.float64),
    )


def warn_unless_it_plays(store: DemonstrationStore, make_env: Callable[[], VectorEnv]) -> None:
    """Play a few episodes back, once for a store and a simulator, and warn if too few go as
    recorded, or if they cannot be played.

    The result is remembered in `<store>.playback.json`.
    """
    if why := unplayable(store):
        warnings.warn(f"{store.path}: was not played back: {why}", PlaybackWarning, 2)
        return
    result = _remembered(store)
    if result is None:
        try:
            result = play_episodes(store, make_env(), EPISODES)
        except StoreError as error:
            warnings.warn(str(error), PlaybackWarning, 2)
            return
        with suppress(ReconvergeError):  # in a read-only folder the next run plays them again
            record = {"of": _circumstances(store), "result": asdict(result)}
            write_json(_file(store), {**record, "checksum": checksum(record)})
    if result.fails:
        where = shlex.quote(f"store={store.path}")
        remedy = f"see python -m tools.check_store {where} playback={EPISODES}"
        message = f"{store.path}: of {result.episodes} episodes played back, {result}; {remedy}"
        warnings.warn(message, PlaybackWarning, 2)


def _file(store: DemonstrationStore) -> Path:
    return store.path.with_name(f"{store.path.name}.playback.json")


def _circumstances(store: DemonstrationStore) -> dict[str, Any]:
    """Return the store and the simulators for which a remembered result holds."""
    return {
        "checksum": store.identity()["checksum"],
        "episodes": EPISODES,
        "most_error": MOST_ERROR,
        "versions": simulator_versions(),
    }


def _remembered(store: DemonstrationStore) -> StorePlayback | None:
    """Return the result remembered for this store and these simulators, None if it must be made."""
    try:
        found = json.loads(_file(store).read_text("utf-8"))
        if found["checksum"] == checksum(found) and found["of"] == _circumstances(store):
            return StorePlayback(**found["result"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # missing, damaged, or of another version
    return None
