"""Map observations from bounds to [-1, 1], one row of bounds a task.

The policy's bounds are declared in the table of tasks, so that no statistic of any data enters.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Bounds = Sequence[float] | np.ndarray | Tensor
"""A vector [d] of numbers, d at most Do."""


class Normalizer(nn.Module):
    """Map [low, high] affinely to [-1, 1], with the row of each sample's task.

    The number of rows is fixed; a row must be set before it is used. Where low == high (padding:
    both 0) every value maps to 0, and 0 back to low. Values outside the bounds map outside [-1, 1].
    """

    low: Tensor
    high: Tensor
    is_set: Tensor

    def __init__(self, tasks: int, size: int):
        super().__init__()
        self.register_buffer("low", torch.zeros(tasks, size))
        self.register_buffer("high", torch.zeros(tasks, size))
        self.register_buffer("is_set", torch.zeros(tasks, dtype=torch.bool))

    def set_task(self, task: int, low: Bounds, high: Bounds) -> None:
        """Set the bounds of one task, padded with zeros to Do; ValueError if they change."""
        tasks, size = self.low.shape
        low, high = (
            torch.as_tensor(low, dtype=torch.float32),
            torch.as_tensor(high, dtype=torch.float32),
        )
        if not 0 <= task < tasks:
            raise ValueError(f"task {task}: the normalizer holds rows 0 to {tasks - 1}")
        if low.shape != high.shape or low.ndim != 1 or len(low) > size:
            shapes = f"{tuple(low.shape)}, {tuple(high.shape)}"
            raise ValueError(
                f"bounds of shapes {shapes}: give two vectors of one length, at most {size}"
            )
        if not (torch.isfinite(low) & torch.isfinite(high) & (low <= high)).all():
            raise ValueError(
                f"bounds of task {task}: every low must be finite and at most its finite high"
            )
        row = torch.zeros(2, size)
        row[0, : len(low)], row[1, : len(low)] = low, high
        row = row.to(self.low)
        if self.is_set[task] and not (
            torch.equal(row[0], self.low[task]) and torch.equal(row[1], self.high[task])
        ):
            raise ValueError(f"task {task} already has other bounds: a row never changes once set")
        self.low[task], self.high[task], self.is_set[task] = row[0], row[1], True

    def fill(self) -> None:
        """Give every row that is not set the first row's bounds."""
        free = ~self.is_set
        for bound in (self.low, self.high):
            bound[free] = bound[0].clone()
        self.is_set.fill_(True)

    def normalize(
        self, x: Float[Tensor, "B *n D"], task: Int[Tensor, "B"]
    ) -> Float[Tensor, "B *n D"]:
        """Return x, in units of the bounds, within [-1, 1]."""
        centre, half = self._rows(task, x.ndim)
        return torch.where(half > 0, (x - centre) / half.where(half > 0, 1.0), 0.0)

    def unnormalize(
        self, y: Float[Tensor, "B *n D"], task: Int[Tensor, "B"]
    ) -> Float[Tensor, "B *n D"]:
        """Return y, within [-1, 1], in units of the bounds."""
        centre, half = self._rows(task, y.ndim)
        return y * half + centre

    def _rows(self, task: Int[Tensor, "B"], ndim: int) -> tuple[Tensor, Tensor]:
        """Return middle and half range of the bounds, to be broadcast over `ndim` axes."""
        if not torch.compiler.is_exporting() and not self.is_set[task].all():
            row = int(task[~self.is_set[task]][0])
            raise ValueError(
                f"task {row} has no declared bounds yet: call set_task({row}, low, high) first"
            )
        shape = (task.shape[0], *(1,) * (ndim - 2), -1)
        low, high = self.low[task].view(shape), self.high[task].view(shape)
        return (low + high) / 2, (high - low) / 2
