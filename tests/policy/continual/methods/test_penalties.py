"""L2, MAS and online EWC against their penalties computed by hand."""

import pytest
import torch
from torch.func import functional_call

from reconverge.policy.continual.denoising import corrupt, half_squared_errors
from reconverge.policy.continual.fisher import DiagonalFisher
from reconverge.policy.continual.methods.mas import Importance
from reconverge.policy.continual.parameter_vector import concatenate
from support.tiny import action_error, learn, make_method, make_policy, make_windows


def anchored(name, tasks=2, **options):
    """A method after some tasks, and the averaged parameters after each."""
    method, optima = make_method(name, fisher="diagonal", **options), []
    for task in range(tasks):
        learn(method, task % 2, 30)
        optima.append(method.optimization.average_vector.double())
    return method, optima


def random_theta(method):
    vector = method.optimization.vector
    return vector + 0.1 * torch.randn(vector.shape, generator=torch.Generator().manual_seed(0))


def test_l2_sums_squared_distances_to_all_past_optima():
    method, optima = anchored("l2", 3)
    theta = random_theta(method)
    expected = sum(float((theta.double() - optimum).square().sum()) for optimum in optima)
    assert method.region.form.value(theta) == pytest.approx(expected, rel=1e-5)
    assert method.memory_bytes < 8.1 * len(theta) + 100  # one centre in float64


def test_l2_pulls_towards_the_mean_of_the_past_optima():
    method, (first, second) = anchored("l2", strength=10.0)
    theta = random_theta(method)
    moved = theta.clone()
    method.region.hold(moved, 0.05, 4, 8)
    # argmin |x - theta|^2 + 4 * rate * strength * (|x - first|^2 + |x - second|^2)
    step = 4 * 0.05 * 10.0
    expected = (theta.double() + step * (first + second)) / (1 + 2 * step)
    torch.testing.assert_close(moved.double(), expected, rtol=1e-5, atol=1e-6)


def estimates(monkeypatch):
    """The diagonals of the Fisher of each task, as they are estimated."""
    found, estimate = [], DiagonalFisher.estimate

    def kept(self, *arguments):
        found.append(estimate(self, *arguments))
        return found[-1]

    monkeypatch.setattr(DiagonalFisher, "estimate", kept)
    return found


def test_online_ewc_keeps_one_running_fisher_around_the_newest_optimum(monkeypatch):
    found = estimates(monkeypatch)
    method, optima = anchored("online_ewc", 3, decay=0.5)
    F = 0.25 * found[0].curvatures + 0.5 * found[1].curvatures + found[2].curvatures
    theta = random_theta(method)
    expected = float((F * (theta.double() - optima[-1]).square()).sum())
    assert method.region.form.value(theta) == pytest.approx(expected, rel=1e-6)
    assert method.region.strength_at(7, 8) == method.region.strength
    assert method.memory_bytes < 16.1 * len(theta) + 100  # two vectors, whatever the tasks


@pytest.mark.parametrize("fisher", ["rank1", "low_rank", "kfac"])
def test_online_ewc_decays_every_fisher(fisher):
    values = []
    for decay in (1.0, 0.0):
        method = make_method("online_ewc", fisher=fisher, decay=decay)
        for task in range(2):
            learn(method, task, 10)
        values.append(method.region.form.value(random_theta(method)))
    assert 0 < values[1] < values[0]


def test_importance_is_the_mean_absolute_gradient_of_the_squared_output():
    policy, generator = make_policy(), torch.Generator().manual_seed(0)
    sample = corrupt(policy, make_windows(0, 20), generator)
    parameters = dict(policy.network.named_parameters())

    def squared_output(at, x, k, condition):
        output = functional_call(policy.network, at, (x[None], k[None], condition[None]))
        return output.square().sum()

    expected = torch.zeros_like(concatenate(parameters))
    for i in range(20):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        value = squared_output(leaves, sample.noisy[i], sample.k[i], sample.condition[i])
        gradients = torch.autograd.grad(value, list(leaves.values()))
        expected += torch.cat([g.flatten() for g in gradients]).abs() / 20
    halves = [tuple(t[rows] for t in sample.tensors) for rows in (slice(0, 12), slice(12, 20))]
    found = Importance().estimate(half_squared_errors(policy), parameters, halves)
    torch.testing.assert_close(found.curvatures.float(), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.theta.float(), concatenate(parameters))


def test_mas_sums_importances_around_the_newest_optimum():
    method, optima = anchored("mas", samples=64)
    first = make_method("mas", samples=64)
    learn(first, 0, 30)
    before, after = first.region.form.curvatures, method.region.form.curvatures
    assert (after >= before).all()
    assert after.sum() > before.sum()
    torch.testing.assert_close(method.region.form.centre, optima[-1])


@pytest.mark.parametrize(("name", "strength"), [("l2", 1e3), ("mas", 1e4), ("online_ewc", 1e6)])
def test_a_strong_penalty_keeps_the_first_task(name, strength):
    errors = {}
    for weight in (0.0, strength):
        method = make_method(name, fisher="diagonal", targets="policy", strength=weight)
        learn(method, 0, 200)
        learn(method, 1, 100, last=True)
        errors[weight] = action_error(method.model, 0)
    assert errors[strength] < 0.1 < 0.2 < errors[0.0], errors
