"""Inception's features: the network is torch-fidelity's, and its packages are checked."""

from importlib.util import find_spec

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from reconverge.datasets.images.picture_store import open_store
from reconverge.datasets.images.supplied import supply
from reconverge.errors import ReconvergeError
from reconverge.policy.images import inception
from reconverge.policy.images.class_tasks import as_bytes
from reconverge.policy.images.inception import features_of_tests, inception_features
from support.picture_files import make_folders


@pytest.fixture(scope="module")
def features():
    return inception_features("cpu")


def load_into(extractor, tensors):
    """Fill torch-fidelity's layers with the package's, which are in the same order."""
    layers = [part for part in extractor.modules() if isinstance(part, fidelity.BasicConv2d)]
    for layer, *found in zip(layers, *[iter(tensors)] * 4, strict=True):
        names = "weight", "beta", "mean", "var"
        assert [name.rpartition(".")[2] for name, _ in found] == list(names)
        parts = layer.conv.weight, layer.bn.bias, layer.bn.running_mean, layer.bn.running_var
        for part, (_, value) in zip(parts, found, strict=True):
            part.data.copy_(value)
        layer.bn.weight.data.fill_(1.0)  # which these have not


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_features_are_those_of_torch_fidelitys_network(features, monkeypatch):
    monkeypatch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: None)
    extractor = fidelity.FeatureExtractorInceptionV3("inception", ["2048"])
    script = torch.jit.load(str(inception.find_network()), map_location="cpu")
    load_into(extractor, script.state_dict().items())
    pictures = torch.rand(3, 1, 16, 16, generator=torch.manual_seed(0)) * 2 - 1
    expected = extractor(as_bytes(pictures).expand(-1, 3, -1, -1))[0]
    torch.testing.assert_close(features(pictures), expected, rtol=1e-4, atol=1e-5)


def test_features_of_test_pictures_are_in_their_order_and_kept(features, tmp_path):
    store = supply(str(make_folders(tmp_path / "shapes")), 8, tmp_path / "stores")
    found = features_of_tests(store, features)
    assert found.shape == (len(store.pictures.test.labels), 2048)
    last = torch.tensor(store.pictures.test.pictures[-1:]) / 127.5 - 1
    torch.testing.assert_close(found[-1:], features(last), rtol=1e-4, atol=1e-5)
    kept = features_of_tests(open_store(store.path), lambda _: pytest.fail("computed again"))
    assert torch.equal(kept, found)


@pytest.mark.parametrize("missing", [inception.PACKAGE, "torch_fidelity"])
def test_a_missing_package_is_one_line_with_the_command(monkeypatch, missing):
    monkeypatch.setattr(
        inception, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    with pytest.raises(ReconvergeError, match=r"needs packages; pip install -e '\.\[fid\]'"):
        inception_features("cpu")


def test_another_network_is_refused(monkeypatch):
    monkeypatch.setattr(inception, "SHA256", "0" * 64)
    with pytest.raises(ReconvergeError, match=r"is another network \(SHA-256 7ff4a85c3a63"):
        inception_features("cpu")
