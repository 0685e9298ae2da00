"""The meta-learners against their formulas."""

import pytest
import torch
from tiny import action_error, learn, make_method, make_windows
from torch.func import functional_call

from policy.diffusion import mean_square
from policy.flat import concatenate, split


def prepared(name, **options):
    """A method in its second task, away from the teacher, and a batch as its denoiser sees it."""
    method = make_method(name, **options)
    learn(method, 0, 5)
    method.begin_task(1, 10)
    vector = method._optimization.vector
    vector.add_(0.05 * torch.randn(vector.shape, generator=torch.Generator().manual_seed(1)))
    return method, method._prepare(make_windows(1, 10))


def written_out(method, part, theta, rate):
    """First-order MAML gradient at theta with autograd: support rows 0, 2, ..., query rows 1, 3, ... of both kinds."""
    network = method._optimization.model.network
    names = dict(network.named_parameters())

    def gradient(vector, start):
        leaf = vector.clone().requires_grad_()
        total = 0.0
        for rows in (range(start, 10, 2), range(10 + start, 42, 2)):
            rows = list(rows)
            inputs = (part.noisy[rows], part.k[rows], part.condition[rows])
            output = functional_call(network, split(leaf, names), inputs)
            total = total + mean_square(output - part.target[rows]).mean()
        return torch.autograd.grad(total, leaf)[0]

    return gradient(theta - rate * gradient(theta, 0), 1)


def test_the_meta_gradient_is_the_querys_after_an_inner_step():
    method, part = prepared("ftml", inner_rate=0.3)
    theta = method._optimization.vector.clone()
    found, metrics = method._meta_gradient(part)
    torch.testing.assert_close(found, written_out(method, part, theta, 0.3), rtol=1e-4, atol=1e-7)
    assert torch.equal(method._optimization.vector, theta)
    assert metrics.keys() == {"loss", "distillation"}
    without = written_out(method, part, theta, 0.0)
    assert (found - without).norm() > 1e-3 * without.norm()


def test_variance_reduction_corrects_the_estimate_before_by_the_same_batch(monkeypatch):
    method, _ = prepared("vr_mcl", inner_rate=0.3)
    used, parts, thetas = [], [], []
    descend, prepare = method._optimization.descend, method._prepare

    def watched():
        used.append(method._optimization._gradient.clone())
        return descend()

    def keep(batch):
        parts.append(prepare(batch))
        thetas.append(method._optimization.vector.clone())
        return parts[-1]

    monkeypatch.setattr(method._optimization, "descend", watched)
    monkeypatch.setattr(method, "_prepare", keep)
    for update in range(3):
        method.update(make_windows(1, 10, seed=update))
    estimate = written_out(method, parts[0], thetas[0], 0.3)
    torch.testing.assert_close(used[0], estimate, rtol=1e-4, atol=1e-7)
    for t in (1, 2):
        now, before = (written_out(method, parts[t], thetas[i], 0.3) for i in (t, t - 1))
        estimate = now + 0.9 * (estimate - before)
        torch.testing.assert_close(used[t], estimate, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["ftml", "vr_mcl"])
def test_meta_learners_keep_the_first_task(name):
    method = make_method(name)
    learn(method, 0, 250)
    learn(method, 1, 400, last=True)
    assert action_error(method.policy, 0) < 0.04
    assert action_error(method.policy, 1) < 0.04


def test_the_estimate_ends_with_its_task():
    method = make_method("vr_mcl")
    learn(method, 0, 3)
    assert "meta/estimate" in method.state_dict()
    method.begin_task(1, 3)
    assert "meta/estimate" not in method.state_dict()
    assert len(concatenate(dict(method.policy.named_parameters()))) == len(method._optimization.vector)
