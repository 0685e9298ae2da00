import copy

import torch
from torch import nn

from reconverge.policy.continual.parameter_vector import concatenate, flatten_parameters, split


def test_flatten_parameters_gives_the_network_itself():
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
