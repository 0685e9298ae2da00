"""Play recorded actions back in the simulator, from the state in which each recording began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.tasks import Task
from envs.vector import VectorEnv


@dataclass(frozen=True)
class Recording:
    """What an episode of T steps was: `state` or else `seed` says where it began."""

    actions: np.ndarray  # [T, Da] as executed
    observations: np.ndarray  # [T, Do] before each action
    seed: int = -1
    state: np.ndarray | None = None  # of `RobosuiteSimulator.restore`


@dataclass(frozen=True)
class Playback:
    """How a recording went once more: `error` is the largest difference of an observation from the recorded one."""

    success: bool  # at any step
    error: float  # metres, or a quaternion's entry up to the quaternion's sign


def play_back(env: VectorEnv, recordings: Sequence[Recording]) -> list[Playback]:
    """Every recording in order, as many at a time as the environment has slots."""
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
        running = [slot for slot, failed in zip(running, diverged, strict=True) if not failed]
    return [Playback(bool(s), float(e)) for s, e in zip(success, error, strict=True)]


def _start(env: VectorEnv, slot: int, recording: Recording) -> np.ndarray:
    """The first observation [Do]."""
    if recording.state is not None:
        return env.restore([slot], [recording.state])[0]
    return env.reset([slot], [recording.seed])[0]


def difference(task: Task, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest difference in each row of observations [n, Do]; a quaternion and its negative are one rotation."""
    apart = np.abs(a - b)
    for start in quaternions(task):
        entries = slice(start, start + 4)
        mirrored = np.abs(a[:, entries] + b[:, entries])
        nearer = mirrored.max(axis=1) < apart[:, entries].max(axis=1)
        apart[nearer, entries] = mirrored[nearer]
    return apart.max(axis=1)


def quaternions(task: Task) -> list[int]:
    """Where quaternions begin in the flat observation: four entries in a row that are declared to be in [-1, 1]."""
    unit = (task.low == -1.0) & (task.high == 1.0)
    edges = np.flatnonzero(np.diff(unit, prepend=False, append=False)).reshape(-1, 2)
    return [start for begin, end in edges for start in range(int(begin), int(end) - 3, 4)]
