import pytest
import torch

from policy.networks import NETWORKS, build_network
from policy.networks.embedding import sinusoidal

PAPER = {
    "channels": (256, 512, 1024),
    "kernel": 5,
    "groups": 8,
    "embedding": 512,
    "attention_levels": (2, 3),
    "heads": 8,
}
SMALL = {
    "mlp": {"width": 32, "depth": 2},
    "unet1d": {"channels": (16, 32, 64), "attention_levels": (2, 3), "heads": 4},
}


def build(name, steps, size=3, condition_size=7):
    torch.manual_seed(0)
    network = build_network(name, sample_steps=steps, sample_size=size, condition_size=condition_size, **SMALL[name])
    for parameter in network.parameters():  # away from the zeros of the start
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return network


def inputs(count, steps, size=3, condition_size=7):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, steps, size, generator=generator)
    return x, torch.arange(count) * 9, torch.randn(count, condition_size, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_every_network_keeps_the_shape_and_treats_samples_apart(name, steps):
    network = build(name, steps)
    x, k, condition = inputs(4, steps)
    together = network(x, k, condition)
    assert together.shape == x.shape
    for b in range(4):
        alone = network(x[b : b + 1], k[b : b + 1], condition[b : b + 1])
        torch.testing.assert_close(together[b], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_output_depends_on_every_argument_and_every_parameter(name):
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


def test_attention_equals_torch():
    from policy.networks.unet1d import SelfAttention

    torch.manual_seed(0)
    ours = SelfAttention(16, heads=4, groups=4)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.in_proj_weight.data = ours.qkv.weight.data[:, :, 0]
    theirs.in_proj_bias.data = ours.qkv.bias.data
    theirs.out_proj.weight.data = ours.out.weight.data[:, :, 0]
    theirs.out_proj.bias.data = ours.out.bias.data
    h = torch.randn(2, 16, 5)
    normed = ours.norm(h).transpose(1, 2)
    torch.testing.assert_close(ours(h) - h, theirs(normed, normed, normed)[0].transpose(1, 2))


def test_unet_has_the_size_of_the_paper():
    """arXiv 2602.02417: 83.27 M, 39-D state, 6 observation and 2 action steps."""
    with torch.device("meta"):
        network = build_network("unet1d", sample_steps=2, sample_size=4, condition_size=6 * 39, **PAPER)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(83.27e6, rel=1e-3)


def test_default_mlp_is_the_measured_size():
    network = build_network("mlp", sample_steps=8, sample_size=7, condition_size=50)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(4.4e6, rel=0.15)


def test_sinusoidal_features_tell_steps_apart():
    features = sinusoidal(torch.arange(1000), 64)
    assert features.shape == (1000, 64)
    torch.testing.assert_close(features.square().sum(1), torch.full((1000,), 32.0))
    distance = torch.cdist(features, features) + 10 * torch.eye(1000)
    assert distance.min() > 0.1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mpl", {}, "unknown network 'mpl': choose one of mlp, unet1d; did you mean 'mlp'"),
        ("mlp", {"widht": 3}, "unknown option of network 'mlp' 'widht'.*did you mean 'width'"),
        ("unet1d", {"kernel": 4}, "kernel=4"),
        ("unet1d", {"kernel": -1}, "kernel=-1.*at least 1"),
        ("unet1d", {"groups": 0}, "groups=0"),
        ("unet1d", {"attention_levels": (1,), "heads": 0}, "heads=0"),
        ("unet1d", {"channels": (12,)}, "groups=8 does not divide channels=12"),
        ("unet1d", {"attention_levels": (4,)}, "attention level 4: choose among 1 to 3"),
        ("unet1d", {"attention_levels": (1,), "heads": 7}, "heads=7"),
        ("mlp", {"embedding": 7}, "size 7"),
    ],
)
def test_bad_choices_name_the_legal_ones(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_network(name, sample_steps=2, sample_size=2, condition_size=2, **options)
