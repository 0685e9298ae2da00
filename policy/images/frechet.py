"""The Frechet distance between two sets of features, each taken for a normal distribution.

|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^1/2): Heusel et al. 2017, arXiv 1706.08500, who take
Inception's features (FID). From few pictures it is too large, by about as much for all models, so
that only distances of equally many pictures compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """The mean of features, and a root R^T R of their covariance; in float64.

    The root has as many rows as there are features or pictures, whichever are fewer.
    """

    mean: Float[Tensor, " F"]
    root: Float[Tensor, "R F"]


def moments(features: Float[Tensor, "N F"], labels: Int[Tensor, " N"] | None = None) -> Moments:
    """Return mean and covariance (over N - 1) of at least two features.

    With `labels` every class counts the same, however many features it has: pictures are generated
    of the classes in turn.
    """
    values, count = features.double().cpu(), len(features)
    weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
    if labels is not None:
        _, which, sizes = labels.unique(return_inverse=True, return_counts=True)
        weights = 1.0 / (len(sizes) * sizes.double()[which])
    mean = weights @ values
    scales = (weights * count / (count - 1)).sqrt()[:, None]
    return Moments(mean, torch.linalg.qr(scales * (values - mean), mode="r").R)


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the squared distance, at least 0.

    C_1 C_2 has the eigenvalues of P^T P, where P = root_1 root_2^T, so that the trace of its root
    is the sum of P's singular values: of few pictures P is small, however many features there are.
    """
    shared = torch.linalg.svdvals(first.root @ second.root.T).sum()
    traces = first.root.square().sum() + second.root.square().sum() - 2 * shared
    return max(0.0, float((first.mean - second.mean).square().sum() + traces))
