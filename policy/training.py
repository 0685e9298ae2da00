"""The task-sequence loop: learn a task, probe how the earlier ones recover, evaluate all, save, next task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from datasets.windows import Windows
from policy.agent import Batch, DiffusionPolicy, WindowSource, join
from policy.methods.base import Method, random_stream
from policy.metrics import probe_grid

Evaluate = Callable[[DiffusionPolicy, int], list[bool]]
"""evaluate(policy, task): the success of every evaluation rollout of that task, in the order of their seeds"""


@dataclass(frozen=True)
class TaskWindows:
    """One task's windows as batches of the sequence: the task's index and the padded observations with them."""

    windows: Windows
    task: int

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        observations, actions = self.windows.sample(size, generator)
        return Batch(observations, actions, torch.full((size,), self.task, device=actions.device))


@dataclass(frozen=True)
class JointWindows:
    """Windows of several tasks, as many of each."""

    sources: Sequence[WindowSource]

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        n = len(self.sources)
        counts = [size // n + (i < size % n) for i in range(n)]
        return join([s.sample(count, generator) for s, count in zip(self.sources, counts, strict=True) if count])


@dataclass
class Progress:
    """Where a run is and what it has measured; JSON through and through, saved in every checkpoint."""

    task: int = 0
    update: int = 0  # of the current task
    successes: list[list[list[bool]]] = field(default_factory=list)  # [after task i][task j][rollout]
    probes: list[dict[str, Any]] = field(default_factory=list)  # {while_learning, task, update, successes}
    diverged: int = 0  # rollouts whose simulation failed
    demonstration_seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    cpu_seconds: float = 0.0  # of training, over all threads: what a busy machine does not change


class Observer(Protocol):
    """What a run's record and its progress bar hear of; see `policy.record`."""

    def updated(self, progress: Progress, metrics: dict[str, float]) -> None: ...
    def probed(self, progress: Progress) -> None: ...
    def generator_updated(self, progress: Progress, update: int, updates: int, loss: float) -> None: ...
    def task_ended(self, progress: Progress) -> None: ...
    def save(self, progress: Progress, state: dict[str, Tensor], ended: bool) -> None: ...


@dataclass(frozen=True)
class LoopSettings:
    updates_per_task: int
    batch_size: int
    checkpoint_every: int  # updates
    seed: int
    probe_tasks: int | None = None  # the first tasks of the sequence, which probes run on; None: all


def train(
    method: Method,
    windows: Sequence[Callable[[], WindowSource]],
    evaluate: Evaluate,
    probe: Evaluate | None,
    observer: Observer,
    settings: LoopSettings,
    progress: Progress,
    resume: dict[str, Tensor] | None = None,
) -> Progress:
    """Learn the tasks of `windows` in order, from `progress` on; `resume` is the method's state there.

    `evaluate` measures every task seen after each task, `probe` the earlier tasks while a new one is learned.

    A FloatingPointError (a loss that is not finite) leaves the last checkpoint in place.
    """
    if resume is not None:
        method.load_state_dict(resume)
    while progress.task < len(windows):
        source = windows[progress.task]()
        _learn(method, source, probe, observer, settings, progress)
        last = progress.task == len(windows) - 1
        with _Clock(progress, "training_seconds"):
            for update, updates, loss in method.end_task(source, last):
                observer.generator_updated(progress, update, updates, loss)
        with _Clock(progress, "evaluation_seconds"):
            row = [evaluate(method.policy_of(task), task) for task in range(progress.task + 1)]
        progress.successes.append(row)
        observer.task_ended(progress)
        progress.task, progress.update = progress.task + 1, 0
        observer.save(progress, method.state_dict(), ended=True)
    return progress


def _learn(
    method: Method,
    source: WindowSource,
    probe: Evaluate | None,
    observer: Observer,
    settings: LoopSettings,
    progress: Progress,
) -> None:
    """All updates of one task, with probes of the earlier tasks on the grid and a checkpoint now and then."""
    with _Clock(progress, "training_seconds"):
        method.begin_task(progress.task, settings.updates_per_task, continued=progress.update > 0)
    grid = set(probe_grid(settings.updates_per_task)) if probe is not None and progress.task else set()
    while progress.update < settings.updates_per_task:
        with _Clock(progress, "training_seconds"):
            stream = random_stream(torch.device("cpu"), settings.seed, progress.task, 4, progress.update)
            metrics = method.update(source.sample(settings.batch_size, stream))
        progress.update += 1
        observer.updated(progress, metrics)
        if probe is not None and progress.update in grid:
            with _Clock(progress, "evaluation_seconds"):
                _probe(method, probe, settings.probe_tasks, progress)
            observer.probed(progress)
        if progress.update % settings.checkpoint_every == 0 or progress.update == settings.updates_per_task:
            observer.save(progress, method.state_dict(), ended=False)


def _probe(method: Method, evaluate: Evaluate, tasks: int | None, progress: Progress) -> None:
    for task in range(progress.task)[:tasks]:
        progress.probes.append(
            {
                "while_learning": progress.task,
                "task": task,
                "update": progress.update,
                "successes": evaluate(method.policy_of(task), task),
            }
        )


class _Clock:
    """Adds the time spent inside to a field of the progress; of training, the processor's too."""

    def __init__(self, progress: Progress, name: str):
        self._progress, self._name = progress, name

    def __enter__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_) -> None:
        spent = time.perf_counter() - self._start
        setattr(self._progress, self._name, getattr(self._progress, self._name) + spent)
        if self._name == "training_seconds":
            self._progress.cpu_seconds += time.process_time() - self._cpu
