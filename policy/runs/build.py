"""From options to the objects of a run: policy, windows, replay, method."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reconverge.datasets.store import DemonstrationStore
from reconverge.datasets.uncompressed import open_frames
from reconverge.datasets.windows import Windows
from reconverge.envs.catalog import widest
from reconverge.envs.evaluator import Evaluator
from reconverge.envs.render.sight import numbers_of
from reconverge.envs.seeds import REPLAY
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError
from reconverge.files import write_json
from reconverge.policy.continual.boundaries import Detecting
from reconverge.policy.continual.denoising import Source
from reconverge.policy.continual.learner import Method, Setting
from reconverge.policy.continual.loop import JointSource
from reconverge.policy.continual.optimization import OptimizerOptions
from reconverge.policy.continual.rehearsal import (
    Budget,
    Draw,
    DrawnReplay,
    EpisodicMemory,
    GeneratedReplay,
    Replay,
    ReplaySource,
)
from reconverge.policy.demonstrations.supply import (
    Identities,
    announce,
    complete,
    find_stores,
    identities,
    require_all,
    require_same,
    warn_of_fewer,
)
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.model.batch import Batch, join, widened
from reconverge.policy.model.diffusion import Diffusion
from reconverge.policy.model.generator import WindowGenerator
from reconverge.policy.model.normalizer import Normalizer
from reconverge.policy.model.policy import DiffusionPolicy
from reconverge.policy.runs.configuration import TrainOptions
from reconverge.policy.runs.folder import DEMONSTRATIONS_FILE
from reconverge.policy.runs.loading import (
    PolicySpec,
    make_action_mask,
    make_normalizer,
    make_policy,
    seen_by,
)
from reconverge.seal import signed

TRAINED_BYTES = 4 * 5  # of a parameter: itself, its gradient, AdamW's two, its average
ROLLOUT_EPISODES = 100  # of each earlier task with replay=rollout


@dataclass(frozen=True)
class TaskWindows:
    """One task's windows as batches of the sequence, with the task's index."""

    windows: Windows
    task: int
    padding: int = 0  # entries at the ends of an observation and an action that the task lacks

    @property
    def episode_bytes(self) -> Int[Tensor, " E"]:
        """Return the bytes of each episode's observations and actions, float32 without padding,
        and of pictures that the policy learns from, uint8.
        """
        entries = self.windows.observations.shape[1] + self.windows.actions.shape[1]
        frames = self.windows.frames
        step = 4 * (entries - self.padding) + (0 if frames is None else frames.step_bytes)
        return self.windows.lengths.cpu() * step

    def pool(self, size: int, generator: torch.Generator) -> Source:
        """Return `size` windows, or all of them where pictures would not fit into memory."""
        return self if self.windows.frames is not None else self.sample(size, generator)

    def select(self, episodes: Int[Tensor, " n"]) -> TaskWindows:
        """Return the windows of some episodes."""
        return replace(self, windows=self.windows.select(episodes.to(self.windows.first.device)))

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        observations, actions = self.windows.sample(size, generator)
        return Batch(observations, actions, torch.full((size,), self.task, device=actions.device))


ReadWindows = Callable[[], TaskWindows]


def check_parts(options: TrainOptions, tasks: Sequence[Task]) -> None:
    """Build policy, generator and method once and drop them, to raise what they refuse."""
    spec = make_spec(options, tasks)
    check_memory(options, spec)
    normalizer = make_normalizer(spec, tasks)
    replay = make_replay(options, spec, normalizer, [], None)
    make_method(options, spec, make_policy(spec, normalizer), replay, None)


def check_memory(options: TrainOptions, spec: PolicySpec) -> None:
    """Raise ReconvergeError for networks that are too large for the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with torch.device("meta"):  # shapes without memory
        normalizer = make_normalizer(spec, [])
        makers: dict[str, Callable[[], torch.nn.Module]] = {
            "network": lambda: make_policy(spec, normalizer)
        }
        if options.replay.name == "generator" and not spec.learns_to_see:
            makers["replay.network"] = lambda: make_generator(options, spec, normalizer)
        for name, make in makers.items():
            try:
                needed = TRAINED_BYTES * sum(p.numel() for p in make().parameters())
            except RuntimeError:  # numbers of more than 64 bits
                needed = 2**63
            if needed > memory:
                raise ReconvergeError(
                    f"{name}: its training takes {needed / 1e9:.3g} GB of memory, this machine has "
                    f"{memory / 1e9:.3g}; choose smaller sizes, such as {name}.width=512"
                    + (" encoder.width=64" if spec.learns_to_see else "")
                )


def make_spec(
    options: TrainOptions, tasks: Sequence[Task], begun: PolicySpec | None = None
) -> PolicySpec:
    """Describe the policy of a run on `tasks`.

    A run that has `begun` keeps its sizes, whatever tasks there are by now. ReconvergeError for a
    task that is wider.
    """
    if begun is None:
        suites = [task.suite for task in tasks] + ([options.room_for] if options.room_for else [])
        sizes = [widest(suite, tasks[0].sight) for suite in suites]
        observation_size, action_size = (max(column) for column in zip(*sizes, strict=True))
    else:
        observation_size, action_size = begun.observation_size, begun.action_size
    for task in tasks:
        _check_fits("observation", observation_size, task.observation_size, task, tasks)
        _check_fits("action", action_size, task.action_size, task, tasks)
    return PolicySpec(
        tasks=[task.label for task in tasks],
        network=asdict(options.network),
        diffusion=asdict(options.diffusion),
        **asdict(options.policy),
        observation_size=observation_size,
        action_size=action_size,
        input_frames={t.label: t.input_frame for t in tasks if t.input_frame != "base"},
        action_sizes={t.label: t.action_size for t in tasks if t.action_size < action_size},
        sight=None if options.seeing is None else seen_by(options.seeing),
    )


def _check_fits(what: str, size: int, wanted: int, task: Task, tasks: Sequence[Task]) -> None:
    """Raise ReconvergeError where a task's observation or action is wider than the policy's."""
    if wanted > size:
        raise ReconvergeError(
            f"env={','.join(each.label for each in tasks)}: the run's policy is made for {size} "
            f"numbers in an {what}, {task.label} has {wanted}; begin a new run with all of them, "
            f"or with room_for={task.suite}"
        )


def open_stores(
    options: TrainOptions, tasks: list[Task], folder: Path, begun: Identities
) -> tuple[list[DemonstrationStore], Identities]:
    """Return every task's store, recorded where it is missing, and the identities of all.

    ReconvergeError where demonstrations that the run began with are gone or others.
    """
    wanted, path = options.demonstrations, Path(options.demonstrations.path)
    existing = find_stores(tasks, path)
    found = identities(existing, tasks, wanted.episodes, begun)
    require_same(found, begun, path)
    if not wanted.collect:
        require_all(tasks, existing, path)
    announce(tasks, found, path, wanted.episodes)
    if not wanted.collect:
        warn_of_fewer(found, begun, wanted.episodes)
        write_json(folder / DEMONSTRATIONS_FILE, signed(found))
        return [existing[task.name] for task in tasks], found
    brought = {name: one for name, one in found.items() if one["origin"] == "brought"}
    write_json(folder / DEMONSTRATIONS_FILE, signed(begun | brought))
    stores = complete(
        tasks,
        existing,
        path,
        episodes=wanted.episodes,
        noise=wanted.noise,
        workers=options.workers,
        begun=begun,
    )
    by_name = {task.name: store for task, store in zip(tasks, stores, strict=True)}
    changed = {
        name: store
        for name, store in by_name.items()
        if name not in existing or store.identity() != existing[name].identity()
    }
    found |= identities(changed, tasks, wanted.episodes, begun)
    write_json(folder / DEMONSTRATIONS_FILE, signed(found))
    return stores, found


def make_windows(
    options: TrainOptions,
    spec: PolicySpec,
    store: DemonstrationStore,
    task: Task,
    device: torch.device,
    episodes: int,
) -> ReadWindows:
    """Return a function that reads the first `episodes`, clipped to the task's bounds."""

    def read() -> TaskWindows:
        ends = store.episode_ends[:episodes]
        told = task.observation_size - spec.pixels
        seen = store.observations(list(numbers_of(task)))[: ends[-1]]
        seen = np.clip(seen, task.low[:told], task.high[:told])
        observations = widened(seen, spec.observation_size - spec.pixels)
        actions = widened(store.read(["action"])["action"][: ends[-1]], spec.action_size)
        steps = (spec.n_obs_steps, spec.horizon)
        pictures = {}
        if spec.learns_to_see:
            frames = open_frames(store, task.sight.view.cameras, int(ends[-1]))
            pictures = {"frames": frames, "crop": options.encoder.crop}
        windows = Windows.from_episodes(observations, actions, ends, *steps, device, **pictures)
        padding = spec.observation_size - task.observation_size
        return TaskWindows(windows, task.index, padding + spec.action_size - task.action_size)

    return read


def make_replay(
    options: TrainOptions,
    spec: PolicySpec,
    normalizer: Normalizer,
    windows: Sequence[ReadWindows],
    evaluator: Evaluator | None,
) -> Replay | None:
    """Make the replay that `replay=` names; `evaluator` is needed for rollouts alone."""
    chosen = options.replay
    if chosen.name == "none":
        return None
    source: ReplaySource
    if chosen.name == "demonstrations":
        budget = Budget(chosen.budget, chosen.budget_unit, options.seed)
        source = EpisodicMemory(lambda task: windows[task](), budget)
        if chosen.budget is not None:
            budget.check(_episode_bytes(windows, len(spec.tasks))[:-1])
    elif chosen.name == "rollout" or spec.learns_to_see:  # a generator makes no pictures
        source = DrawnReplay(_rollouts(evaluator))
    elif chosen.name != "generator":
        raise ReconvergeError(f"replay={chosen.name}: a row that make_replay does not know")
    else:
        source = GeneratedReplay(
            make_generator(options, spec, normalizer),
            OptimizerOptions(
                learning_rate=chosen.learning_rate, precision=options.optimizer.precision
            ),
            updates=chosen.updates,
            batch_size=options.batch_size,
            pool=chosen.pool,
        )
    return Replay(source, chosen.batch_size, chosen.pool)


def _episode_bytes(windows: Sequence[ReadWindows], tasks: int) -> list[Tensor]:
    """Return the bytes of every task's episodes; before there are any, one of a byte a task."""
    if not windows:
        return [torch.ones(1, dtype=torch.int64)] * tasks
    return [read().episode_bytes for read in windows]


def make_generator(
    options: TrainOptions, spec: PolicySpec, normalizer: Normalizer
) -> WindowGenerator:
    """Make a fresh generator of the windows that the policy sees, on the normaliser's device."""
    device = normalizer.low.device
    diffusion = Diffusion(options.replay.diffusion, device)
    network, mask = options.replay.network, make_action_mask(spec)
    return WindowGenerator(options.policy, network, diffusion, normalizer, mask).to(device)


def make_method(
    options: TrainOptions,
    spec: PolicySpec,
    policy: DiffusionPolicy,
    replay: Replay | None,
    windows: Sequence[ReadWindows] | None,
) -> Method:
    """Make the method that `method=` names."""
    setting = Setting(
        denoiser=policy,
        optimizer=options.optimizer,
        replay=replay,
        fisher=options.fisher,
        all_tasks=None if windows is None else lambda: JointSource([read() for read in windows]),
        batch_size=options.batch_size,
        tasks=len(spec.tasks),
        seed=options.seed,
    )
    if options.boundaries == "detected":
        policy.normalizer.fill()
    method: Method = options.method.build(setting)
    if options.boundaries == "detected":
        method = Detecting(method, setting)
    if method.uses_replay and spec.learns_to_see and options.replay.name != "demonstrations":
        raise ReconvergeError(
            f"replay={options.replay.name}: has no pictures, from which encoder="
            f"{options.encoder.name} learns; add replay=demonstrations replay.budget=<episodes>, "
            "or choose a frozen encoder, such as encoder=efficientnet_lite0"
        )
    of_generator = method.uses_replay and options.replay.name == "generator"
    if of_generator and options.batch_size < setting.tasks:
        raise ReconvergeError(
            f"batch_size={options.batch_size}: the generator's batches hold every task: at least "
            f"{setting.tasks}"
        )
    return method


def _rollouts(evaluator: Evaluator | None) -> Draw:
    """Draw windows of the teacher's own successful rollouts."""

    def draw(teacher: DiffusionPolicy, task: int, count: int, generator: torch.Generator) -> Batch:
        assert evaluator is not None
        actor = PolicyActor(teacher, task, recording=True)
        results = evaluator.rollouts(actor, task, REPLAY[:ROLLOUT_EPISODES])
        solved = [window for r in results if r.success for window in actor.windows[r.seed]]
        if not solved:
            raise ReconvergeError(
                f"replay=rollout: the previous policy solved none of {ROLLOUT_EPISODES} episodes "
                f"of task {task}; raise updates_per_task or choose another replay="
            )
        return join(solved).sample(count, generator)

    return draw
