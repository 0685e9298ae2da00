"""The U-Net of pictures against diffusers' own, and what the core needs of it."""

import pytest
import torch
from diffusers import UNet2DModel

from reconverge.errors import ReconvergeError
from reconverge.policy.images.unet2d import PaperUNet2dOptions, UNet2dOptions

SHAPE = (3, 8, 8)


def test_network_is_diffusers_with_a_table_of_classes():
    """With the same weights it answers as UNet2DModel with `num_class_embeds` does."""
    torch.manual_seed(0)
    network = UNet2dOptions(channels=[8, 16], attention=[1]).build(SHAPE, 5)
    theirs = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        num_class_embeds=5,
    )
    state = network.unet.state_dict() | {"class_embedding.weight": network.classes.weight.T}
    theirs.load_state_dict(state)
    x, k, label = (
        torch.randn(4, 3, 8, 8),
        torch.tensor([0, 9, 500, 999]),
        torch.tensor([0, 1, 4, 4]),
    )
    one_hot = torch.nn.functional.one_hot(label, 5).float()
    expected = theirs(x, k, class_labels=label).sample
    found = network(x.flatten(1, 2), k, one_hot).unflatten(1, (3, 8))
    torch.testing.assert_close(found, expected)


def test_sizes():
    """About a million parameters by default; the predecessor's tens of millions."""
    count = {}
    for options in (UNet2dOptions(), PaperUNet2dOptions()):
        with torch.device("meta"):
            network = options.build((1, 32, 32), 32)
        count[options.name] = sum(p.numel() for p in network.parameters())
    assert 0.9e6 < count["unet2d"] < 1.2e6
    assert 3e7 < count["unet2d_paper"] < 6e7


@pytest.mark.parametrize(
    ("changes", "size", "said"),
    [
        ({"channels": [8, 9]}, 8, "whole multiples of 2"),
        ({"channels": []}, 8, "whole multiples"),
        ({"channels": [8, 4]}, 8, "need at least 8, for a head of attention"),
        ({"channels": [4, 8], "attention": [0]}, 8, "need at least 8, for a head of attention"),
        ({"channels": [8, 8, 8, 8]}, 12, "size must be a multiple of 8, got 12"),
        ({"attention": [3]}, 8, r"network.attention=\[3\]: must be in 0..2"),
    ],
)
def test_bad_sizes_are_one_line(changes, size, said):
    with pytest.raises(ReconvergeError, match=said):
        UNet2dOptions(**changes).build((1, size, size), 4)
