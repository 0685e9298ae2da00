"""The picture model in the core: replayed by itself, its Fisher against single gradients."""

from dataclasses import asdict

import pytest
import torch

from reconverge.policy.continual.denoising import corrupt, half_squared_errors, random_stream
from reconverge.policy.continual.fisher import DiagonalFisher, LowRank, Rank1
from reconverge.policy.continual.kfac import Kfac
from reconverge.policy.images.class_tasks import PictureBatch
from reconverge.policy.images.picture_model import CLASS_ROWS, PictureSpec, make_denoiser
from reconverge.policy.images.unet2d import UNet2dOptions
from reconverge.policy.model.diffusion import DiffusionOptions


def make_spec(**changes):
    options = {
        "tasks": ["a+b", "c"],
        "classes": [[0, 1], [2]],
        "names": ["a", "b", "c"],
        "shape": [1, 8, 8],
        "network": asdict(UNet2dOptions(channels=[8, 8], attention=[1])),
        "diffusion": asdict(DiffusionOptions(num_train_timesteps=20, num_inference_steps=4)),
    }
    return PictureSpec(**{**options, **changes})


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return make_denoiser(make_spec(), "cpu").eval()


def drawn(model, count=6):
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(count, 1, 8, 8, generator=generator) * 2 - 1
    label = torch.arange(count) % 3
    batch = PictureBatch(pictures, label, label // 2)
    return corrupt(model, batch, random_stream(torch.device("cpu"), 0))


def gradients(loss, parameters, sample):
    leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    for i in range(len(sample.k)):
        value = loss(leaves, tuple(x[i : i + 1] for x in sample.tensors))[0]
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        yield {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(leaves.items(), found, strict=True)
        }


def test_generated_pictures_are_of_the_classes_in_turn(model):
    batch = model.generate(0, 5, torch.Generator().manual_seed(0))
    assert batch.label.tolist() == [0, 1, 0, 1, 0]
    assert batch.task.tolist() == [0] * 5
    assert batch.pictures.shape == (5, 1, 8, 8)
    assert batch.pictures.abs().max() <= 1


def test_a_picture_does_not_depend_on_those_beside_it(model):
    noise = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = model.from_noise(0, iter([noise])).pictures
    parts = model.from_noise(0, iter(noise.split(4))).pictures
    torch.testing.assert_close(parts, whole)


def test_no_shape_tells_of_classes_to_come():
    names = [str(i) for i in range(CLASS_ROWS)]
    few, many = make_spec(), make_spec(names=names)
    sizes = [
        sum(p.numel() for p in make_denoiser(spec, "cpu").parameters()) for spec in (few, many)
    ]
    assert sizes[0] == sizes[1]


def test_kronecker_factors_see_every_layer_but_norms(model):
    sample, loss = drawn(model), half_squared_errors(model)
    parameters = dict(model.network.named_parameters())
    anchor = Kfac(corrected=True).estimate(loss, parameters, [sample.tensors])
    norms = {
        f"{owner}.{part}"
        for owner, module in model.network.named_modules()
        if isinstance(module, torch.nn.GroupNorm)
        for part in ("weight", "bias")
    }
    expected = sum(
        float(g.square().sum()) / 6
        for each in gradients(loss, parameters, sample)
        for name, g in each.items()
        if name not in norms
    )
    factored = sum(float(layer.curvatures.sum()) for layer in anchor.layers)
    assert factored == pytest.approx(expected, rel=1e-3)


def test_other_estimators_take_the_network(model):
    """The diagonal's trace is the mean square of the gradients, rank 1 and low rank are below."""
    sample, loss = drawn(model), half_squared_errors(model)
    parameters = dict(model.network.named_parameters())
    trace = sum(
        float(g.square().sum()) / 6
        for each in gradients(loss, parameters, sample)
        for g in each.values()
    )
    diagonal = DiagonalFisher().estimate(loss, parameters, [sample.tensors])
    assert float(diagonal.curvatures.sum()) == pytest.approx(trace, rel=1e-3)
    for estimator in (Rank1(), LowRank(rank=2, oversampling=1)):
        found = estimator.estimate(loss, parameters, [sample.tensors])
        lengths = found.directions.double().square().sum(1)
        assert 0 < float((found.curvatures * lengths).sum()) <= trace * 1.001


def test_spec_in_json(tmp_path):
    spec = make_spec()
    assert PictureSpec.from_json(asdict(spec), tmp_path) == spec
    assert spec.continues(make_spec())
    assert not spec.continues(make_spec(shape=[3, 8, 8]))
