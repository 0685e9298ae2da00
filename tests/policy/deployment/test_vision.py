"""Encoders as ONNX files: the same numbers, or one line that says why not."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from reconverge.envs.cameras import View
from reconverge.envs.render.sight import Sight
from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.vision import example_pictures, export_encoder


class Colours(nn.Module):
    """The mean of each colour."""

    def forward(self, pictures):
        return pictures.float().mean(dim=(1, 2)) / 255


class Looping(nn.Module):
    """Another computation for each picture, which no trace holds."""

    def forward(self, pictures):
        return torch.stack([one.float().mean() for one in pictures if one.any()])[:, None]


class Own:
    """An encoder of one's own; `shift` is what it says beside its module."""

    size, fingerprint = 3, {"name": "own"}

    def __init__(self, module=None, shift=0.0):
        self.module, self.shift = module, shift

    def __call__(self, pictures):
        return self.module(torch.from_numpy(pictures)).numpy() + np.float32(self.shift)


def sight_of(encoder):
    return Sight(View(("agentview",), 16), encoder, keeps_state=False)


def test_export_encoder_takes_any_number_of_pictures_of_one_size(tmp_path):
    encoder = Own(Colours())
    assert export_encoder(sight_of(encoder), tmp_path / "encoder.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    pictures = example_pictures(5, 16, seed=9).numpy()
    (found,) = session.run(None, {"pictures": pictures})
    np.testing.assert_allclose(found, encoder(pictures), atol=1e-6)
    assert [entry.shape[1:] for entry in session.get_inputs()] == [[16, 16, 3]]


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Own(), r"encoder own: cannot be exported to ONNX \(it has no `module`"),
        (Own(Looping()), r"encoder own: cannot be exported to ONNX \(\w+: .*\); serve the policy"),
        (Own(Colours(), 0.01), "encoder.onnx differs from the policy by 1.0e-02, more than 1e-04"),
    ],
)
def test_export_encoder_refuses_in_one_line(tmp_path, encoder, said):
    with pytest.raises(ReconvergeError, match=said) as caught:
        export_encoder(sight_of(encoder), tmp_path / "encoder.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_export_encoder_does_not_blame_the_encoder_for_a_full_disk():
    with pytest.raises(OSError, match="No space left on device"):
        export_encoder(sight_of(Own(Colours())), Path("/dev/full"))


def test_export_encoder_does_not_blame_the_encoder_for_memory(tmp_path):
    class Large(Own):
        def __call__(self, pictures):
            raise MemoryError

    with pytest.raises(MemoryError):
        export_encoder(sight_of(Large(Colours())), tmp_path / "encoder.onnx")


def test_example_pictures_are_fine_and_coarse():
    pictures = example_pictures(3, 32, seed=0).numpy()
    changes = [(np.diff(one, axis=0) != 0).any(axis=(1, 2)).mean() for one in pictures]
    assert changes[0] == 1.0 > changes[1] > changes[2] > 0.0
