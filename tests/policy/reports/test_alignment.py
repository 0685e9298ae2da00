"""The meta-gradient against finite differences, and the steps of the argument where each of them is
exact.
"""

import pytest
import torch

from reconverge.policy.reports.alignment import (
    OldTask,
    align,
    cosine,
    curvature,
    error,
    gradient,
    meta_gradient,
)

P = 6


def quadratic(hessian, optimum):
    return lambda theta: 0.5 * (theta - optimum) @ hessian @ (theta - optimum)


def positive(rank, seed):
    rows = torch.randn(rank, P, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows.T @ rows / rank


@pytest.fixture
def theta():
    return torch.randn(P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def wavy(seed):
    weights = positive(P, seed)
    return lambda theta: torch.sin(weights @ theta).square().sum() + 0.1 * theta.pow(4).sum()


def test_meta_gradient_is_the_slope_of_the_loss_after_an_inner_step(theta):
    support, query, rate, step = wavy(2), wavy(3), 0.05, 1e-6
    found = meta_gradient(support, query, theta, rate)
    for i in range(P):
        ahead, behind = theta.clone(), theta.clone()
        ahead[i] += step
        behind[i] -= step
        after = [query(x - rate * gradient(support, x)) for x in (ahead, behind)]
        assert float(found[i]) == pytest.approx(
            float(after[0] - after[1]) / (2 * step), rel=1e-6, abs=1e-8
        )


def test_curvature_is_the_hessian_times_a_vector(theta):
    v = torch.arange(P, dtype=torch.float64)
    exact = torch.autograd.functional.hessian(wavy(2), theta) @ v
    torch.testing.assert_close(curvature(wavy(2), theta, v), exact)


def rank_one_task(optimum):
    """Return a task for which the whole argument holds: its Hessian is a Fisher of rank one."""
    fisher = positive(1, 4)
    loss = quadratic(fisher, optimum)
    return OldTask(
        loss, loss, loss, optimum, lambda v: fisher @ v, lambda x: fisher @ (x - optimum)
    ), fisher


def test_align_is_exact_for_a_quadratic_loss_of_rank_one(theta):
    task, fisher = rank_one_task(torch.zeros(P, dtype=torch.float64))
    rate = 0.1 / float(fisher.trace())
    found = align(task, theta, rate, strength=3.0)
    for name in ("error_replay_is_query", "error_gradient_is_linear", "error_hessian_is_fisher"):
        assert found[name] == pytest.approx(0.0, abs=1e-12)
    assert found["error_fisher_is_estimate"] == pytest.approx(0.0, abs=1e-12)
    for name in (
        "trust_region",
        "replay_query",
        "linear_gradient",
        "fisher_hessian",
        "estimate_fisher",
    ):
        assert found[f"cosine_{name}"] == pytest.approx(1.0)
    # The gradient times (1 - x)^2, x = rate * rho = 0.1: a correction of -0.19, of first order
    # -0.2.
    assert found["error_first_order"] == pytest.approx(0.01 / 0.19)
    assert found["curvature_share"] == pytest.approx(0.19 / 0.81)
    assert found["cosine_penalty_correction"] == pytest.approx(
        -1.0
    )  # the correction shortens the gradient


def test_align_finds_the_best_strength(theta):
    optimum = torch.zeros(P, dtype=torch.float64)
    task, fisher = rank_one_task(optimum)
    for seed in range(20):
        skewed = OldTask(
            task.support, wavy(seed), wavy(seed + 50), optimum, task.fisher, task.penalty
        )
        found = align(skewed, theta, 0.01, strength=1.0)
        replay, exact = (
            gradient(skewed.replay, theta),
            meta_gradient(skewed.support, skewed.query, theta, 0.01),
        )
        tried = [
            cosine(replay + w * (fisher @ theta), exact)
            for w in torch.logspace(-4, 4, 200).tolist()
        ]
        assert found["cosine_best"] >= max(*tried, found["cosine_replay"]) - 1e-9


def test_cosine_and_error_of_a_zero_vector():
    zero, one = torch.zeros(P), torch.ones(P)
    assert cosine(zero, one) is None
    assert error(one, zero) is None
    assert error(zero, one) == 1.0
