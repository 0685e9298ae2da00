"""Record demonstrations of scripted experts: `python -m tools.collect env=lift,can,square episodes=200`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from configs import commandline
from datasets.store import DemonstrationStore, Episode
from envs.experts import EXPERTS
from envs.rollout import Rollout, rollout
from envs.seeds import DEMONSTRATION
from envs.tasks import Task, task_sequence
from envs.vector import VectorEnv

SLOTS = 50  # episodes that run at the same time
APPEND = 8  # finished episodes that are appended together
PATIENCE = 20  # attempts for each success before giving up


@dataclass
class _Recording:
    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)


class NoisyExpert:
    """An expert whose executed actions carry noise while its own are recorded as labels (DART, arXiv 1703.09327).

    Noise: Gaussian with standard deviation `noise` in action units on every dimension but the gripper.
    """

    observation_steps = 1

    def __init__(self, env: VectorEnv, noise: float):
        self._task, self._noise = env.task, noise
        self._make = lambda: EXPERTS[env.task.expert](env.simulator.landmarks)
        self._experts: dict[int, Any] = {}
        self._rng: dict[int, np.random.Generator] = {}
        self.recordings: dict[int, _Recording] = {}

    def begin(self, slot: int, seed: int) -> None:
        self._experts[slot] = self._make()
        self._rng[slot] = np.random.default_rng([seed, 2])
        self.recordings[slot] = _Recording()

    def act(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        return np.stack([self._act(slot, h[-1]) for slot, h in zip(slots, history, strict=True)])[:, None]

    def _act(self, slot: int, observation: np.ndarray) -> np.ndarray:
        action = self._experts[slot].act(self._task.split(observation))
        executed = action.copy()
        executed[:-1] += self._rng[slot].normal(0.0, self._noise, len(action) - 1)
        executed = np.clip(executed, -1.0, 1.0)
        recording = self.recordings[slot]
        recording.observations.append(observation)
        recording.actions.append(action)
        recording.executed.append(executed)
        return executed


def record(env: VectorEnv, noise: float, seeds: Sequence[int], keep: Callable[[list[Episode]], None]) -> None:
    """Run the noisy expert from `seeds`; `keep` gets the successful episodes in their order, as soon as that is known.

    What is known is kept when something interrupts, too.
    """
    expert = NoisyExpert(env, noise)
    waiting = list(seeds)[::-1]
    ended: dict[int, Episode | None] = {}
    ready: list[Episode] = []

    def flush(least: int) -> None:
        while waiting and waiting[-1] in ended:
            episode = ended.pop(waiting.pop())
            ready.extend([episode] if episode is not None else [])
        if len(ready) >= least:
            keep(ready)
            ready.clear()

    def on_end(result: Rollout) -> None:
        recording = expert.recordings[result.slot]
        ended[result.seed] = _episode(env.task, result.seed, recording) if result.success else None
        flush(APPEND)

    try:
        rollout(env, expert, seeds, on_end)
    finally:
        flush(1)


def _episode(task: Task, seed: int, recording: _Recording) -> Episode:
    steps = len(recording.actions)
    ended = np.arange(steps) == steps - 1
    return Episode(
        observations=task.split(np.stack(recording.observations)),
        action=np.stack(recording.actions).astype(np.float32),
        reward=ended.astype(np.float32),
        success=ended,
        extras={"executed_action": np.stack(recording.executed).astype(np.float32)},
        scalars={"seed": seed},
    )


def open_or_create(env: VectorEnv, path: Path, noise: float, episodes: int) -> DemonstrationStore:
    """The store of these demonstrations: for reading if it is complete, else for appending, made if there is none.

    StoreError if what is there is something else.
    """
    task, simulator = env.task, env.simulator
    identity = {
        "task": task.name,
        "expert": task.expert,
        "noise": noise,
        "simulator": simulator.fingerprint,
        "bounds": [task.low.tolist(), task.high.tolist()],
    }
    if not path.exists():
        return DemonstrationStore.create(
            path,
            task.sizes,
            task.action_size,
            {**identity, "versions": simulator.versions, "seeds_from": DEMONSTRATION.start},
            extra_sizes={"executed_action": task.action_size},
            scalar_types={"seed": "int64"},
        )
    store = DemonstrationStore.open(path)
    store.require(
        action_size=task.action_size,
        observation_sizes=task.sizes,
        versions=simulator.versions,
        strict=True,
        **identity,
    )
    complete = len(store) >= episodes and store.attributes.get("attempts") == _attempts(store)
    return store if complete else DemonstrationStore.open(path, "a")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time makes the store at `path`: the runs of a sweep wait for the first and find it made.

    Where nothing can be written nothing is made, so no lock is needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        yield
        return
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"waiting for another process that records {path}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def collect(
    task: Task,
    path: Path,
    *,
    episodes: int,
    noise: float,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DemonstrationStore:
    """Make or complete the store at `path`: the first `episodes` seeds that the noisy expert solves.

    Interrupted, it keeps its finished episodes and goes on from there. `progress(done, tried)` is called as it grows.
    Raises StoreError where the store belongs to another task, noise or simulator.
    """
    with alone(path), VectorEnv(task, min(SLOTS, episodes), workers) as env:
        store = open_or_create(env, path, noise, episodes)
        recorded = store.scalars()["seed"]
        start = int(recorded[-1]) + 1 if len(recorded) else DEMONSTRATION.start

        def keep(found: list[Episode]) -> None:
            # Interrupted after the store took them, the same episodes come once more.
            new = [episode for episode in found if episode.scalars["seed"] not in store.scalars()["seed"]]
            store.extend(new[: episodes - len(store)])
            if progress is not None:
                progress(len(store), int(found[-1].scalars["seed"]) + 1 - DEMONSTRATION.start)

        while len(store) < episodes:
            tried = start - DEMONSTRATION.start
            if tried > PATIENCE * (len(store) + SLOTS):
                raise ValueError(
                    f"{task.name}: the expert solved {len(store)} of {tried} episodes with noise={noise}; lower noise"
                )
            stop = start + episodes - len(store)
            record(env, noise, range(start, stop), keep)
            start = stop
        tried = _attempts(store)
        if store.attributes.get("attempts") != tried:
            store.update_attributes({"attempts": tried, "discarded": 1.0 - len(store) / tried})
    return store


def _attempts(store: DemonstrationStore) -> int:
    """Episodes that were tried for those in the store."""
    return int(store.scalars()["seed"][-1]) + 1 - DEMONSTRATION.start


def collect_with_bar(task: Task, folder: Path, *, episodes: int, noise: float, workers: int | None):
    """`collect` into `folder/<task>.zarr` behind a progress bar."""
    with tqdm(total=episodes, desc=f"demonstrations of {task.name}", unit="episode") as bar:

        def show(done: int, tried: int) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(tried=tried)

        path = folder / f"{task.name}.zarr"
        store = collect(task, path, episodes=episodes, noise=noise, workers=workers, progress=show)
        bar.update(episodes - bar.n)
    return store


def main() -> None:
    commandline.run("collect", run)


def run(config: DictConfig) -> None:
    """Record every task, then say what is there."""
    if config.episodes < 1:
        raise ValueError(f"episodes={config.episodes}: must be at least 1")
    if not 0.0 <= config.noise <= 1.0:
        raise ValueError(f"noise={config.noise}: must be 0 to 1, in units of the action")
    tasks = task_sequence(list(config.env))
    table = Table(title=f"demonstrations in {config.path}")
    for column in ("task", "episodes", "mean steps", "thrown away %"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in tasks:
        store = collect_with_bar(
            task, Path(config.path), episodes=config.episodes, noise=config.noise, workers=config.workers
        )
        discarded = f"{100 * store.attributes['discarded']:.1f}"
        table.add_row(task.name, str(len(store)), f"{store.n_steps / len(store):.0f}", discarded)
    Console().print(table)


if __name__ == "__main__":
    main()
