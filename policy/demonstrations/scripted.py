"""Record demonstrations of scripted experts, with noise on the executed action and clean labels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reconverge.datasets.layout import StoreWarning
from reconverge.datasets.store import EXPERT, DemonstrationStore, Episode, StoreError
from reconverge.envs.cameras import View
from reconverge.envs.render.sight import learns_to_see
from reconverge.envs.rollout import Rollout, rollout
from reconverge.envs.seeds import DEMONSTRATION
from reconverge.envs.task import Expert, Task, require_experts
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.files import alone
from reconverge.progress import progress_bar

SLOTS = 50  # episodes that run at the same time
PICTURE_BYTES = 2**31  # of the pictures of running episodes
EPISODES_PER_APPEND = 8
MAX_TRIES_PER_SUCCESS = 20  # before giving up


@dataclass
class _Steps:
    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)  # [cameras, size, size, 3]


class NoisyExpert:
    """An actor that executes an expert's actions with noise and records those without as labels
    (DART, Laskey et al. 2017, arXiv 1703.09327).

    Noise: Gaussian with standard deviation `noise` in action units on every dimension but the
    gripper.
    """

    n_obs_steps = 1

    def __init__(self, env: VectorEnv, noise: float):
        self._task, self._noise, self._env = env.task, noise, env
        self._make = lambda: env.task.expert(env.simulator.landmarks)
        self._experts: dict[int, Expert] = {}
        self._rng: dict[int, np.random.Generator] = {}
        self.recordings: dict[int, _Steps] = {}

    def begin(self, slot: int, seed: int) -> None:
        self._experts[slot] = self._make()
        self._rng[slot] = np.random.default_rng([seed, 2])
        self.recordings[slot] = _Steps()

    def act(self, slots: Sequence[int], history: np.ndarray) -> np.ndarray:
        if takes_pictures(self._env):
            for slot, pictures in zip(slots, self._env.look(slots), strict=True):
                self.recordings[slot].pictures.append(pictures)
        actions = [self._act(slot, h[-1]) for slot, h in zip(slots, history, strict=True)]
        return np.stack(actions)[:, None]

    def _act(self, slot: int, observation: np.ndarray) -> np.ndarray:
        action = self._experts[slot].act(self._task.split(observation)).clip(-1.0, 1.0)
        executed = action.copy()
        executed[:-1] += self._rng[slot].normal(0.0, self._noise, len(action) - 1)
        executed = np.clip(executed, -1.0, 1.0)
        recording = self.recordings[slot]
        recording.observations.append(observation)
        recording.actions.append(action)
        recording.executed.append(executed)
        return executed


def record(
    env: VectorEnv, noise: float, seeds: Sequence[int], keep: Callable[[list[Episode]], None]
) -> None:
    """Run the noisy expert from `seeds`; pass the successful episodes to `keep` in the order of
    their seeds, as soon as all earlier ones have ended, also when something interrupts.
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
        ended[result.seed] = _episode(env, result.seed, recording) if result.success else None
        flush(EPISODES_PER_APPEND)

    try:
        rollout(env, expert, seeds, on_end)
    finally:
        flush(1)


def takes_pictures(env: VectorEnv) -> bool:
    """Tell whether pictures are recorded, and not an encoder's features of them."""
    return env.view is not None and not env.task.sight


def _episode(env: VectorEnv, seed: int, recording: _Steps) -> Episode:
    cameras = env.view.cameras if env.view and takes_pictures(env) else ()
    pictures = np.stack(recording.pictures, axis=1) if cameras else ()
    steps = len(recording.actions)
    ended = np.arange(steps) == steps - 1
    return Episode(
        observations=env.task.split(np.stack(recording.observations)),
        action=np.stack(recording.actions).astype(np.float32),
        reward=ended.astype(np.float32),
        success=ended,
        extras={"executed_action": np.stack(recording.executed).astype(np.float32)},
        scalars={"seed": seed},
        pictures=dict(zip(cameras, pictures, strict=True)),
    )


def open_or_create(env: VectorEnv, path: Path, noise: float, episodes: int) -> DemonstrationStore:
    """Open the store of these demonstrations, for reading if it is complete, else for appending;
    create it if there is none.

    Raises StoreError for a store of another task, expert, noise or simulator.
    """
    task, simulator = env.task, env.simulator
    identity = {
        "task": task.name,
        EXPERT: task.expert_name,
        "noise": noise,
        "simulator": simulator.fingerprint,
        "bounds": [task.low.tolist(), task.high.tolist()],
    }
    if task.sight:
        identity["sight"] = task.sight.fingerprint
    facts = env.picture_facts if env.view else {}
    renderer = {name: value for name, value in facts.items() if name in ("renderer", "faces")}
    pictured = env.view if takes_pictures(env) else None
    pictures = dict.fromkeys(pictured.cameras, pictured.shape[1:]) if pictured else {}
    if not path.exists():
        return DemonstrationStore.create(
            path,
            task.sizes,
            task.action_size,
            {
                **identity,
                **renderer,
                "versions": simulator.versions,
                "seeds_from": DEMONSTRATION.start,
                **({"language_instruction": task.language} if task.language else {}),
            },
            extra_sizes={"executed_action": task.action_size},
            scalar_types={"seed": "int64"},
            pictures=pictures,
        )
    store = DemonstrationStore.open(path)
    store.require(
        action_size=task.action_size,
        observation_sizes=task.sizes,
        versions=simulator.versions,
        strict=True,
        **identity,
    )
    for name, now in renderer.items():
        if (was := store.attributes.get(name, "unknown")) != now:
            said = f"{path}: {name} of its pictures: {was}, here: {now}"
            warnings.warn(said, StoreWarning, 2)
    complete = len(store) >= episodes and store.attributes.get("attempts") == _attempts(store)
    if store.pictures != pictures and (pictures or not complete):
        raise StoreError(
            f"{path}: has pictures of {_listed(store.pictures)}, wanted {_listed(pictures)}; give "
            "another path, or delete it to record it again"
        )
    return store if complete else DemonstrationStore.open(path, "a")


def collect(
    task: Task,
    path: Path,
    *,
    episodes: int,
    noise: float,
    workers: int | None = None,
    view: View | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DemonstrationStore:
    """Make or complete the store at `path`: the first `episodes` seeds that the noisy expert
    solves, with the pictures of a `view`.

    Interrupted, it keeps its finished episodes and goes on from there. `progress(done, tried)` is
    called as it grows. Raises StoreError for a store of another task, noise or simulator, and
    ReconvergeError if the expert hardly ever succeeds.
    """
    require_experts([task])
    if learns_to_see(task):
        task, view = task.sight.told(task), task.sight.view
    elif task.sight:
        task = task.sight.whole(task)  # the expert reads the state
    slots = min(SLOTS, episodes)
    if view is not None:
        slots = max(1, min(slots, PICTURE_BYTES // (task.max_steps * math.prod(view.shape))))
    with alone(path), VectorEnv(task, slots, workers, view=view) as env:
        store = open_or_create(env, path, noise, episodes)
        recorded = store.scalars()["seed"]
        start = int(recorded[-1]) + 1 if len(recorded) else DEMONSTRATION.start

        def keep(found: list[Episode]) -> None:
            # Interrupted after the store took them, the same episodes come once more.
            known = store.scalars()["seed"]
            new = [episode for episode in found if episode.scalars["seed"] not in known]
            store.extend(new[: episodes - len(store)])
            if progress is not None:
                progress(len(store), int(found[-1].scalars["seed"]) + 1 - DEMONSTRATION.start)

        while len(store) < episodes:
            tried = start - DEMONSTRATION.start
            if tried > MAX_TRIES_PER_SUCCESS * (len(store) + SLOTS):
                raise ReconvergeError(
                    f"{task.name}: the expert solved {len(store)} of {tried} episodes with "
                    f"noise={noise}; lower noise"
                )
            stop = start + episodes - len(store)
            record(env, noise, range(start, stop), keep)
            start = stop
        tried = _attempts(store)
        if store.attributes.get("attempts") != tried:
            store.update_attributes({"attempts": tried, "discarded": 1.0 - len(store) / tried})
    return store


def _listed(pictures: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{camera} ({rows[0]} pixels)" for camera, rows in pictures.items()) or "none"


def store_path(folder: Path, task: Task) -> Path:
    """Return where the demonstrations of a task lie: `folder/<task>.zarr`, with the name of its
    sight before the ending where it is seen in pictures.
    """
    seen = f".{task.sight.name}" if task.sight else ""
    return folder / f"{task.name}{seen}.zarr"


def _attempts(store: DemonstrationStore) -> int:
    """Return the number of episodes that were tried for those in the store."""
    return int(store.scalars()["seed"][-1]) + 1 - DEMONSTRATION.start


def collect_with_bar(
    task: Task,
    folder: Path,
    *,
    episodes: int,
    noise: float,
    workers: int | None,
    view: View | None = None,
    held: int = 0,
) -> DemonstrationStore:
    """Collect into the task's store in `folder`, which has `held` episodes, behind a bar."""
    path, title = store_path(folder, task), f"demonstrations of {task.name}"
    with progress_bar(title, "episode", episodes, done=min(held, episodes)) as bar:

        def show(done: int, tried: int) -> None:
            bar.update(done - bar.n)
            bar.set_postfix(tried=tried, refresh=False)

        store = collect(
            task,
            path,
            episodes=episodes,
            noise=noise,
            workers=workers,
            view=view,
            progress=show,
        )
        bar.update(episodes - bar.n)
    return store
