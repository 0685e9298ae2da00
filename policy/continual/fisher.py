"""Estimators of the Fisher information at a past optimum that never hold a P x P matrix.

F = E[g g^T], g the gradient of one sample's loss at theta*: the Fisher proper where the targets are
the policy's own predictions and noise, the empirical one where they are the demonstrations'. An
estimator is a frozen dataclass of its options and a row of FISHERS. Vectors of parameters are
ordered as in `parameter_vector`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.continual.denoising import PerSampleLoss
from reconverge.policy.continual.kfac import SAMPLES_MEANING, TARGETS, TARGETS_MEANING, Kfac
from reconverge.policy.continual.parameter_vector import concatenate, split
from reconverge.policy.continual.quadratic import (
    Diagonal,
    DiagonalForm,
    Directions,
    LowRankForm,
    QuadraticForm,
)

Batch = tuple[Tensor, ...]
"""Tensors [B, ...] that together are B samples"""
ROWS = 16  # samples whose gradients [ROWS, P] are held at once


class Fisher(Protocol):
    """An estimator: `estimate` returns an anchor, `form` an empty quadratic form for anchors."""

    @property
    def name(self) -> str: ...
    @property
    def samples(self) -> int: ...  # that the region draws for `estimate`
    @property
    def targets(self) -> str: ...  # of TARGETS

    def estimate(
        self, per_sample_loss: PerSampleLoss, params: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> Any: ...
    def form(self) -> QuadraticForm: ...


@dataclass(frozen=True)
class Rank1:
    """Estimate F ~ c* mu mu^T, mu = E[g], c* = E[(mu^T g)^2] / |mu|^4.

    Wang et al. 2025, arXiv 2509.23593, eq. 5-6.
    """

    name: str = "rank1"
    samples: int = option(10_240, SAMPLES_MEANING, at_least=1)
    targets: str = option("demonstrations", TARGETS_MEANING, choices=TARGETS)

    def estimate(
        self, per_sample_loss: PerSampleLoss, params: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> Directions:
        """Return the anchor at theta* = params over all samples of the batches."""
        at = _detached(params)
        mu, count = _weighted_gradient(per_sample_loss, at, batches)
        mu /= count
        norm = float(mu.norm())
        if not math.isfinite(norm):
            raise ReconvergeError(
                "the mean gradient is not finite: check the loss and the parameters"
            )
        direction = mu.to(next(iter(at.values())).dtype)
        curvature = 0.0  # without a mean gradient
        if norm > 0:
            along = (mu / norm).to(direction)
            slopes = torch.cat([_slopes(per_sample_loss, at, along, batch) for batch in batches])
            curvature = float(slopes.double().square().mean()) / norm**2
        return Directions(
            direction[None],
            _offsets(direction[None], at),
            torch.tensor([curvature], dtype=torch.float64),
        )

    def form(self) -> LowRankForm:
        return LowRankForm()


@dataclass(frozen=True)
class LowRank:
    """Estimate F ~ sum_j s_j u_j u_j^T, its leading eigenvectors, by randomised iteration.

    Halko, Martinsson, Tropp 2011, arXiv 0909.4061, algorithms 4.4 and 5.3. F enters only
    as products F v = E[g (g^T v)]: the g^T v of a whole batch are one forward-mode product, and
    their weighted sum of gradients one backward pass.
    """

    name: str = "low_rank"
    rank: int = option(8, "r, eigenvectors kept for each task", at_least=1, at_most=10_000)
    oversampling: int = option(
        4, "directions that the iteration carries beyond the rank", at_least=0, at_most=10_000
    )
    iterations: int = option(1, "power iterations that sharpen the subspace", at_least=0)
    samples: int = option(2048, SAMPLES_MEANING, at_least=1)
    targets: str = option("policy", TARGETS_MEANING, choices=TARGETS)

    def estimate(
        self, per_sample_loss: PerSampleLoss, params: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> Directions:
        """Return the anchor at theta* = params over all samples of the batches."""
        at = _detached(params)
        flat = concatenate(at)
        columns = min(self.rank + self.oversampling, len(flat))
        generator = torch.Generator(flat.device).manual_seed(0)
        basis = torch.randn(
            (len(flat), columns), generator=generator, device=flat.device, dtype=flat.dtype
        )
        for _ in range(1 + self.iterations):
            image = torch.stack(list(self._products(per_sample_loss, at, batches, basis)), dim=1)
            basis = torch.linalg.qr(image.to(flat))[0]
        slopes = self._slopes(per_sample_loss, at, batches, basis)  # G Q
        if not torch.isfinite(slopes).all():
            raise ReconvergeError("the gradients are not finite: check the loss and the parameters")
        curvatures, turn = torch.linalg.eigh(slopes.T @ slopes / len(slopes))
        leading = curvatures.flip(0)[: self.rank].clamp(min=0.0)
        directions = (basis @ turn.to(basis).flip(1)[:, : self.rank]).T.contiguous()
        return Directions(directions, _offsets(directions, at), leading.cpu())

    def form(self) -> LowRankForm:
        return LowRankForm()

    def _products(self, per_sample_loss, at, batches, basis) -> Iterator[Tensor]:
        """Yield N F v for every column v."""
        for column in basis.T:
            weights = [_slopes(per_sample_loss, at, column, batch) for batch in batches]
            yield _weighted_gradient(per_sample_loss, at, batches, weights)[0]

    def _slopes(self, per_sample_loss, at, batches, basis) -> Float[Tensor, "N r"]:
        """Return g^T v of every sample and column, in float64."""
        columns = [
            torch.cat([_slopes(per_sample_loss, at, v, batch) for batch in batches])
            for v in basis.T
        ]
        return torch.stack(columns, dim=1).double()


@dataclass(frozen=True)
class DiagonalFisher:
    """Estimate F ~ diag(E[g^2]), as in EWC (Kirkpatrick et al. 2017, arXiv 1612.00796).

    The gradients of a few samples are formed at a time.
    """

    name: str = "diagonal"
    samples: int = option(512, SAMPLES_MEANING + "; the gradient of each is formed", at_least=1)
    targets: str = option("policy", TARGETS_MEANING, choices=TARGETS)

    def estimate(
        self, per_sample_loss: PerSampleLoss, params: Mapping[str, Tensor], batches: Sequence[Batch]
    ) -> Diagonal:
        """Return the anchor at theta* = params over all samples of the batches."""
        at = _detached(params)
        flat = concatenate(at)
        total, count = torch.zeros_like(flat, dtype=torch.float64), 0
        for batch in batches:
            for gradients in sample_gradients(per_sample_loss, at, batch):
                total += gradients.square().sum(0)
                count += len(gradients)
        if not torch.isfinite(total).all():
            raise ReconvergeError("the gradients are not finite: check the loss and the parameters")
        return Diagonal(total / count, flat.double())

    def form(self) -> DiagonalForm:
        return DiagonalForm()


FISHERS: dict[str, type] = {
    "rank1": Rank1,
    "diagonal": DiagonalFisher,
    "low_rank": LowRank,
    "kfac": Kfac,
}


def _detached(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in params.items()}


def _offsets(directions: Float[Tensor, "r P"], at: dict[str, Tensor]) -> Float[Tensor, "r"]:
    """Return d_j^T theta*."""
    theta = concatenate(at).double()
    return torch.stack([row.double() @ theta for row in directions]).cpu()


def _weighted_gradient(
    per_sample_loss: PerSampleLoss,
    at: dict[str, Tensor],
    batches: Sequence[Batch],
    weights: Sequence[Tensor] | None = None,
) -> tuple[Float[Tensor, "P"], int]:
    """Return sum_n w_n g_n in float64 (w = 1 without weights), and the number of samples."""
    leaves = {name: p.clone().requires_grad_() for name, p in at.items()}
    total = torch.zeros_like(concatenate(at), dtype=torch.float64)
    sums = list(split(total, at).values())
    count = 0
    for i, batch in enumerate(batches):
        with torch.enable_grad():
            loss = per_sample_loss(leaves, batch)
            value = loss.sum() if weights is None else loss @ weights[i].to(loss)
            gradients = torch.autograd.grad(
                value, list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        for acc, gradient in zip(sums, gradients, strict=True):
            acc.add_(gradient)
        count += len(loss)
    return total, count


@torch.no_grad()
def _slopes(
    per_sample_loss: PerSampleLoss, at: dict[str, Tensor], along: Float[Tensor, "P"], batch: Batch
) -> Float[Tensor, "B"]:
    """Return g^T v of every sample, all from one forward-mode product."""
    return torch.func.jvp(
        lambda params: per_sample_loss(params, batch), (at,), (split(along, at),)
    )[1].detach()


def sample_gradients(
    per_sample_loss: PerSampleLoss, at: dict[str, Tensor], batch: Batch
) -> Iterator[Float[Tensor, "n P"]]:
    """Yield the gradients of all samples, a few at a time."""

    def loss(params: dict[str, Tensor], *sample: Tensor) -> Tensor:
        return per_sample_loss(params, tuple(x[None] for x in sample))[0]

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, *(0 for _ in batch)))
    for rows in zip(*(x.split(ROWS) for x in batch), strict=True):
        yield torch.cat([gradient.flatten(1) for gradient in each(at, *rows).values()], dim=1)
