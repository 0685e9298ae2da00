"""Fisher estimates of past tasks, and the penalty that they put on leaving the parameters found there.

A family has `estimate(per_sample_loss, params, batches) -> anchor` and `penalty(strength) -> penalty`.
Vectors of parameters are ordered as in policy.flat.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from policy.choices import unknown
from policy.flat import concatenate, split

Batch = TypeVar("Batch")
PerSampleLoss = Callable[[dict[str, Tensor], Batch], Tensor]
"""loss(params, batch) -> [B], differentiable in params and the same at every call with one batch"""

STIFFEST = 1e6
"""Bound on step * strength * curvature * |direction|^2, where a step already goes 0.999999 of the way.

More would only amplify float32 rounding along the difference of nearly parallel directions."""


@dataclass(frozen=True)
class Anchor:
    """One past task: the penalty curvature/2 (direction^T theta - offset)^2, zero at its theta*."""

    direction: Float[Tensor, "P"]
    offset: float
    curvature: float


class Rank1Penalty:
    """(lambda/2) sum_i c*_i (mu_i^T (theta - theta*_i))^2 over all past tasks. arXiv 2602.02417 eq. 8.

    A past task is one vector mu_i and two numbers, mu_i^T theta*_i and c*_i. Every method costs one or two
    products of the matrix [K, P] of the vectors with a vector.
    """

    def __init__(self, strength: float):
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"strength={strength}: give a finite number of at least 0")
        self.strength = strength
        self.directions: Tensor | None = None
        self.offsets: Tensor = torch.zeros(0, dtype=torch.float64)
        self.curvatures: Tensor = torch.zeros(0, dtype=torch.float64)
        self.gram: Tensor = torch.zeros(0, 0, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, anchor: Anchor) -> None:
        """Hold one more past task."""
        row = anchor.direction[None]
        old = row[:0] if self.directions is None else self.directions
        if old.shape[1] != row.shape[1]:
            raise ValueError(f"anchor of {row.shape[1]} parameters beside anchors of {old.shape[1]}: use one network")
        state = {
            "directions": torch.cat([old, row]),
            "offsets": torch.cat([self.offsets, self.offsets.new_tensor([anchor.offset])]),
            "curvatures": torch.cat([self.curvatures, self.curvatures.new_tensor([anchor.curvature])]),
        }
        self.load_state_dict(state)

    def value(self, theta: Float[Tensor, "P"]) -> float:
        """The penalty at theta."""
        return self._value(self._residuals(theta))

    def gradient(self, theta: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
        """lambda M^T diag(c) (M theta - offsets), M [K, P] the directions: two products with M."""
        if self.directions is None:
            return torch.zeros_like(theta)
        weights = self.strength * self.curvatures * self._residuals(theta)
        return torch.mv(self.directions.T, weights.to(theta))

    @torch.no_grad()
    def proximal_step(self, theta: Float[Tensor, "P"], step: float) -> float:
        """theta <- argmin_x |x - theta|^2 / (2 step) + penalty(x), in place; returns the penalty there.

        Exact up to STIFFEST, hence stable for every step and strength. It goes after the optimiser's step on
        the rest of the loss, as decoupled weight decay does (arXiv 1711.05101): Adam would divide the
        penalty's gradient by its own size, so that the pull would hardly depend on strength or curvature, and
        would fill the second moments of all parameters with it. Called at every n-th update with n times the
        step it has nearly the same effect at 1/n of the cost.
        """
        if self.directions is None:
            return 0.0
        r = self._residuals(theta)
        stiffness = step * self.strength * self.curvatures
        s = torch.minimum(stiffness, STIFFEST / self.gram.diagonal().clamp(min=1e-300)).sqrt()
        # Woodbury: (I + M^T S^2 M)^-1 acts through the K x K matrix I + S M M^T S.
        inner = torch.eye(len(self), dtype=s.dtype) + s[:, None] * self.gram * s
        weights = s * torch.cholesky_solve((s * r)[:, None], torch.linalg.cholesky(inner))[:, 0]
        theta.addmv_(self.directions.T, weights.to(theta), alpha=-1)
        return self._value(r - self.gram @ weights)

    def state_dict(self) -> dict[str, Tensor]:
        """The anchors as tensors; empty without any."""
        if self.directions is None:
            return {}
        return {"directions": self.directions, "offsets": self.offsets, "curvatures": self.curvatures}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the anchors that state_dict returned in place of those held."""
        if not state:
            self.__init__(self.strength)  # type: ignore[misc]
            return
        self.directions = state["directions"]
        self.offsets = state["offsets"].double().cpu()
        self.curvatures = state["curvatures"].double().cpu()
        rows = [row.double() for row in self.directions]
        self.gram = torch.tensor([[float(a @ b) for b in rows] for a in rows], dtype=torch.float64)

    def _residuals(self, theta: Float[Tensor, "P"]) -> Float[Tensor, "K"]:
        """mu_i^T (theta - theta*_i)."""
        if self.directions is None:
            return self.offsets
        return torch.mv(self.directions, theta.detach()).double().cpu() - self.offsets

    def _value(self, residuals: Float[Tensor, "K"]) -> float:
        return float(self.strength / 2 * (self.curvatures * residuals.square()).sum())


class Rank1:
    """F ~ c* mu mu^T, mu = E[g], c* = E[(mu^T g)^2] / |mu|^4, g a per-sample gradient. arXiv 2509.23593."""

    @staticmethod
    def estimate(
        per_sample_loss: PerSampleLoss[Batch], params: Mapping[str, Tensor], batches: Iterable[Batch]
    ) -> Anchor:
        """The anchor at theta* = params over all samples of the batches. arXiv 2509.23593 eq. 5-6."""
        if not isinstance(batches, Sequence) or not batches:
            raise ValueError("batches: give a list of at least one batch, as it is read twice")
        at = {name: p.detach() for name, p in params.items()}
        mu, count = _mean_gradient(per_sample_loss, at, batches)
        norm = float(mu.norm())
        if not math.isfinite(norm):
            raise ValueError("the mean gradient is not finite: check the loss and the parameters")
        direction = mu.to(next(iter(at.values())).dtype)
        offset = float(direction.double() @ concatenate(at).double())
        if norm == 0:  # F itself is zero then
            return Anchor(direction, offset, 0.0)
        along = split((mu / norm).to(direction), at)
        total = sum(_sum_square_slope(per_sample_loss, at, along, batch) for batch in batches)
        return Anchor(direction, offset, total / count / norm**2)

    @staticmethod
    def penalty(strength: float) -> Rank1Penalty:
        """A penalty without anchors; `strength` is lambda."""
        return Rank1Penalty(strength)


FISHERS: dict[str, type[Rank1]] = {
    "rank1": Rank1,
}


def find_fisher(name: str) -> type[Rank1]:
    """The named family."""
    if name not in FISHERS:
        raise unknown("Fisher estimator", name, FISHERS)
    return FISHERS[name]


def _mean_gradient(
    per_sample_loss: PerSampleLoss[Batch], at: dict[str, Tensor], batches: Sequence[Batch]
) -> tuple[Float[Tensor, "P"], int]:
    """mu in float64, and the number of samples."""
    leaves = {name: p.clone().requires_grad_() for name, p in at.items()}
    total = torch.zeros_like(concatenate(at), dtype=torch.float64)
    sums = list(split(total, at).values())
    count = 0
    for batch in batches:
        with torch.enable_grad():
            loss = per_sample_loss(leaves, batch)
            gradients = torch.autograd.grad(
                loss.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        for acc, gradient in zip(sums, gradients, strict=True):
            acc.add_(gradient)
        count += len(loss)
    return total / count, count


@torch.no_grad()
def _sum_square_slope(
    per_sample_loss: PerSampleLoss[Batch], at: dict[str, Tensor], along: dict[str, Tensor], batch: Batch
) -> float:
    """Sum over the batch of (u^T g)^2, all u^T g from one forward-mode product."""
    slopes = torch.func.jvp(lambda params: per_sample_loss(params, batch), (at,), (along,))[1]
    return float(slopes.double().square().sum())
