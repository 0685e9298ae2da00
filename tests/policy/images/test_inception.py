"""Inception's features by torch-fidelity's interface, and one line where they are missing."""

import sys

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.images.inception import AT_ONCE, inception_features

MODULE = "torch_fidelity.feature_extractor_inceptionv3"


class Colours(torch.nn.Module):
    """Answers as torch-fidelity's extractor: a tuple with features of bytes [B, 3, H, W]."""

    def __init__(self, name, layers):
        super().__init__()
        assert layers == ["2048"]

    def forward(self, pictures):
        assert pictures.dtype == torch.uint8
        return (pictures.double().mean(dim=(2, 3)),)


def use(monkeypatch, extractor):
    module = type(sys)(MODULE)
    module.FeatureExtractorInceptionV3 = extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", type(sys)("torch_fidelity"))
    monkeypatch.setitem(sys.modules, MODULE, module)


def test_features_are_of_grey_pictures_in_bytes_in_their_order(monkeypatch):
    use(monkeypatch, Colours)
    values = torch.linspace(-1, 1, AT_ONCE + 3)
    found = inception_features("cpu")(values[:, None, None, None].expand(-1, 1, 4, 4))
    expected = ((values + 1) * 127.5).round().double()
    torch.testing.assert_close(found, expected[:, None].expand(-1, 3))


def fail(*_):
    raise OSError("no\nnetwork")


def test_missing_package_or_weights_are_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(ReconvergeError, match="needs torch-fidelity"):
        inception_features("cpu")
    use(monkeypatch, fail)
    with pytest.raises(ReconvergeError, match=r"cannot be loaded .OSError: no network.") as refused:
        inception_features("cpu")
    assert "\n" not in str(refused.value)
