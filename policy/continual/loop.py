"""The task-sequence loop: learn, probe how earlier tasks recover, evaluate all, save, next task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.boundaries import Detecting
from reconverge.policy.continual.denoising import Batch, Purpose, Source, random_stream
from reconverge.policy.continual.learner import Method
from reconverge.policy.model.batch import join
from reconverge.schema import read_record

Evaluate = Callable[[Any, int, int], list[bool]]
"""evaluate(model, task, n): the success of the first n evaluation episodes, in their order"""
SERIES = tuple(digit * 10**power for power in range(1, 9) for digit in (1, 2, 5))
DENSE = (2, 4, 6, 8, 10, 15, 20, 30, 50, *SERIES[3:])
"""Update counts at which recovery is probed: dense early, then 100, 200, 500, 1000, ..."""
COARSE = SERIES[::2]
"""A few of them, for many tasks: 10, 50, 200, 1000, 5000, ..."""


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
    """Success of a task at one update of a later one, or of its own."""

    while_learning: int
    task: int
    update: int
    successes: list[bool]


@dataclass(frozen=True)
class Distance:
    """How far what is generated of a task is from what is real, at one update of a task."""

    while_learning: int
    task: int
    update: int
    samples: int  # that were generated
    value: float


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
    distances: list[Distance] = field(default_factory=list)  # where something is generated
    elapsed_seconds: float = 0.0  # of the run, up to its newest checkpoint
    peak_memory_mib: int = 0
    boundaries: list[list[int]] = field(default_factory=list)  # task, update: where they were found

    @classmethod
    def from_json(cls, value: Any, where: str) -> Progress:
        """Read what `asdict` gave; ReconvergeError, beginning with `where`, for anything else."""
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
class Probing:
    """Which tasks are probed, and how finely."""

    rollouts: int = 0  # the first of the evaluation's episodes; 0: no probes
    tasks: int | None = None  # the first tasks of the sequence that are probed; None: all
    dense: int | None = None  # the first of these, at DENSE, the others at COARSE; None: all
    current: int = 0  # probes of the task being learned, evenly spaced to its last update

    def earlier(self, learning: int) -> range:
        """Return the earlier tasks that are probed while task `learning` is learned."""
        return range(learning if self.rollouts else 0)[: self.tasks]

    def due(self, learning: int, update: int, updates: int) -> list[int]:
        """Return the tasks to probe after `update` of the `updates` on task `learning`.

        Every task that is probed at all is so at the last update.
        """
        if not self.rollouts:
            return []
        earlier = self.earlier(learning)
        fine = earlier[: self.dense]
        even = {updates * (i + 1) // self.current for i in range(self.current)}
        return [
            task
            for task in earlier
            if update == updates or update in (DENSE if task in fine else COARSE)
        ] + [learning] * (update in even)


@dataclass(frozen=True)
class LoopSettings:
    """The clock of a task sequence."""

    updates_per_task: int
    batch_size: int
    checkpoint_every: int  # updates
    seed: int
    n_rollouts: int  # evaluation episodes of each task
    probing: Probing


def learn_tasks(
    method: Method,
    data: Sequence[Callable[[], Source]],
    evaluate: Evaluate,
    observer: Observer,
    settings: LoopSettings,
    progress: Progress,
    resume: dict[str, Tensor] | None = None,
) -> Progress:
    """Learn the tasks of `data` in order, from `progress` on; `resume` is the method's state there.

    Every task seen is evaluated after each task; `settings.probing` says which are probed in
    between. A task is ended, its replay prepared, when the next one begins: at the end of `data`
    nothing tells whether there will be more, and the sequence may go on from there. A
    DivergenceError (a loss that is not finite) leaves the last checkpoint in place.
    """

    def begun(task: int) -> list[bool]:
        """Return the last probe: the beginning of the evaluation."""
        return progress.successes[-1][task][: settings.probing.rollouts]

    if resume is not None:
        method.load_state_dict(resume)
    if resume is not None and progress.task and not progress.update:
        method.begin_task(progress.task - 1, settings.updates_per_task, continued=True)
    while progress.task < len(data):
        if progress.task and not progress.update:
            _end_task(method, data[progress.task - 1](), observer, progress)
        source = data[progress.task]()
        _learn_task(method, source, evaluate, observer, settings, progress)
        with _Clock(progress, "evaluation_seconds"):
            n, seen = settings.n_rollouts, range(progress.task + 1)
            row = [evaluate(method.model_of(task), task, n) for task in seen]
        progress.successes.append(row)
        _add_probes(progress, settings, begun)
        observer.task_ended(progress)
        progress.task, progress.update = progress.task + 1, 0
        observer.save(progress, method.state_dict(), ended=True)
    return progress


def _end_task(method: Method, source: Source, observer: Observer, progress: Progress) -> None:
    """End the task before the one to come."""
    with _Clock(progress, "training_seconds"):
        for update, updates, loss in method.end_task(source):
            observer.generator_updated(progress, update, updates, loss)


def _end_segment(method: Detecting, observer: Observer, progress: Progress) -> None:
    """End what the method takes for a task, at the boundary that it has noticed."""
    progress.boundaries.append([progress.task, progress.update])
    with _Clock(progress, "training_seconds"):
        for update, updates, loss in method.end_segment():
            observer.generator_updated(progress, update, updates, loss)


def _learn_task(
    method: Method,
    source: Source,
    evaluate: Evaluate,
    observer: Observer,
    settings: LoopSettings,
    progress: Progress,
) -> None:
    """Take all updates of one task, probe on the way, save now and then."""
    updates = settings.updates_per_task
    with _Clock(progress, "training_seconds"):
        method.begin_task(progress.task, updates, continued=progress.update > 0)

    def probe(task: int) -> list[bool]:
        return evaluate(method.model_of(task), task, settings.probing.rollouts)

    while progress.update < updates:
        with _Clock(progress, "training_seconds"):
            key = (settings.seed, progress.task, Purpose.DATA, progress.update)
            stream = random_stream(torch.device("cpu"), *key)
            metrics = method.update(source.sample(settings.batch_size, stream))
        progress.update += 1
        if isinstance(method, Detecting) and method.noticed:
            _end_segment(method, observer, progress)
        observer.updated(progress, metrics)
        if progress.update < updates:
            with _Clock(progress, "evaluation_seconds"):
                probed = _add_probes(progress, settings, probe)
            if probed:
                observer.probed(progress)
        if progress.update % settings.checkpoint_every == 0 or progress.update == updates:
            observer.save(progress, method.state_dict(), ended=False)


def _add_probes(
    progress: Progress, settings: LoopSettings, probe: Callable[[int], list[bool]]
) -> bool:
    """Record the success of every task that is to be probed now; return whether there is any."""
    due = settings.probing.due(progress.task, progress.update, settings.updates_per_task)
    for task in due:
        progress.probes.append(Probe(progress.task, task, progress.update, probe(task)))
    return bool(due)


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
