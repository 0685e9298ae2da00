"""Is the trust region an implicit meta-learner? Its step against the gradient of MAML, on one earlier task.

arXiv 2602.02417, eq. 9-16: after one inner step on a support set the meta-gradient on a query set of an earlier task
is the query gradient, corrected by the curvature. Near the task's optimum theta* the gradient is H (theta - theta*),
H is the Fisher F, and F is of rank one, so F F = rho F and the correction lies along F (theta - theta*), the gradient
of the penalty, up to scale. Every one of these steps is an approximation; here is how good each of them is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, "P"]
Loss = Callable[[Vector], Tensor]
"""loss(theta) -> a number, twice differentiable and the same at every call"""


@dataclass(frozen=True)
class OldTask:
    """An earlier task: losses on two halves of its windows and on replay, its optimum, and two Fisher products."""

    support: Loss
    query: Loss
    replay: Loss  # what a step on the trust region's objective descends for this task
    optimum: Vector  # theta*
    fisher: Callable[[Vector], Vector]  # v -> E[g g^T] v at theta*, on the windows of `query`
    penalty: Callable[[Vector], Vector]  # theta -> F~ (theta - theta*), F~ the estimate that the penalty uses


def gradient(loss: Loss, theta: Vector) -> Vector:
    """dloss/dtheta."""
    leaf = theta.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def curvature(loss: Loss, theta: Vector, v: Vector) -> Vector:
    """H(theta) v."""
    leaf = theta.detach().clone().requires_grad_()
    slope = torch.autograd.grad(loss(leaf), leaf, create_graph=True)[0]
    return torch.autograd.grad(slope, leaf, v)[0]


def meta_gradient(support: Loss, query: Loss, theta: Vector, inner_rate: float) -> Vector:
    """d/dtheta query(theta - inner_rate dsupport/dtheta), exact, through the inner step (arXiv 1703.03400)."""
    leaf = theta.detach().clone().requires_grad_()
    inner = torch.autograd.grad(support(leaf), leaf, create_graph=True)[0]
    return torch.autograd.grad(query(leaf - inner_rate * inner), leaf)[0]


def align(task: OldTask, theta: Vector, inner_rate: float, strength: float) -> dict[str, float | None]:
    """Cosines with the meta-gradient M, and the error |approximation - exact| / |exact| and cosine of every step.

    `best_strength` is the weight of the penalty, at least 0, at which replay + penalty points along M most closely:
    0 where adding the penalty only turns the step away from M, None where the penalty alone would be best. A cosine
    or an error of a direction of length zero is None. `curvature_share` is |M - query gradient| / |M|.
    """
    delta = theta - task.optimum
    exact = meta_gradient(task.support, task.query, theta, inner_rate)
    g_support, g_query = gradient(task.support, theta), gradient(task.query, theta)
    replay, penalty = gradient(task.replay, theta), task.penalty(theta)
    correction = curvature(task.query, theta, g_support) + curvature(task.support, theta, g_query)
    at_optimum = curvature(task.query, task.optimum, delta)
    fisher = task.fisher(delta)
    best = _best_weight(replay, penalty, exact)
    return {
        "cosine_replay": cosine(replay, exact),
        "cosine_penalty": cosine(penalty, exact),
        "cosine_trust_region": cosine(replay + strength * penalty, exact),
        "cosine_best": cosine(penalty if best is None else replay + best * penalty, exact),
        "best_strength": best,
        "curvature_share": error(g_query, exact),
        "error_first_order": error(-inner_rate * correction, exact - g_query),
        "error_replay_is_query": error(replay, g_query),
        "error_gradient_is_linear": error(at_optimum, g_query),
        "error_hessian_is_fisher": error(fisher, at_optimum),
        "error_fisher_is_estimate": error(penalty, fisher),
        "cosine_replay_query": cosine(replay, g_query),
        "cosine_linear_gradient": cosine(at_optimum, g_query),
        "cosine_fisher_hessian": cosine(fisher, at_optimum),
        "cosine_estimate_fisher": cosine(penalty, fisher),
        "cosine_penalty_correction": cosine(penalty, exact - g_query),
    }


def cosine(a: Vector, b: Vector) -> float | None:
    """None where a vector has length zero."""
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else None


def error(approximation: Vector, exact: Vector) -> float | None:
    """|approximation - exact| / |exact|; None where `exact` has length zero."""
    size = float(exact.norm())
    return float((approximation - exact).norm()) / size if size > 0 else None


def _best_weight(replay: Vector, penalty: Vector, exact: Vector) -> float | None:
    """The w >= 0 that maximises cosine(replay + w penalty, exact); None where the penalty alone is best.

    Along the ray the cosine is stationary once, and where that is no maximum the better end is best.
    """
    a, b = float(replay @ exact), float(penalty @ exact)
    rr, rp, pp = float(replay @ replay), float(replay @ penalty), float(penalty @ penalty)
    above, below = b * rr - a * rp, a * pp - b * rp
    if above > 0 and below > 0:
        return above / below
    alone, without = cosine(penalty, exact), cosine(replay, exact)
    return None if alone is not None and (without is None or alone > without) else 0.0
