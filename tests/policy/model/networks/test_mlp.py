import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.model.networks.mlp import Block, MLPOptions


def test_mlp_has_the_parameters_of_its_layers():
    network = MLPOptions().build(sample_steps=8, sample_size=7, condition_size=50)
    given, flat, width, hidden, context = 64 + 50, 8 * 7, 256, 512, 128
    film, expand, contract = 2 * width * (context + 1), hidden * (width + 1), width * (hidden + 1)
    ends = context * (given + 1) + width * (flat + given + 1) + flat * (width + 1)
    assert sum(p.numel() for p in network.parameters()) == ends + 3 * (film + expand + contract)


def test_block_starts_as_the_identity():
    h, context = torch.randn(3, 8), torch.randn(3, 5)
    assert torch.equal(Block(8, 16, 5)(h, context), h)


def test_build_refuses_an_odd_embedding():
    with pytest.raises(ReconvergeError, match="size 7"):
        MLPOptions(diffusion_step_embed_dim=7).build(
            sample_steps=2, sample_size=2, condition_size=2
        )
