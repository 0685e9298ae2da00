"""Where windows of earlier tasks come from while a new one is learned: the `replay=` switch.

A source has `windows(teacher, task, count, generator)`, called for every earlier task when a task begins, and
`end_task`, called when a task has been learned and another follows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from policy.agent import Batch, DiffusionPolicy, WindowSource, join
from policy.generator import WindowGenerator
from policy.optimization import Optimization, OptimizerSettings

GeneratorUpdate = tuple[int, int, float]
"""update of the generator, number of its updates, loss"""

Draw = Callable[[DiffusionPolicy, int, int, torch.Generator], Batch]
"""draw(teacher, task, count, generator): `count` windows of that task; the teacher is the policy learned so far"""


class ReplaySource(Protocol):
    def windows(self, teacher: DiffusionPolicy, task: int, count: int, generator: torch.Generator) -> Batch: ...
    def end_task(self, task: int, windows: WindowSource, generator: torch.Generator) -> Iterator[GeneratorUpdate]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class DrawnReplay:
    """Windows from outside: stored demonstrations, or rollouts of the frozen previous policy."""

    def __init__(self, draw: Draw):
        self._draw = draw

    def windows(self, teacher: DiffusionPolicy, task: int, count: int, generator: torch.Generator) -> Batch:
        return self._draw(teacher, task, count, generator)

    def end_task(self, task: int, windows: WindowSource, generator: torch.Generator) -> Iterator[GeneratorUpdate]:
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class GeneratedReplay:
    """Windows sampled from the replay generator: neither demonstrations nor a simulator are kept."""

    def __init__(
        self, model: WindowGenerator, settings: OptimizerSettings, *, updates: int, batch_size: int, pool: int
    ):
        self._optimization = Optimization(model, settings)
        self.updates, self.batch_size, self.pool = updates, batch_size, pool
        self._drawn: dict[int, Batch] = {}  # of earlier tasks, since the generator was trained last

    @property
    def generator(self) -> WindowGenerator:
        return self._optimization.average

    def windows(self, teacher: DiffusionPolicy, task: int, count: int, generator: torch.Generator) -> Batch:
        self._drawn[task] = self._optimization.average.generate(task, count, generator)
        return self._drawn[task]

    def end_task(self, task: int, windows: WindowSource, generator: torch.Generator) -> Iterator[GeneratorUpdate]:
        """Train on the windows of `task`, and match the generator so far on its own samples of every earlier task.

        The samples are those that the policy rehearsed on, where it did. Yields its updates.
        """
        model, teacher = self._optimization.model, copy.deepcopy(self._optimization.average)
        earlier = [self._drawn.get(i) or teacher.generate(i, self.pool, generator) for i in range(task)]
        old = join(earlier) if earlier else None
        model.measure(task, windows, generator)
        self._optimization.begin(self.updates, settled=task > 0)
        share = self.batch_size // (task + 1)  # an equal share for every task
        for update in range(self.updates):
            batch = windows.sample(self.batch_size - share * task, generator)
            if old is not None:
                batch = join([batch, old.sample(share * task, generator)])
            k = model.diffusion.draw_steps(len(batch), generator)
            noise = torch.randn((len(batch), 1, model.size), generator=generator, device=k.device)
            with self._optimization.products():
                loss = model.loss(batch, noise, k, teacher, share * task).mean()
            self._optimization.step(loss)
            self._optimization.follow()
            yield update + 1, self.updates, float(loss.detach())
        self._drawn.clear()

    def state_dict(self) -> dict[str, Tensor]:
        return self._optimization.state_dict() | self._optimization.model.normalizer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._drawn.clear()
        self._optimization.load_state_dict(state)
        for model in (self._optimization.model, self._optimization.average):
            model.normalizer.load_state_dict({name: state[name] for name in model.normalizer.state_dict()})


REPLAYS = ("generator", "rollout", "demonstrations", "none")
