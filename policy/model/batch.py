"""Batches of windows: what a policy saw, and the actions that followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

AnyBatch = TypeVar("AnyBatch", bound=Any)


@dataclass(frozen=True)
class Batch:
    """Windows of one or several tasks.

    Observations and actions are padded with zeros to the policy's Do and Da (`widened`).
    """

    observations: Float[Tensor, "B To Do"]
    actions: Float[Tensor, "B Tp Da"]
    task: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.task)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Draw `size` windows with replacement."""
        index = torch.randint(len(self), (size,), generator=generator, device=self.task.device)
        return Batch(self.observations[index], self.actions[index], self.task[index])


def join(parts: Sequence[AnyBatch]) -> AnyBatch:
    """Concatenate batches of one kind, dataclasses of tensors [B, ...], in order."""
    names = [spec.name for spec in fields(parts[0])]
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return type(parts[0])(**columns)


def widened(vectors: np.ndarray, size: int, pixels: int = 0) -> np.ndarray:
    """Return observations or actions [..., D] as [..., size]: with zeros at their end, but before
    the `pixels` that an observation ends with.
    """
    told = vectors.shape[-1] - pixels
    zeros = np.zeros((*vectors.shape[:-1], size - vectors.shape[-1]), vectors.dtype)
    return np.concatenate([vectors[..., :told], zeros, vectors[..., told:]], axis=-1)
