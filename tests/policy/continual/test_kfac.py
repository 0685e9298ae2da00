"""Kronecker factors against the dense Fisher matrix, and against gradients of the layers."""

import gc

import pytest
import torch
from torch import nn
from torch.func import functional_call

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import corrupt, half_squared_errors, random_stream
from reconverge.policy.continual.kfac import Kfac
from reconverge.policy.continual.parameter_vector import concatenate
from support.dense import dense_fisher
from support.tiny import make_policy, make_windows
from support.tiny_checkpoint import UNET


def problem(network):
    """A network in float64, its parameters and its per-sample loss."""
    network = network.double()
    params = {name: p.detach() for name, p in network.named_parameters()}

    def loss(params, batch):
        output = functional_call(network, params, (batch[0],))
        return (output - batch[1]).square().flatten(1).mean(1)

    loss.network = network
    return loss, params


def sample(network, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = torch.randn(network(x).shape, generator=generator, dtype=torch.float64)
    return x, y


def held(fisher, loss, params, batches):
    form = fisher.form()
    form.add(fisher.estimate(loss, params, batches))
    return form


def matrix_of(form, params):
    """F, column by column."""
    anchor = concatenate(params)
    columns = [0.5 * form.gradient(anchor + e) for e in torch.eye(len(anchor)).double()]
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_estimate_is_exact_for_one_sample_of_a_linear_layer(corrected, bias):
    torch.manual_seed(0)
    loss, params = problem(nn.Linear(3, 4, bias=bias))
    batches = [sample(loss.network, 1, 3)]
    F = matrix_of(held(Kfac(corrected=corrected), loss, params, batches), params)
    torch.testing.assert_close(F, dense_fisher(loss, params, batches)[1])


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv1d(2, 3, 3, stride=2, padding=1), (7,)),
        (nn.Conv1d(2, 3, 5, padding=2), (6,)),
        (nn.ConvTranspose1d(2, 3, 4, stride=2, padding=1, bias=False), (5,)),
        (nn.Conv2d(2, 3, 3, padding=1), (4, 3)),
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (5, 4)),
    ],
    ids=["strided", "same", "transposed", "same 2d", "strided 2d"],
)
def test_estimate_is_exact_along_the_gradient_of_one_sample_of_a_convolution(layer, size):
    """The corrected curvatures sum to |g|^2, and g^T F g is |g|^4 where a layer has rank one."""
    loss, params = problem(layer)
    batches = [sample(layer, 1, 2, *size)]
    form = held(Kfac(corrected=True), loss, params, batches)
    _, F = dense_fisher(loss, params, batches)
    used = sum(block.curvatures.sum() for block in form.anchors[0].layers)
    torch.testing.assert_close(float(used), float(F.trace()))


def test_estimate_is_exact_for_one_sample_of_a_convolution_at_one_position():
    """There a convolution is a linear layer of its patch, in the order of its weights."""
    torch.manual_seed(0)
    loss, params = problem(nn.Conv2d(2, 3, (2, 3)))
    batches = [sample(loss.network, 1, 2, 2, 3)]
    F = matrix_of(held(Kfac(), loss, params, batches), params)
    torch.testing.assert_close(F, dense_fisher(loss, params, batches)[1])


def test_estimate_is_nearer_to_the_fisher_than_its_diagonal():
    torch.manual_seed(0)
    loss, params = problem(nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2)))
    batches = [sample(loss.network, 150, 3), sample(loss.network, 50, 3, seed=1)]
    _, F = dense_fisher(loss, params, batches)
    errors = {
        corrected: (matrix_of(held(Kfac(corrected=corrected), loss, params, batches), params) - F)
        for corrected in (False, True)
    }
    diagonal = torch.diag(F.diagonal()) - F
    assert errors[True].norm() <= errors[False].norm() < diagonal.norm()


def test_estimate_drops_the_factors_of_a_layer_with_its_eigenbases(monkeypatch):
    """Else matrices would pile up from layer to layer."""
    gc.collect()
    alive = []
    eigh = torch.linalg.eigh

    def counted(matrix):
        found = [kept for kept in gc.get_objects() if issubclass(type(kept), torch.Tensor)]
        alive.append(sum(kept.shape == matrix.shape for kept in found))
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    loss, params = problem(nn.Sequential(*(nn.Linear(5, 5, bias=False) for _ in range(3))))
    Kfac().estimate(loss, params, [sample(loss.network, 7, 5)])
    assert alive[2:] == 2 * alive[:2]


def test_estimate_counts_samples_not_batches():
    torch.manual_seed(0)
    loss, params = problem(nn.Linear(3, 2))
    x, y = sample(loss.network, 12, 3)
    whole = held(Kfac(), loss, params, [(x, y)])
    parts = held(Kfac(), loss, params, [(x[:5], y[:5]), (x[5:], y[5:])])
    theta = concatenate(params) + 1.0
    assert parts.value(theta) == pytest.approx(whole.value(theta))


@pytest.mark.parametrize("network", ["mlp", "unet1d"])
def test_estimate_of_a_policy_sees_its_gradients(network):
    """Along the gradient of one window the corrected form is at least what its layers show."""
    policy = make_policy(network=UNET) if network == "unet1d" else make_policy()
    stream = random_stream(torch.device("cpu"), 0)
    drawn = corrupt(policy, make_windows(0).sample(6, stream), stream)
    parameters = dict(policy.network.named_parameters())
    loss = half_squared_errors(policy)
    anchor = Kfac(corrected=True).estimate(loss, parameters, [drawn.tensors])
    leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    squares = dict.fromkeys(leaves, 0.0)
    for i in range(6):
        value = loss(leaves, tuple(x[i : i + 1] for x in drawn.tensors))[0]
        for name, g in zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True):
            squares[name] += float(g.square().sum()) / 6
    factored = sum(float(layer.curvatures.sum()) for layer in anchor.layers)
    norms = {name for name, p in leaves.items() if p.ndim == 1 and is_free(policy, name)}
    expected = sum(square for name, square in squares.items() if name not in norms)
    assert factored == pytest.approx(expected, rel=1e-3)


def is_free(policy, name):
    """Whether a vector of parameters is of a norm, or the bias of a transposed convolution."""
    owner = policy.network.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, (nn.GroupNorm, nn.ConvTranspose1d))


def test_estimate_refuses_gradients_that_are_not_finite():
    loss, params = problem(nn.Linear(2, 2))
    batches = [(torch.full((3, 2), torch.inf).double(), torch.zeros(3, 2).double())]
    with pytest.raises(ReconvergeError, match="not finite"):
        Kfac().estimate(loss, params, batches)


class InRows(nn.Module):
    """A layer that is shown the parts of a sample [B, T, D] as rows [B T, D]."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("corrected", [False, True])
def test_rows_of_a_sample_are_its_positions(corrected):
    layer = nn.Linear(3, 4)
    found = []
    for network in (layer, InRows(layer)):
        loss, params = problem(network)
        batches = [sample(network, 5, 2, 3)]
        found.append(matrix_of(held(Kfac(corrected=corrected), loss, params, batches), params))
    torch.testing.assert_close(*found)
