import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.model.networks.unet1d import SelfAttention, UNet1dOptions

PAPER = UNet1dOptions(
    down_dims=[256, 512, 1024], diffusion_step_embed_dim=512, attention_levels=[2, 3]
)


def test_self_attention_equals_torch():
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


def test_unet1d_has_the_size_of_the_paper():
    """Wang et al. 2026, arXiv 2602.02417: 83.27 M, Do = 39, To = 6, Tp = 2."""
    with torch.device("meta"):
        network = PAPER.build(sample_steps=2, sample_size=4, condition_size=6 * 39)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(83.27e6, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"down_dims": []}, r"down_dims=\[\]: give at least one level"),
        ({"down_dims": [0]}, r"down_dims=\[0\]"),
        ({"kernel_size": 4}, "kernel_size=4: give an odd size"),
        ({"down_dims": [12]}, r"n_groups=8 does not divide 12 of down_dims=\[12\]"),
        ({"attention_levels": [4]}, "attention level 4: choose among 1 to 3"),
        ({"attention_levels": [1], "heads": 7}, "heads=7"),
        ({"diffusion_step_embed_dim": 7}, "size 7"),
    ],
)
def test_build_refuses_bad_options(options, message):
    with pytest.raises(ReconvergeError, match=message):
        UNet1dOptions(**options).build(sample_steps=2, sample_size=2, condition_size=2)
