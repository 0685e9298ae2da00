"""PackNet: every task has weights of its own, which later tasks use and never change.

After most of a task's updates its free weights are pruned by magnitude, layer by layer, to the
task's share; the rest of the updates retrain those that are kept; then they are frozen, and the
pruned ones, which are zero, are free for the next task. A task is evaluated with the weights that
there were at its end. Biases are learned with the first task and frozen then.

Mallya, Lazebnik 2018, arXiv 1711.05769. As in Continual World (Wolczyk et al. 2021, arXiv
2105.10919) the shares are equal, so that the number of tasks must be known.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reconverge.options import option
from reconverge.policy.continual.denoising import Batch
from reconverge.policy.continual.learner import Learner, Method, Metrics, Setting
from reconverge.policy.continual.parameter_vector import flatten_parameters, split


@dataclass(frozen=True)
class PacknetOptions:
    """Weights of its own for every task, pruned, retrained and frozen."""

    name: str = "packnet"
    retraining: float = option(
        0.25,
        "share of a task's updates, the last, that retrain the weights kept after pruning",
        at_least=0,
        below=1,
    )

    def build(self, setting: Setting) -> Method:
        return PackNet(setting, self.retraining)


class PackNet(Learner):
    """Holds the mask of the weights that each task uses: its own, and those of tasks before it."""

    def __init__(self, setting: Setting, retraining: float):
        super().__init__(setting)
        self._tasks, self._share = setting.tasks, retraining
        self._masks: list[Tensor] = []  # bool [P] of every task that was pruned
        self._retraining = 0  # updates
        self._pruned_at: int | None = None  # update of the latest task that was pruned
        self._moving = self._free()
        self._shown = copy.deepcopy(self.model)
        self._shown_vector = flatten_parameters(self._shown)

    @property
    def memory_bytes(self) -> int | None:
        return sum(mask.nbytes for mask in self._masks)

    def model_of(self, task: int) -> Any:
        if task >= len(self._masks):
            return self.model
        self._shown_vector.copy_(self.optimization.average_vector * self._masks[task])
        return self._shown

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        is_last = task == self._tasks - 1
        self._retraining = 0 if is_last else min(updates - 1, round(self._share * updates))
        pruned = len(self._masks) > task
        pruned_at = updates - self._retraining
        if pruned and self._pruned_at is not None:
            pruned_at = self._pruned_at
        count = updates - pruned_at if pruned else pruned_at
        super().begin_task(task, max(1, count), continued=continued)
        self._moving = self._free()

    def update(self, batch: Batch) -> Metrics:
        """Take one optimiser step of the weights that are not frozen; prune after the last."""
        loss, metrics = self.loss(self.prepare(batch))
        self.optimization.differentiate(loss).mul_(self._moving)
        numbers = self.finish(metrics, self.optimization.descend())
        is_due = self.optimization.update == self.optimization.updates
        if is_due and len(self._masks) == self.task < self._tasks - 1:
            self._prune()
        return numbers

    def finish(self, metrics: dict[str, Tensor], rate: float) -> Metrics:
        """Undo what weight decay did to frozen weights, then move the average."""
        theta, average = self.optimization.vector, self.optimization.average_vector
        theta.copy_(torch.where(self._moving, theta, average))
        return super().finish(metrics, rate)

    def stream(self, *purpose: int) -> torch.Generator:
        """As in `Learner`, with other numbers in retraining, whose updates are counted anew."""
        return super().stream(*purpose, int(len(self._masks) > self.task))

    def state_dict(self) -> dict[str, Tensor]:
        if not self._masks:
            return super().state_dict()
        found = {"packnet/masks": torch.stack(self._masks)}
        if self._pruned_at is not None:
            found["packnet/pruned_at"] = torch.tensor(self._pruned_at)
        return super().state_dict() | found

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        masks = state.get("packnet/masks", torch.zeros(0, dtype=torch.bool))
        self._masks = [mask.to(self.optimization.vector.device) for mask in masks]
        pruned_at = state.get("packnet/pruned_at")
        self._pruned_at = None if pruned_at is None else int(pruned_at)

    def _free(self) -> Bool[Tensor, " P"]:
        """Return the weights that may move: no earlier task's, and once pruned the task's own."""
        free = torch.ones_like(self.optimization.vector, dtype=torch.bool)
        if self.task:
            free &= ~self._masks[self.task - 1]
        if self.task < len(self._masks):
            free &= self._masks[self.task]
        return free

    def _prune(self) -> None:
        """Give the task its share of the free weights, zero the others, and start retraining."""
        weights = dict(self.model.named_parameters())
        share = 1 / (self._tasks - self.task)
        kept, free = ~self._moving, split(self._moving, weights)  # first those of earlier tasks
        for name, part in split(kept, weights).items():
            is_layer = weights[name].ndim >= 2  # else a bias
            part |= largest(weights[name], free[name], share) if is_layer else free[name]
        self.optimization.average_vector.mul_(kept)
        self._pruned_at = self.optimization.update
        self.optimization.begin(max(1, self._retraining))
        self._masks.append(kept)
        self._moving = self._free()


def largest(
    weights: Float[Tensor, "*shape"], free: Bool[Tensor, "*shape"], share: float
) -> Bool[Tensor, "*shape"]:
    """Return the mask of a share of the free weights, the largest by magnitude."""
    size = torch.where(free, weights.abs(), -1.0).flatten()
    mask = torch.zeros_like(size, dtype=torch.bool)
    mask[size.topk(round(share * int(free.sum()))).indices] = True
    return mask.view(weights.shape)
