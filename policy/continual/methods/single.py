"""One policy a task, each from the same fresh weights: a task's success without any others."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reconverge.policy.continual.denoising import Source
from reconverge.policy.continual.learner import Learner, Method, Setting
from reconverge.policy.continual.parameter_vector import flatten_parameters
from reconverge.policy.continual.rehearsal import GeneratorUpdate


@dataclass(frozen=True)
class SingleOptions:
    """Reference: one policy a task, each from fresh weights."""

    name: str = "single"

    def build(self, setting: Setting) -> Method:
        return Single(setting)


class Single(Learner):
    """Learns every task from the first weights, and keeps the parameters of all."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self._fresh = self.optimization.vector.clone()
        self._learned: list[Tensor] = []  # parameters of the policies of the tasks before
        self._shown = copy.deepcopy(self.model)
        self._shown_vector = flatten_parameters(self._shown)

    @property
    def memory_bytes(self) -> int | None:
        return sum(vector.nbytes for vector in self._learned)

    def model_of(self, task: int) -> Any:
        if task >= len(self._learned):
            return self.model
        self._shown_vector.copy_(self._learned[task])
        return self._shown

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        if not continued:
            self.optimization.average_vector.copy_(self._fresh)
        super().begin_task(task, updates, continued=continued)

    @property
    def starts_from_earlier_task(self) -> bool:
        return False

    def end_task(self, data: Source) -> Iterator[GeneratorUpdate]:
        self._learned.append(self.optimization.average_vector.clone())
        yield from super().end_task(data)

    def state_dict(self) -> dict[str, Tensor]:
        learned = {"single/learned": torch.stack(self._learned)} if self._learned else {}
        return super().state_dict() | {"single/fresh": self._fresh.clone()} | learned

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._fresh = state["single/fresh"].to(self._fresh)
        self._learned = [row.to(self._fresh) for row in state.get("single/learned", torch.zeros(0))]
