import sys
from dataclasses import asdict

import numpy as np
import pytest
import timm
import torch

from reconverge.envs.catalog import TASKS
from reconverge.errors import ReconvergeError
from reconverge.policy.model.encoders import (
    ENCODERS,
    EfficientNetOptions,
    TimmOptions,
    make_sight,
)
from reconverge.policy.model.encoders.pretrained import FrozenEncoder

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def encoder():
    return EfficientNetOptions().build()


def test_encoders_are_named_by_their_key():
    assert all(options().name == name for name, options in ENCODERS.items())


def test_features_are_bounded_and_of_a_picture_alone(encoder):
    features = encoder(PICTURES)
    assert features.shape == (20, encoder.size)
    assert features.dtype == np.float32
    assert np.abs(features).max() <= 1.0
    assert np.array_equal(features[7:10], encoder(PICTURES[7:10]))


def test_features_follow_what_moves(encoder):
    picture = np.zeros((2, 64, 64, 3), np.uint8)
    picture[0, 8:16, 8:16] = picture[1, 48:56, 48:56] = (200, 30, 30)
    above, below = encoder(picture).reshape(2, 2, -1)  # vertical and horizontal places
    moved = below - above
    strongest = np.abs(moved).argmax(axis=1)
    assert (moved[[0, 1], strongest] > 0.2).any()


def test_the_packages_weights_are_in_their_places(encoder):
    """A batch norm that were given the statistics of another would not keep the scale."""
    noise = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        answers = encoder.network(noise)
    assert answers.shape == (4, 1000)
    assert 0.3 < answers.std() < 3.0


def test_another_layer_has_another_size_and_fingerprint(encoder):
    other = EfficientNetOptions(reduction=16).build()
    assert other.size == 2 * 112
    assert encoder.size == 2 * 40
    assert other.fingerprint != encoder.fingerprint
    assert other.fingerprint["weights"] == encoder.fingerprint["weights"]


def test_a_layer_that_there_is_not_is_one_line():
    with pytest.raises(ReconvergeError, match=r"encoder\.reduction=7: must be one of 2, 4, 8"):
        EfficientNetOptions(reduction=7).build()


def test_other_convolutional_networks_encode_pictures():
    network = timm.create_model("resnet18", pretrained=False)
    assert FrozenEncoder(network, {"reduction": 8})(PICTURES[:3]).shape == (3, 2 * 128)


def test_a_network_for_one_size_of_pictures_is_one_line():
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    with pytest.raises(ReconvergeError, match="choose a convolutional network"):
        FrozenEncoder(network, {"reduction": 16})


def test_an_unknown_network_is_one_line():
    with pytest.raises(ReconvergeError, match=r"encoder\.model=resnet_of_nobody: cannot be made"):
        TimmOptions(model="resnet_of_nobody").build()


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ReconvergeError, match=r"pip install -e '\.\[pixels\]'"):
        EfficientNetOptions().build()


@pytest.mark.parametrize(("observations", "extra"), [("pixels", 9), ("both", 19)])
def test_a_task_is_seen_by_its_features_and_what_the_robot_measures(observations, extra):
    options = asdict(EfficientNetOptions())
    sight = make_sight(observations, ["agentview"], 84, options)
    seen = sight.of(TASKS["lift"])
    assert seen.observation_size == extra + sight.encoder.size
    assert list(seen.observations)[-1] == "agentview_features"
    assert seen.low[-1] == -1.0
    assert seen.high[-1] == 1.0
    assert sight.of(TASKS["lift"]).sight.told(seen) == TASKS["lift"]


def test_an_unknown_camera_lists_those_that_there_are():
    sight = make_sight("pixels", ["agentview", "moon"], 84, asdict(EfficientNetOptions()))
    with pytest.raises(ReconvergeError, match=r"moon.*agentview"):
        sight.of(TASKS["lift"])
