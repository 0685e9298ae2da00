"""Encoders that learn: what they look at, and how their gradients and curvature come about."""

import numpy as np
import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import corrupt, errors, half_squared_errors
from reconverge.policy.continual.kfac import Kfac
from reconverge.policy.model.batch import Batch, widened
from reconverge.policy.model.diffusion import Diffusion, DiffusionOptions
from reconverge.policy.model.encoders.resnet import ResNet18Options, Seeing
from reconverge.policy.model.normalizer import Normalizer
from reconverge.policy.model.policy import DiffusionPolicy, PolicyOptions
from support.tiny import NETWORK

OPTIONS = ResNet18Options(width=16, reduction=8, keypoints=3)
SIZE, TOLD, CAMERAS = 16, 3, 2
PIXELS = CAMERAS * 3 * SIZE**2


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    normalizer = Normalizer(2, TOLD + PIXELS)
    high = torch.cat([torch.ones(TOLD), torch.full((PIXELS,), 255.0)])
    for task in range(2):
        normalizer.set_task(task, torch.zeros_like(high), high)
    diffusion = Diffusion(DiffusionOptions(20, 3))
    eyes = [OPTIONS.eye(SIZE) for _ in range(CAMERAS)]
    steps = PolicyOptions(n_obs_steps=2, horizon=3)
    made = DiffusionPolicy(steps, NETWORK, diffusion, normalizer, torch.ones(2, 2), eyes, SIZE)
    for parameter in made.parameters():  # zeros hide what comes before them
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def draw(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    told = torch.rand((count, 2, TOLD), generator=generator)
    pixels = torch.randint(0, 256, (count, 2, PIXELS), generator=generator).float()
    actions = torch.rand((count, 3, 2), generator=generator)
    return Batch(torch.cat([told, pixels], dim=2), actions, torch.arange(count) % 2)


def test_an_eye_tells_where_something_is():
    """Before it has learned anything: keypoints move with what moves."""
    torch.manual_seed(1)
    eye = ResNet18Options(width=16, reduction=8, keypoints=16).eye(64)
    pictures = torch.full((2, 64, 64, 3), -1.0)
    pictures[0, 8:24, 8:24] = pictures[1, 40:56, 40:56] = 1.0
    above, below = eye(pictures).detach()
    assert eye.size == len(above) == 32
    assert above.abs().max() <= 1.0
    assert (below - above).abs().max() > 1e-3


def test_each_camera_has_its_eye_and_each_step_its_features(policy):
    batch = draw(4)
    condition = policy.condition(batch.observations, batch.task)
    pictures = batch.observations[:, :, TOLD:].unflatten(2, (CAMERAS, SIZE, SIZE, 3)) / 127.5 - 1
    seen = policy.network.look(condition)[:, -CAMERAS * 2 * 6 :].unflatten(1, (CAMERAS, 2, 6))
    for camera, step in np.ndindex(CAMERAS, 2):
        wanted = policy.network.eyes[camera](pictures[:, step, camera])
        torch.testing.assert_close(seen[:, camera, step], wanted, atol=1e-5, rtol=0)


def test_a_plan_looks_once_and_is_that_of_the_whole_network(policy):
    batch, looks = draw(3), []
    noise = torch.randn((3, 3, 2), generator=torch.Generator().manual_seed(0))
    handle = policy.network.eyes[0].register_forward_hook(lambda *_: looks.append(1))
    plan = policy.plan(batch.observations, batch.task, noise)
    handle.remove()
    condition = policy.condition(batch.observations, batch.task)
    with torch.no_grad():
        wanted = policy.diffusion.sample(policy.network, noise, condition).clamp(-1, 1)
    torch.testing.assert_close(plan, wanted)
    assert len(looks) == 1


def test_every_parameter_of_an_eye_gets_a_gradient(policy):
    sample = corrupt(policy, draw(8), torch.Generator().manual_seed(0))
    parameters = dict(policy.network.named_parameters())
    assert isinstance(policy.network, Seeing)
    gradients = torch.autograd.grad(errors(policy, sample).mean(), list(parameters.values()))
    still = [
        name for name, each in zip(parameters, gradients, strict=True) if each.abs().max() < 1e-12
    ]
    # Softmax over the picture does not see what is added everywhere.
    assert still in ([], [f"eyes.{i}.points.bias" for i in range(CAMERAS)])


def test_kronecker_factors_hold_the_convolutions(policy):
    sample = corrupt(policy, draw(8), torch.Generator().manual_seed(0))
    parameters = dict(policy.network.named_parameters())
    loss = half_squared_errors(policy)
    anchor = Kfac().estimate(loss, parameters, [sample.tensors])
    layers = [m for m in policy.network.modules() if isinstance(m, torch.nn.Conv2d)]
    linear = [m for m in policy.network.modules() if isinstance(m, torch.nn.Linear)]
    assert len(anchor.layers) == len(layers) + len(linear)


def test_widened_puts_zeros_before_the_pixels():
    rows = np.arange(10, dtype=np.float32).reshape(2, 5) + 1
    assert widened(rows, 7).tolist() == [[1, 2, 3, 4, 5, 0, 0], [6, 7, 8, 9, 10, 0, 0]]
    assert widened(rows, 7, 2).tolist() == [[1, 2, 3, 0, 0, 4, 5], [6, 7, 8, 0, 0, 9, 10]]
    assert widened(rows, 5, 2) is not rows
    assert widened(rows, 5, 2).tolist() == rows.tolist()


def test_a_picture_without_places_is_refused():
    with pytest.raises(ReconvergeError, match="leaves one place of a picture of 32 pixels"):
        ResNet18Options().eye(32)
    with pytest.raises(ReconvergeError, match="crop=4: must be less than half of picture_size=8"):
        ResNet18Options(reduction=8).eye(8)
