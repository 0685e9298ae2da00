import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from policy.fisher import FISHERS, Anchor, Rank1, Rank1Penalty, find_fisher
from policy.flat import concatenate, flatten_parameters, split

SIZES = [5, 7, 5]  # uneven batches: the mean is over samples


def problem():
    """A tiny network in float64, its per-sample loss and batches."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    params = {name: p.detach() for name, p in network.named_parameters()}
    batches = [(torch.randn(n, 3).double(), torch.randn(n, 2).double()) for n in SIZES]

    def loss(params, batch):
        return (functional_call(network, params, (batch[0],)) - batch[1]).square().mean(1)

    return loss, params, batches


def dense_fisher(loss, params, batches):
    """Mean gradient and E[g g^T] from one backward pass a sample."""
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    rows = []
    for x, y in batches:
        for i in range(len(x)):
            value = loss(leaves, (x[i : i + 1], y[i : i + 1]))[0]
            gradients = torch.autograd.grad(value, list(leaves.values()))
            rows.append(torch.cat([g.flatten() for g in gradients]))
    G = torch.stack(rows)
    return G.mean(0), G.T @ G / len(G)


def random_penalty(strength=0.7, size=30, seed=0, tasks=3):
    generator = torch.Generator().manual_seed(seed)
    penalty = Rank1Penalty(strength)
    for _ in range(tasks):
        direction = torch.randn(size, generator=generator, dtype=torch.float64)
        offset, curvature = torch.rand(2, generator=generator).tolist()
        penalty.add(Anchor(direction, offset, 0.1 + curvature))
    return penalty, torch.randn(size, generator=generator, dtype=torch.float64)


def written_out(penalty, theta):
    """The definition, differentiable."""
    total = torch.zeros((), dtype=theta.dtype)
    for i in range(len(penalty)):
        residual = (penalty.directions[i] * theta).sum() - penalty.offsets[i]
        total = total + penalty.strength / 2 * penalty.curvatures[i] * residual**2
    return total


def test_estimate_equals_the_dense_fisher():
    loss, params, batches = problem()
    anchor = Rank1.estimate(loss, params, batches)
    mu, F = dense_fisher(loss, params, batches)
    torch.testing.assert_close(anchor.direction, mu)
    assert anchor.curvature == pytest.approx((mu @ F @ mu / (mu @ mu) ** 2).item(), rel=1e-10)
    assert anchor.offset == pytest.approx((mu @ concatenate(params)).item(), rel=1e-10)
    fitted = anchor.curvature * torch.outer(anchor.direction, anchor.direction)
    torch.testing.assert_close(mu @ fitted @ mu, mu @ F @ mu)
    errors = [torch.linalg.matrix_norm(F - scale * fitted).item() for scale in (0.9, 0.99, 1.0, 1.01, 1.1)]
    assert min(errors) == errors[2]


def test_penalty_is_the_quadratic_form_of_the_rank1_fisher():
    loss, params, batches = problem()
    mu, F = dense_fisher(loss, params, batches)
    fitted = mu @ F @ mu / (mu @ mu) ** 2 * torch.outer(mu, mu)
    penalty = find_fisher("rank1").penalty(12.0)
    penalty.add(Rank1.estimate(loss, params, batches))
    anchor = concatenate(params)
    delta = torch.randn(anchor.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert penalty.value(anchor + delta) == pytest.approx((6 * delta @ fitted @ delta).item(), rel=1e-8)
    assert penalty.value(anchor) == pytest.approx(0, abs=1e-20)


def test_estimate_takes_float32_parameters_and_unused_ones():
    loss, params, batches = problem()
    exact = Rank1.estimate(loss, params, batches)
    single = {name: p.float() for name, p in params.items()} | {"unused": torch.ones(3)}
    anchor = Rank1.estimate(loss, single, [(x.float(), y.float()) for x, y in batches])
    assert anchor.direction.dtype == torch.float32
    torch.testing.assert_close(anchor.direction[:-3], exact.direction.float(), rtol=1e-4, atol=1e-6)
    assert anchor.direction[-3:].eq(0).all()
    assert anchor.curvature == pytest.approx(exact.curvature, rel=1e-4)


def test_no_mean_gradient_is_no_penalty():
    params = {"w": torch.zeros(2)}
    anchor = Rank1.estimate(lambda p, x: (p["w"] * x).sum(1), params, [torch.tensor([[1.0, 2.0], [-1.0, -2.0]])])
    assert anchor.curvature == 0
    penalty = Rank1Penalty(1.0)
    penalty.add(anchor)
    theta = torch.ones(2)
    assert penalty.proximal_step(theta, 1.0) == 0
    assert theta.tolist() == [1, 1]


def test_gradient_equals_autograd_and_finite_differences():
    penalty, theta = random_penalty()
    leaf = theta.clone().requires_grad_()
    value = written_out(penalty, leaf)
    value.backward()
    assert penalty.value(theta) == pytest.approx(value.item(), rel=1e-12)
    gradient = penalty.gradient(theta)
    torch.testing.assert_close(gradient, leaf.grad)
    h = 1e-5 * torch.eye(len(theta), dtype=torch.float64)
    slopes = [(penalty.value(theta + e) - penalty.value(theta - e)) / 2e-5 for e in h]
    torch.testing.assert_close(gradient, torch.tensor(slopes, dtype=torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [1e-3, 0.1, 10.0])
def test_proximal_step_equals_numeric_minimisation(step):
    penalty, theta = random_penalty()
    x = theta.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [x], max_iter=500, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective():
        search.zero_grad()
        value = (x - theta).square().sum() / 2 + step * written_out(penalty, x)
        value.backward()
        return value

    search.step(objective)
    moved = theta.clone()
    after = penalty.proximal_step(moved, step)
    torch.testing.assert_close(moved, x.detach(), rtol=1e-6, atol=1e-7)
    assert (moved - theta).norm() > 1e-4
    assert after == pytest.approx(penalty.value(moved), rel=1e-6)


@pytest.mark.parametrize("strength", [1e3, 1e12, 1e30, 1e300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_proximal_step_is_stable_whatever_the_stiffness(strength, dtype):
    """Against ever stronger penalties the step tends to the projection onto all the constraints."""
    penalty, theta = random_penalty(strength, size=1000)
    nearly = penalty.directions[0] + 1e-4 * penalty.directions[1]  # almost parallel to a constraint held
    penalty.add(Anchor(nearly, float(penalty.offsets[0] + 1e-4 * penalty.offsets[1]), 1.0))
    penalty.directions = penalty.directions.to(dtype)
    M, theta = penalty.directions, theta.to(dtype)
    projected = theta.double() - torch.linalg.pinv(M[:3].double()) @ (
        M[:3].double() @ theta.double() - penalty.offsets[:3]
    )
    moved = theta.clone()
    for _ in range(20):
        penalty.proximal_step(moved, 1.0)
    torch.testing.assert_close(moved.double(), projected, rtol=0, atol=1e-4)


def test_descent_with_proximal_steps_reaches_the_minimum_of_the_sum():
    """Proximal gradient descent minimises f + penalty where explicit descent with this step diverges."""
    penalty, target = random_penalty(strength=1e4)
    theta = torch.zeros_like(target)
    for _ in range(400):
        theta -= 0.1 * (theta - target)
        penalty.proximal_step(theta, 0.1)
    stationarity = (theta - target) + penalty.gradient(theta)
    assert stationarity.abs().max() < 1e-8


def test_a_longer_step_every_fourth_update_has_nearly_the_same_minimum():
    penalty, target = random_penalty(strength=1e4)
    ends = []
    for every in (1, 4):
        theta = torch.zeros_like(target)
        for update in range(2000):
            theta -= 0.01 * (theta - target)
            if update % every == every - 1:
                penalty.proximal_step(theta, every * 0.01)
        ends.append(theta)
    assert (ends[1] - ends[0]).norm() < 0.01 * (target - ends[0]).norm()


def test_no_anchor_is_no_penalty():
    penalty, theta = Rank1Penalty(5.0), torch.ones(4)
    assert penalty.value(theta) == 0
    assert penalty.proximal_step(theta, 1.0) == 0
    assert penalty.gradient(theta).eq(0).all()
    assert theta.eq(1).all()
    assert penalty.state_dict() == {}


def test_state_is_tensors_and_restores_the_penalty():
    penalty, theta = random_penalty()
    state = {name: value.clone() for name, value in penalty.state_dict().items()}
    restored = Rank1Penalty(0.7)
    restored.load_state_dict(state)
    assert len(restored) == 3
    a, b = theta.clone(), theta.clone()
    assert penalty.proximal_step(a, 0.3) == restored.proximal_step(b, 0.3)
    assert torch.equal(a, b)
    restored.load_state_dict({})
    assert len(restored) == 0


def test_flattened_parameters_are_the_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    untouched = copy.deepcopy(network)
    flat = flatten_parameters(network)
    params = dict(network.named_parameters())
    assert torch.equal(flat, concatenate(dict(untouched.named_parameters())))
    assert all(torch.equal(view, params[name]) for name, view in split(flat, params).items())
    x = torch.randn(5, 3)
    assert torch.equal(network(x), untouched(x))
    optimiser, other = (torch.optim.AdamW(n.parameters(), 1e-2) for n in (network, untouched))
    for net, opt in ((network, optimiser), (untouched, other)):
        net(x).square().mean().backward()
        opt.step()
    assert torch.equal(flat, concatenate(dict(untouched.named_parameters())))
    network.load_state_dict({name: torch.zeros_like(p) for name, p in params.items()})
    assert flat.eq(0).all()
    flat.fill_(1)
    assert all(p.eq(1).all() for p in network.parameters())


def test_bad_input():
    loss, params, batches = problem()
    with pytest.raises(ValueError, match="read twice"):
        Rank1.estimate(loss, params, iter(batches))
    with pytest.raises(ValueError, match="at least one batch"):
        Rank1.estimate(loss, params, [])
    with pytest.raises(ValueError, match="not finite"):
        Rank1.estimate(loss, params, [(batches[0][0] * float("nan"), batches[0][1])])
    with pytest.raises(ValueError, match=r"strength=-1\.0"):
        Rank1Penalty(-1.0)
    with pytest.raises(ValueError, match=r"unknown Fisher estimator 'rank-1'.*did you mean 'rank1'"):
        find_fisher("rank-1")
    penalty, _ = random_penalty()
    with pytest.raises(ValueError, match="anchor of 2 parameters beside anchors of 30"):
        penalty.add(Anchor(torch.zeros(2, dtype=torch.float64), 0.0, 1.0))
    assert set(FISHERS) == {"rank1"}
