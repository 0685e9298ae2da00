"""One policy a task, each from the same fresh weights: what a task's success is without any others. A reference."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from policy.agent import DiffusionPolicy, WindowSource
from policy.flat import flatten_parameters
from policy.methods.base import Learner, Method, Parts
from policy.replay import GeneratorUpdate


class Single(Learner):
    def __init__(self, parts: Parts):
        super().__init__(parts, replay=False, trust_region=False)
        self._fresh = self._optimization.vector.clone()
        self._learned: list[Tensor] = []  # parameters of the policies of the tasks before
        self._shown = copy.deepcopy(self.policy)
        self._shown_vector = flatten_parameters(self._shown)

    def policy_of(self, task: int) -> DiffusionPolicy:
        if task >= len(self._learned):
            return self.policy
        self._shown_vector.copy_(self._learned[task])
        return self._shown

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        if not continued:
            self._optimization.average_vector.copy_(self._fresh)
        super().begin_task(task, updates, continued=continued)

    def _continues(self) -> bool:
        return False

    def end_task(self, windows: WindowSource, last: bool) -> Iterator[GeneratorUpdate]:
        if not last:
            self._learned.append(self._optimization.average_vector.clone())
        yield from super().end_task(windows, last)

    def state_dict(self) -> dict[str, Tensor]:
        learned = {"single/learned": torch.stack(self._learned)} if self._learned else {}
        return super().state_dict() | {"single/fresh": self._fresh.clone()} | learned

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._fresh = state["single/fresh"].to(self._fresh)
        self._learned = [row.to(self._fresh) for row in state.get("single/learned", torch.zeros(0))]


def single(parts: Parts) -> Method:
    return Single(parts)
