"""Where samples of earlier tasks come from while a new one is learned: the `replay=` switch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import (
    Batch,
    Denoiser,
    Source,
    corrupt,
    errors,
    taught_by,
)
from reconverge.policy.continual.optimization import Optimization, OptimizerOptions
from reconverge.policy.model.batch import join

GeneratorUpdate = tuple[int, int, float]
"""update of the generator, number of its updates, loss"""

Draw = Callable[[Any, int, int, torch.Generator], Batch]
"""draw(teacher, task, count, generator): samples of a task; the teacher is the model so far"""


class ReplaySource(Protocol):
    """`draw` is called for every earlier task as a task begins, `end_task` when it is learned."""

    def draw(self, teacher: Any, task: int, count: int, generator: torch.Generator) -> Batch: ...
    def end_task(
        self, task: int, data: Source, generator: torch.Generator
    ) -> Iterator[GeneratorUpdate]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


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
    """Samples from outside: stored demonstrations, or rollouts of the frozen previous policy."""

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
