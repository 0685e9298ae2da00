"""Fisher products and penalties of a run against per-sample gradients."""

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import corrupt, half_squared_errors, random_stream
from reconverge.policy.continual.fisher import Rank1
from reconverge.policy.continual.parameter_vector import concatenate, split
from reconverge.policy.reports.meta_gradient import (
    fisher_product,
    gauss_newton_product,
    measure_run,
    penalty_form,
)
from support.tiny import make_policy, make_windows


@pytest.fixture
def problem():
    """A policy, a noisy sample, its parameters and the gradient of every loss [N, P]."""
    policy, stream = make_policy(), random_stream(torch.device("cpu"), 0)
    sample = corrupt(policy, make_windows(0, 8), stream)
    params = {name: p.detach() for name, p in policy.network.named_parameters()}
    each, rows = half_squared_errors(policy), []
    for n in range(8):
        one = tuple(x[n : n + 1] for x in sample.tensors)
        gradient = torch.func.grad(lambda p, one=one: each(p, one).sum())(params)
        rows.append(concatenate(gradient))
    return policy, sample, concatenate(params), torch.stack(rows)


def test_fisher_product_is_that_of_the_per_sample_gradients(problem):
    policy, sample, optimum, rows = problem
    v = torch.randn(len(optimum), generator=torch.Generator().manual_seed(0))
    product = fisher_product(policy, optimum, sample)(v)
    torch.testing.assert_close(product, rows.T @ (rows @ v) / 8, rtol=1e-4, atol=1e-5)


def test_gauss_newton_product_is_that_of_the_jacobian(problem):
    policy, sample, optimum, _ = problem
    v = torch.randn(len(optimum), generator=torch.Generator().manual_seed(0))
    like = dict(policy.network.named_parameters())

    def answers(theta):
        named = split(theta, like)
        inputs = (sample.noisy, sample.k, sample.condition)
        return torch.func.functional_call(policy.network, named, inputs).flatten()

    J = torch.autograd.functional.jacobian(answers, optimum)
    product = gauss_newton_product(policy, sample)(v)
    torch.testing.assert_close(product, J.T @ (J @ v) / 8, rtol=1e-4, atol=1e-5)


def test_penalty_gradient_is_the_estimate_times_the_displacement(problem):
    policy, sample, optimum, rows = problem
    v = torch.randn(len(optimum), generator=torch.Generator().manual_seed(0))
    centre = optimum + 1.0
    form = penalty_form(Rank1(), policy, sample, centre)
    mu = rows.mean(0)
    curvature = (rows @ mu).square().mean() / mu.norm() ** 4
    expected = curvature * mu * (0.01 * mu @ v)
    penalty = 0.5 * form.gradient(centre + 0.01 * v)
    torch.testing.assert_close(penalty, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("rate", "windows"), [(0.0, 8), (float("nan"), 8), (0.1, 0)])
def test_measure_run_refuses_bad_arguments(tmp_path, rate, windows):
    with pytest.raises(ReconvergeError, match="rate must be above 0 and below 1000, the windows"):
        measure_run(tmp_path, rate, windows)
