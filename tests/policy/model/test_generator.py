"""The generator of windows: its normalisation, its samples and its loss."""

import pytest
import torch

from reconverge.policy.continual.denoising import corrupt, errors
from reconverge.policy.model.batch import Batch
from support.tiny import make_generator, make_windows


def measured(**options):
    """An untrained generator that has met windows of both tasks."""
    model = make_generator(**options)
    for task in (0, 1):
        model.measure(task, make_windows(task, 500), torch.Generator().manual_seed(0))
    return model


def test_measure_normalises_by_the_range_that_the_task_has():
    """An object within two centimetres of its place fills [-1, 1]; a constant comes back as it
    was.
    """
    observations = torch.tensor([0.50, -0.3, 0.7]) + torch.tensor([0.02, 0.0, 0.0]) * torch.rand(
        400, 2, 3
    )
    windows = Batch(observations, torch.zeros(400, 3, 2), torch.zeros(400, dtype=torch.long))
    model = make_generator()
    model.measure(0, windows, torch.Generator().manual_seed(0))
    seen = model.normalizer.normalize(observations, windows.task)
    assert seen.abs().max() <= 1
    assert seen[..., 0].min() < -0.8
    assert seen[..., 0].max() > 0.8
    made = model.generate(0, 50, torch.Generator().manual_seed(1)).observations
    assert (made[..., 1] + 0.3).abs().max() < 0.01
    with pytest.raises(ValueError, match="task 1 has no declared bounds"):
        model.generate(1, 5, torch.Generator())


def test_generate_follows_from_the_random_generator_alone():
    model = measured()
    first, again, other = (
        model.generate(1, 7, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first.observations, again.observations)
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)
    assert len(model.generate(0, 5, torch.Generator().manual_seed(0), batch_size=2)) == 5
    assert (
        first.observations.abs().max() <= 2
    )  # observations in their own units, within the declared bounds


def test_clean_and_conditions_are_the_whole_normalised_window_and_the_task():
    """The loss of a window, written out."""
    model, batch = measured(), make_windows(0, 4)
    sample = corrupt(model, batch, torch.Generator().manual_seed(0))
    seen = model.normalizer.normalize(batch.observations, batch.task)
    row = torch.cat([seen.flatten(1), batch.actions.flatten(1)], dim=1)[:, None]
    assert row.shape == (4, 1, 12)
    torch.testing.assert_close(model.clean(batch), row)
    torch.testing.assert_close(sample.target, row)  # the network predicts the sample
    assert torch.equal(sample.condition, torch.tensor([[1.0, 0.0]]).repeat(4, 1))
    expected = (model.network(sample.noisy, sample.k, sample.condition) - row).square()
    torch.testing.assert_close(errors(model, sample), expected.mean((1, 2)))


def test_a_task_with_smaller_actions_has_windows_without_the_padding():
    """Actions of the second task have one entry of two, at each of three steps."""
    model = measured(action_sizes=(2, 1))
    for parameter in model.network.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    made = [model.generate(task, 9, torch.Generator().manual_seed(1)) for task in (0, 1)]
    assert made[0].actions.all()
    assert made[1].actions[..., 0].all()
    assert not made[1].actions[..., 1].any()
    sample = corrupt(model, made[1], torch.Generator().manual_seed(0))
    error = model.network(sample.noisy, sample.k, sample.condition) - sample.target
    own = torch.tensor([*range(6), 6, 8, 10])
    torch.testing.assert_close(errors(model, sample), error[:, 0, own].square().mean(1))
    assert [model.action_size_of(task) for task in (0, 1)] == [2, 1]


def test_generate_shows_the_network_no_noise_in_the_padding():
    """It was trained on none there."""
    model, shown = measured(action_sizes=(2, 1)), []
    model.network.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    for task in (0, 1):
        shown.clear()
        model.generate(task, 9, torch.Generator().manual_seed(1))
        padding = torch.stack(shown)[..., [7, 9, 11]]
        assert bool(padding.any()) == (task == 0)
