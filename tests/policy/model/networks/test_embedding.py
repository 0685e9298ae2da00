import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.model.networks.embedding import check_size, sinusoidal


def test_sinusoidal_separates_all_steps():
    features = sinusoidal(torch.arange(1000), 64)
    assert features.shape == (1000, 64)
    torch.testing.assert_close(features.square().sum(1), torch.full((1000,), 32.0))
    distance = torch.cdist(features, features) + 10 * torch.eye(1000)
    assert distance.min() > 0.1


@pytest.mark.parametrize("size", [7, 2, 0])
def test_check_size_refuses_odd_and_small_sizes(size):
    with pytest.raises(ReconvergeError, match=f"size {size}: give an even number from 4 on"):
        check_size(size)
    assert check_size(4) == 4
