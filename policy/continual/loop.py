"""The task-sequence loop: learn, probe how earlier tasks recover, evaluate all, save, next task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import Batch, Purpose, Source, random_stream
from reconverge.policy.continual.learner import Method
from reconverge.policy.model.batch import join
from reconverge.schema import read_record

Evaluate = Callable[[Any, int], list[bool]]
"""evaluate(model, task): the success of every evaluation episode, in the order of the seeds"""


@dataclass(frozen=True)
class JointSource:
    """Samples of several tasks, as many of each."""

    sources: Sequence[Source]

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        n = len(self.sources)
        counts = [size // n + (i < size % n) for i in range(n)]
        drawn = zip(self.sources, counts, strict=True)
        return join([source.sample(count, generator) for source, count in drawn if count])


@dataclass(frozen=True)
class Probe:
    """Success of an earlier task at one update of a later one."""

    while_learning: int
    task: int
    update: int
    successes: list[bool]


@dataclass
class Progress:
    """Where a run is and what it has measured; saved in every checkpoint."""

    task: int = 0
    update: int = 0  # of the current task
    successes: list[list[list[bool]]] = field(default_factory=list)  # [after task][task][episode]
    probes: list[Probe] = field(default_factory=list)
    diverged: int = 0  # rollouts whose simulation failed
    demonstration_seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    cpu_seconds: float = 0.0  # of training, over all threads: what a busy machine does not change

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Progress:
        """Read what `to_json` wrote; ReconvergeError, beginning with `where`, for anything else."""
        progress = read_record(cls, value, f"{where}: progress")
        if progress.task < 0 or progress.update < 0 or len(progress.successes) < progress.task:
            raise ReconvergeError(f"{where}: progress contradicts itself; restore it")
        return progress


class Observer(Protocol):
    """Hears of everything that happens: a run's record and its progress bar."""

    def updated(self, progress: Progress, metrics: dict[str, float]) -> None: ...
    def probed(self, progress: Progress) -> None: ...
    def generator_updated(
        self, progress: Progress, update: int, updates: int, loss: float
    ) -> None: ...
    def task_ended(self, progress: Progress) -> None: ...
    def save(self, progress: Progress, state: dict[str, Tensor], ended: bool) -> None: ...


@dataclass(frozen=True)
class LoopSettings:
    """The clock of a task sequence."""

    updates_per_task: int
    batch_size: int
    checkpoint_every: int  # updates
    seed: int
    probe_tasks: int | None = None  # the first tasks of the sequence that are probed; None: all


def learn_tasks(
    method: Method,
    data: Sequence[Callable[[], Source]],
    evaluate: Evaluate,
    probe: Evaluate | None,
    observer: Observer,
    settings: LoopSettings,
    progress: Progress,
    resume: dict[str, Tensor] | None = None,
) -> Progress:
    """Learn the tasks of `data` in order, from `progress` on; `resume` is the method's state there.

    `evaluate` measures every task seen after each task, `probe` the earlier tasks while a new one
    is learned. A DivergenceError (a loss that is not finite) leaves the last checkpoint in place.
    """
    if resume is not None:
        method.load_state_dict(resume)
    while progress.task < len(data):
        source = data[progress.task]()
        _learn_task(method, source, probe, observer, settings, progress)
        last = progress.task == len(data) - 1
        with _Clock(progress, "training_seconds"):
            for update, updates, loss in method.end_task(source, last):
                observer.generator_updated(progress, update, updates, loss)
        with _Clock(progress, "evaluation_seconds"):
            row = [evaluate(method.model_of(task), task) for task in range(progress.task + 1)]
        progress.successes.append(row)
        observer.task_ended(progress)
        progress.task, progress.update = progress.task + 1, 0
        observer.save(progress, method.state_dict(), ended=True)
    return progress


def _learn_task(
    method: Method,
    source: Source,
    probe: Evaluate | None,
    observer: Observer,
    settings: LoopSettings,
    progress: Progress,
) -> None:
    """Take all updates of one task, probe earlier tasks on the grid, save now and then."""
    updates = settings.updates_per_task
    with _Clock(progress, "training_seconds"):
        method.begin_task(progress.task, updates, continued=progress.update > 0)
    grid = set(probe_grid(updates)) if probe is not None and progress.task else set()
    while progress.update < updates:
        with _Clock(progress, "training_seconds"):
            key = (settings.seed, progress.task, Purpose.DATA, progress.update)
            stream = random_stream(torch.device("cpu"), *key)
            metrics = method.update(source.sample(settings.batch_size, stream))
        progress.update += 1
        observer.updated(progress, metrics)
        if probe is not None and progress.update in grid:
            with _Clock(progress, "evaluation_seconds"):
                _probe(method, probe, settings.probe_tasks, progress)
            observer.probed(progress)
        if progress.update % settings.checkpoint_every == 0 or progress.update == updates:
            observer.save(progress, method.state_dict(), ended=False)


def probe_grid(updates_per_task: int) -> list[int]:
    """Return the update counts at which recovery is probed, dense early, the last included."""
    grid = [2, 4, 6, 8, 10, 15, 20, 30, 50]
    decade = 100
    while decade < updates_per_task:
        grid += [decade, 2 * decade, 5 * decade]
        decade *= 10
    return [count for count in grid if count < updates_per_task] + [updates_per_task]


def _probe(method: Method, evaluate: Evaluate, tasks: int | None, progress: Progress) -> None:
    for task in range(progress.task)[:tasks]:
        successes = evaluate(method.model_of(task), task)
        progress.probes.append(Probe(progress.task, task, progress.update, successes))


class _Clock:
    """Adds the time spent inside to a field of the progress; of training, the processor's too."""

    def __init__(self, progress: Progress, name: str):
        self._progress, self._name = progress, name

    def __enter__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._start
        setattr(self._progress, self._name, getattr(self._progress, self._name) + spent)
        if self._name == "training_seconds":
            self._progress.cpu_seconds += time.process_time() - self._cpu
