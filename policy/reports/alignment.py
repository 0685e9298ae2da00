"""Compare the step of the trust region with the gradient of MAML, on one earlier task.

Wang et al. 2026, arXiv 2602.02417, eq. 9-16, call the trust region an implicit meta-learner: after
one inner step on a support set the meta-gradient on a query set of an earlier task is the query
gradient, corrected by the curvature. Near the task's optimum theta* the gradient is
H (theta - theta*), H is the Fisher F, and F is of rank one, so F F = rho F and the correction lies
along F (theta - theta*), the gradient of the penalty, up to scale. Each of these steps is an
approximation; `align` measures its error.
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
    """An earlier task: its losses, its optimum and two Fisher products.

    `penalty` takes the estimate F~ of the Fisher that the penalty of the run uses, of this task.
    """

    support: Loss
    query: Loss
    replay: Loss  # the term of the trust region's objective for this task
    optimum: Vector  # theta*
    fisher: Callable[[Vector], Vector]  # v -> E[g g^T] v at theta*, on the windows of `query`
    penalty: Callable[[Vector], Vector]  # theta -> F~ (theta - theta*)


def gradient(loss: Loss, theta: Vector) -> Vector:
    """Return dloss/dtheta."""
    leaf = theta.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def curvature(loss: Loss, theta: Vector, v: Vector) -> Vector:
    """Return H(theta) v."""
    return torch.autograd.functional.vhp(loss, theta, v)[1]


def meta_gradient(support: Loss, query: Loss, theta: Vector, inner_rate: float) -> Vector:
    """Return d/dtheta query(theta - inner_rate dsupport/dtheta), exact, through the inner step.

    Finn et al. 2017, arXiv 1703.03400.
    """
    leaf = theta.detach().clone().requires_grad_()
    inner = torch.autograd.grad(support(leaf), leaf, create_graph=True)[0]
    return torch.autograd.grad(query(leaf - inner_rate * inner), leaf)[0]


def align(
    task: OldTask, theta: Vector, inner_rate: float, strength: float
) -> dict[str, float | None]:
    """Return cosines with the meta-gradient M, and error and cosine of every approximation.

    An error is |approximation - exact| / |exact|. `best_strength` is the weight of the penalty, at
    least 0, at which replay + penalty points along M most closely: 0 where adding the penalty only
    turns the step away from M, None where the penalty alone would be best. A cosine or an error of
    a direction of length zero is None. `curvature_share` is |M - query gradient| / |M|.
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
    """Return the cosine of two vectors; None if one has length zero."""
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else None


def error(approximation: Vector, exact: Vector) -> float | None:
    """Return |approximation - exact| / |exact|; None if `exact` has length zero."""
    size = float(exact.norm())
    return float((approximation - exact).norm()) / size if size > 0 else None


def _best_weight(replay: Vector, penalty: Vector, exact: Vector) -> float | None:
    """Return the w >= 0 of greatest cosine(replay + w penalty, exact); None if w is infinite.

    Along the ray the cosine is stationary once, and where that is no maximum the better end is
    best.
    """
    a, b = float(replay @ exact), float(penalty @ exact)
    rr, rp, pp = float(replay @ replay), float(replay @ penalty), float(penalty @ penalty)
    above, below = b * rr - a * rp, a * pp - b * rp
    if above > 0 and below > 0:
        return above / below
    alone, without = cosine(penalty, exact), cosine(replay, exact)
    return None if alone is not None and (without is None or alone > without) else 0.0
