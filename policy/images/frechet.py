"""The Frechet distance between two sets of features, each taken for a normal distribution.

|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^1/2): Heusel et al. 2017, arXiv 1706.08500, who take
Inception's features (FID). From few pictures it is too large, by about as much for all models, so
that only distances of equally many pictures compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features, in float64."""

    mean: Float[Tensor, " F"]
    covariance: Float[Tensor, "F F"]

    @cached_property
    def root(self) -> Float[Tensor, "F F"]:
        """Return the covariance's square root."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T


def moments(features: Float[Tensor, "N F"]) -> Moments:
    """Return mean and covariance (over N - 1) of at least two features."""
    values = features.double().cpu()
    return Moments(values.mean(0), torch.cov(values.T).reshape(values.shape[1], values.shape[1]))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared distance, at least 0.

    The trace of (C_1 C_2)^1/2 is that of (C_1^1/2 C_2 C_1^1/2)^1/2, a root of a symmetric matrix.
    """
    product = first.root @ second.covariance @ first.root
    inner = torch.linalg.eigvalsh(product).clamp(min=0.0)
    traces = first.covariance.trace() + second.covariance.trace() - 2 * inner.sqrt().sum()
    return max(0.0, float((first.mean - second.mean).square().sum() + traces))
