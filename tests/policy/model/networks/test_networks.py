"""The contract of every network in the table."""

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.options import choose
from reconverge.policy.model.networks import NETWORKS

SMALL = {
    "mlp": {"width": 32, "depth": 2},
    "unet1d": {"down_dims": [16, 32, 64], "attention_levels": [2, 3], "heads": 4},
}


def build(name, steps, size=3, condition_size=7):
    torch.manual_seed(0)
    options = NETWORKS[name](**SMALL.get(name, {}))
    assert options.name == name
    network = options.build(sample_steps=steps, sample_size=size, condition_size=condition_size)
    for parameter in network.parameters():  # away from the zeros of the start
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return network


def inputs(count, steps, size=3, condition_size=7):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, steps, size, generator=generator)
    return x, torch.arange(count) * 9, torch.randn(count, condition_size, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_forward_keeps_the_shape_and_treats_samples_separately(name, steps):
    network = build(name, steps)
    x, k, condition = inputs(4, steps)
    together = network(x, k, condition)
    assert together.shape == x.shape
    for b in range(4):
        alone = network(x[b : b + 1], k[b : b + 1], condition[b : b + 1])
        torch.testing.assert_close(together[b], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_depends_on_every_argument_and_every_parameter(name):
    network = build(name, 4)
    x, k, condition = inputs(4, 4)
    x.requires_grad_()
    condition.requires_grad_()
    output = network(x, k, condition)
    output.square().sum().backward()
    assert (x.grad != 0).all()
    assert (condition.grad != 0).all()
    assert not torch.allclose(output, network(x, k + 1, condition))
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_mode_derivative_equals_finite_differences(name):
    network = build(name, 4).double()
    x, k, condition = (t.double() if t.is_floating_point() else t for t in inputs(3, 4))
    params = {n: p.detach() for n, p in network.named_parameters()}
    torch.manual_seed(2)
    along = {n: torch.randn_like(p) for n, p in params.items()}

    def output(params):
        return torch.func.functional_call(network, params, (x, k, condition))

    tangent = torch.func.jvp(output, (params,), (along,))[1]
    h = 1e-6
    ahead = output({n: p + h * along[n] for n, p in params.items()})
    behind = output({n: p - h * along[n] for n, p in params.items()})
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "mpl"},
            "unknown network 'mpl': choose one of mlp, .*; did you mean 'mlp'",
        ),
        (
            {"name": "mlp", "widht": 3},
            "unknown option of network 'mlp' 'widht'.*did you mean 'width'",
        ),
    ],
)
def test_networks_refuses_unknown_names(values, message):
    with pytest.raises(ReconvergeError, match=message):
        choose("network", NETWORKS, values)
