"""Where samples of earlier tasks come from while a new one is learned: the `replay=` switch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import (
    Batch,
    Denoiser,
    Purpose,
    Source,
    corrupt,
    errors,
    random_stream,
    taught_by,
)
from reconverge.policy.continual.optimization import Optimization, OptimizerOptions
from reconverge.policy.model.batch import join

GeneratorUpdate = tuple[int, int, float]
"""update of the generator, number of its updates, loss"""

BUDGET_UNITS = ("episodes", "bytes")

Draw = Callable[[Any, int, int, torch.Generator], Source]
"""draw(teacher, task, count, generator): samples of a task; the teacher is the model so far"""


class ReplaySource(Protocol):
    """`draw` is called for every earlier task as a task begins, `end_task` when it is learned."""

    def draw(self, teacher: Any, task: int, count: int, generator: torch.Generator) -> Source: ...
    def end_task(
        self, task: int, data: Source, generator: torch.Generator
    ) -> Iterator[GeneratorUpdate]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...
    @property
    def memory_bytes(self) -> int: ...  # of what is kept of the tasks learned


@dataclass(frozen=True)
class Replay:
    """A source of samples of earlier tasks, and how much of it a learner uses."""

    source: ReplaySource
    batch_size: int  # replayed samples in an update
    pool: int  # samples drawn for each earlier task when a task begins


def required(replay: Replay | None, method: str) -> Replay:
    """Return the replay of a method that is nothing without it; ReconvergeError for None."""
    if replay is None:
        raise ReconvergeError(
            f"method={method} replay=none would replay nothing; choose a replay=, or "
            "method=finetune"
        )
    return replay


class DrawnReplay:
    """Samples from outside, such as rollouts of the frozen previous policy; nothing is kept."""

    memory_bytes = 0

    def __init__(self, draw: Draw):
        self.draw = draw

    def end_task(
        self, task: int, data: Source, generator: torch.Generator
    ) -> Iterator[GeneratorUpdate]:
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class Recording(Source, Protocol):
    """Demonstrations of one task."""

    @property
    def episode_bytes(self) -> Int[Tensor, " E"]: ...
    def select(self, episodes: Int[Tensor, " n"]) -> Recording: ...
    def pool(self, size: int, generator: torch.Generator) -> Source: ...  # as many samples, or all


@dataclass(frozen=True)
class Budget:
    """What is kept of all earlier tasks together, in whole episodes and equal shares.

    A share shrinks as tasks come, so a task's episodes are the first of an order that the seed
    draws: the fewer kept later are among those kept before (a ring buffer of Chaudhry et al. 2019,
    arXiv 1902.10486).
    """

    amount: int | None  # None: everything
    unit: str  # of BUDGET_UNITS
    seed: int

    def keep(self, task: int, tasks: int, sizes: Int[Tensor, " E"]) -> Int[Tensor, " n"]:
        """Return the episodes, of these bytes, of one of `tasks` earlier tasks that are kept."""
        if self.amount is None:
            return torch.arange(len(sizes))
        order, costs = self._order(task, sizes)
        share = -((task - self.amount) // tasks)  # the remainder goes to the first tasks
        return order[costs.cumsum(0) <= share].sort().values

    def check(self, sizes: Sequence[Int[Tensor, " E"]]) -> None:
        """Raise ReconvergeError where no episode is kept of one of all the earlier tasks."""
        tasks = len(sizes)
        first = [int(self._order(task, of_task)[1][0]) for task, of_task in enumerate(sizes)]
        least = max(((cost - 1) * tasks + task + 1 for task, cost in enumerate(first)), default=0)
        if self.amount is not None and self.amount < least:
            raise ReconvergeError(
                f"replay.budget={self.amount} {self.unit}: too little for an episode of each of "
                f"{tasks} earlier tasks; give at least {least}, or null for everything"
            )

    def _order(self, task: int, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the episodes of a task, first those that are kept longest, and their costs."""
        stream = random_stream(torch.device("cpu"), self.seed, task, Purpose.MEMORY)
        order = torch.randperm(len(sizes), generator=stream)
        return order, sizes[order] if self.unit == "bytes" else torch.ones_like(order)


class EpisodicMemory:
    """Stored demonstrations of earlier tasks, as many of them as a budget allows."""

    def __init__(self, read: Callable[[int], Recording], budget: Budget):
        self.read, self.budget = read, budget
        self.learned = 0  # tasks

    @property
    def memory_bytes(self) -> int:
        return sum(int(self.kept(task).episode_bytes.sum()) for task in range(self.learned))

    def kept(self, task: int) -> Recording:
        """Return what is kept of a task, now that `learned` have been."""
        recording = self.read(task)
        if self.budget.amount is None:
            return recording
        return recording.select(self.budget.keep(task, self.learned, recording.episode_bytes))

    def draw(self, teacher: Any, task: int, count: int, generator: torch.Generator) -> Source:
        return self.kept(task).pool(count, generator)

    def end_task(
        self, task: int, data: Source, generator: torch.Generator
    ) -> Iterator[GeneratorUpdate]:
        self.learned = task + 1
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        return {"learned": torch.tensor(self.learned)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.learned = int(state.get("learned", 0))


class Generator(Denoiser, Protocol):
    """A denoiser that samples from itself: the model of `GeneratedReplay`."""

    normalizer: torch.nn.Module  # its state is saved beside the parameters

    def measure(self, task: int, data: Source, generator: torch.Generator) -> None: ...
    def generate(self, task: int, count: int, generator: torch.Generator) -> Batch: ...


class GeneratedReplay:
    """Samples of a generator that is trained continually: no data and no simulator are kept."""

    def __init__(
        self, model: Any, options: OptimizerOptions, *, updates: int, batch_size: int, pool: int
    ):
        self._optimization = Optimization(model, options)
        self.updates, self.batch_size, self.pool = updates, batch_size, pool
        self._drawn: dict[int, Batch] = {}  # of earlier tasks, since the generator was trained last

    @property
    def generator(self) -> Any:
        return self._optimization.average

    @property
    def memory_bytes(self) -> int:
        return self._optimization.average_vector.nbytes

    def draw(self, teacher: Any, task: int, count: int, generator: torch.Generator) -> Batch:
        self._drawn[task] = self._optimization.average.generate(task, count, generator)
        return self._drawn[task]

    def end_task(
        self, task: int, data: Source, generator: torch.Generator
    ) -> Iterator[GeneratorUpdate]:
        """Train on `data`, and match the generator so far on its own samples of earlier tasks.

        The samples are those that the policy rehearsed on, where it did. Yield every update.
        """
        optimization = self._optimization
        model, teacher = optimization.model, copy.deepcopy(optimization.average)
        earlier = [
            self._drawn.get(i) or teacher.generate(i, self.pool, generator) for i in range(task)
        ]
        old = join(earlier) if earlier else None
        model.measure(task, data, generator)
        optimization.begin(self.updates, settled=task > 0)
        share = self.batch_size // (task + 1)  # an equal share for every task
        for update in range(self.updates):
            batch = data.sample(self.batch_size - share * task, generator)
            if old is not None:
                batch = join([batch, old.sample(share * task, generator)])
            sample = corrupt(model, batch, generator)
            with optimization.products():
                loss = errors(model, taught_by(teacher, sample, share * task)).mean()
            optimization.step(loss)
            optimization.follow()
            yield update + 1, self.updates, float(loss.detach())
        self._drawn.clear()

    def state_dict(self) -> dict[str, Tensor]:
        return self._optimization.state_dict() | self._optimization.model.normalizer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._drawn.clear()
        self._optimization.load_state_dict(state)
        for model in (self._optimization.model, self._optimization.average):
            names = model.normalizer.state_dict()
            model.normalizer.load_state_dict({name: state[name] for name in names})
