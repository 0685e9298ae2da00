import pytest
import torch
from torch import nn

from reconverge.policy.continual.ema import Ema


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def decay(step, max_decay):
    """Return the decay of diffusion_policy (Chi et al. 2023, arXiv 2303.04137) at a step."""
    n = step - 1
    return 0.0 if n <= 0 else min(max_decay, 1 - (1 + n) ** -0.75)


@pytest.mark.parametrize("max_decay", [0.9999, 0.5])
def test_update_averages_all_parameters_with_their_weights(max_decay):
    ema = Ema(network(0), max_decay)
    seen, steps = [network(1 + i) for i in range(8)], 8
    for new in seen:
        new[1].running_mean.fill_(float(len(seen)))
        ema.update(new)
    decays = [decay(i, max_decay) for i in range(steps)]
    for i, average in enumerate(ema.network.parameters()):
        expected = torch.zeros_like(average)
        for step, new in enumerate(seen):
            later = torch.tensor(decays[step + 1 :], dtype=torch.float64).prod().item()
            expected += later * (1 - decays[step]) * list(new.parameters())[i]
        torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6)
    assert ema.network[1].running_mean.eq(8).all()


def test_ema_shares_nothing_with_the_network():
    source = network(0)
    ema = Ema(source, 0.9999)
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert all(p.requires_grad for p in source.parameters())
    before = ema.network[0].weight.clone()
    source[0].weight.data.add_(1)
    assert torch.equal(ema.network[0].weight, before)


@pytest.mark.parametrize("span", [0.5, 1.0, 2.0, 30.0, 100.0])
def test_counter_is_the_least_for_a_span(span):
    ema = Ema(nn.Linear(1, 1), 0.9999)
    ema.updates = ema.counter(span)
    assert ema.decay >= 1 - 1 / max(1, span) - 1e-12
    ema.updates -= 1
    assert span <= 1 or ema.decay < 1 - 1 / span
