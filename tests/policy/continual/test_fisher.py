"""Estimators against the dense Fisher matrix of a tiny network."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from reconverge.errors import ReconvergeError
from reconverge.options import check_options, choose
from reconverge.policy.continual.fisher import FISHERS, DiagonalFisher, LowRank, Rank1
from reconverge.policy.continual.parameter_vector import concatenate
from reconverge.policy.model.networks import NETWORKS
from support.dense import dense_fisher

SIZES = [5, 7, 5]  # uneven batches: the mean is over samples


def problem():
    """A tiny network in float64, its per-sample loss and batches."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    params = {name: p.detach() for name, p in network.named_parameters()}
    batches = [(torch.randn(n, 3).double(), torch.randn(n, 2).double()) for n in SIZES]

    def loss(params, batch):
        return (functional_call(network, params, (batch[0],)) - batch[1]).square().mean(1)

    loss.network = network
    return loss, params, batches


def displaced(params, seed=3):
    anchor = concatenate(params)
    return anchor, torch.randn(
        anchor.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def held(fisher, loss, params, batches):
    form = fisher.form()
    form.add(fisher.estimate(loss, params, batches))
    return form


def test_rank1_equals_the_dense_fisher():
    loss, params, batches = problem()
    anchor = Rank1().estimate(loss, params, batches)
    mu, F = dense_fisher(loss, params, batches)
    (direction,), (curvature,) = anchor.directions, anchor.curvatures
    torch.testing.assert_close(direction, mu)
    assert float(curvature) == pytest.approx((mu @ F @ mu / (mu @ mu) ** 2).item(), rel=1e-10)
    assert float(anchor.offsets) == pytest.approx((mu @ concatenate(params)).item(), rel=1e-10)
    fitted = curvature * torch.outer(direction, direction)
    torch.testing.assert_close(mu @ fitted @ mu, mu @ F @ mu)
    errors = [
        torch.linalg.matrix_norm(F - scale * fitted).item() for scale in (0.9, 0.99, 1.0, 1.01, 1.1)
    ]
    assert min(errors) == errors[2]


def test_diagonal_equals_the_dense_fisher():
    loss, params, batches = problem()
    anchor = DiagonalFisher().estimate(loss, params, batches)
    _, F = dense_fisher(loss, params, batches)
    torch.testing.assert_close(anchor.curvatures, F.diagonal())
    torch.testing.assert_close(anchor.theta, concatenate(params))


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_low_rank_holds_the_dense_fishers_leading_eigenvectors(rank):
    """17 samples: the Fisher has rank 17 at most, and 16 directions are carried."""
    loss, params, batches = problem()
    _, F = dense_fisher(loss, params, batches)
    anchor = LowRank(rank=rank, oversampling=16 - rank, iterations=3).estimate(
        loss, params, batches
    )
    values, vectors = torch.linalg.eigh(F)
    torch.testing.assert_close(anchor.curvatures, values.flip(0)[:rank], rtol=1e-6, atol=1e-12)
    overlap = (anchor.directions @ vectors.flip(1)[:, :rank]).abs()
    torch.testing.assert_close(overlap, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-3)


def test_low_rank_of_full_rank_is_the_dense_fisher():
    loss, params, batches = problem()
    _, F = dense_fisher(loss, params, batches)
    form = held(LowRank(rank=17, oversampling=4), loss, params, batches)
    anchor, delta = displaced(params)
    assert form.value(anchor + delta) == pytest.approx((delta @ F @ delta).item(), rel=1e-8)


@pytest.mark.parametrize("name", FISHERS)
def test_form_is_zero_at_the_optimum_and_at_most_the_fisher(name):
    loss, params, batches = problem()
    _, F = dense_fisher(loss, params, batches)
    form = held(FISHERS[name](), loss, params, batches)
    anchor, delta = displaced(params)
    assert form.value(anchor) == pytest.approx(0, abs=1e-18)
    assert form.value(anchor + delta) > 0
    if name == "low_rank":  # leaves out what is not leading
        assert form.value(anchor + delta) <= (delta @ F @ delta).item() * (1 + 1e-9)


@pytest.mark.parametrize("name", FISHERS)
def test_estimate_takes_float32_parameters_and_unused_ones(name):
    loss, params, batches = problem()
    fisher = FISHERS[name]()
    exact = held(fisher, loss, params, batches)
    single = {name: p.float() for name, p in params.items()} | {"unused": torch.ones(3)}
    form = held(fisher, loss, single, [(x.float(), y.float()) for x, y in batches])
    anchor, delta = displaced(params)
    moved = torch.cat([anchor + delta, torch.full((3,), 9.0)]).float()
    tolerance = 0.05 if name == "low_rank" else 1e-3  # another random start
    assert form.value(moved) == pytest.approx(exact.value(anchor + delta), rel=tolerance)


@pytest.mark.parametrize("name", FISHERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_estimate_of_every_network(name, network):
    torch.manual_seed(0)
    small = {
        "mlp": {"width": 16, "depth": 1},
        "unet1d": {"down_dims": [8, 16], "n_groups": 4},
    }
    options = NETWORKS[network](**small.get(network, {}))
    net = options.build(sample_steps=4, sample_size=2, condition_size=3)
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    params = dict(net.named_parameters())
    batches = [(torch.randn(20, 4, 2), torch.arange(20), torch.randn(20, 3))]

    def loss(params, batch):
        return functional_call(net, params, batch).square().mean((1, 2))

    loss.network = net
    form = held(FISHERS[name](), loss, params, batches)
    theta = concatenate(params)
    assert len(form) == 1
    assert form.value(theta) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(form.value(theta + 0.1))
    assert form.value(theta + 0.1 * torch.randn_like(theta)) > 0


def test_rank1_without_a_mean_gradient_is_zero():
    params = {"w": torch.zeros(2)}
    anchor = Rank1().estimate(
        lambda p, x: (p["w"] * x[0]).sum(1), params, [(torch.tensor([[1.0, 2.0], [-1.0, -2.0]]),)]
    )
    assert float(anchor.curvatures) == 0
    form = Rank1().form()
    form.add(anchor)
    theta = torch.ones(2)
    assert form.shrink(theta, 1.0) == 0
    assert theta.tolist() == [1, 1]


@pytest.mark.parametrize("name", FISHERS)
def test_estimate_refuses_batches_that_it_cannot_use(name):
    loss, params, batches = problem()
    fisher = FISHERS[name]()
    with pytest.raises(ReconvergeError, match="not finite"):
        fisher.estimate(loss, params, [(batches[0][0] * float("nan"), batches[0][1])])


def test_fishers_refuses_unknown_names_and_values():
    with pytest.raises(ReconvergeError, match=r"unknown fisher 'rank-1'.*did you mean 'rank1'"):
        choose("fisher", FISHERS, {"name": "rank-1"})
    with pytest.raises(
        ReconvergeError, match=r"unknown option of fisher 'low_rank' 'rnak'.*did you mean 'rank'"
    ):
        choose("fisher", FISHERS, {"name": "low_rank", "rnak": 3})
    for name, bad in (("rank", 0), ("oversampling", -1), ("iterations", -1), ("samples", 0)):
        with pytest.raises(ReconvergeError, match=f"fisher.{name}={bad}: must be at least"):
            check_options(LowRank(**{name: bad}), "fisher.")
