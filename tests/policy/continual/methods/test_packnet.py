"""PackNet: shares by magnitude, and earlier tasks that stay as they are, bit for bit."""

import copy
import dataclasses

import pytest
import torch

from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.methods.packnet import largest
from reconverge.policy.continual.parameter_vector import concatenate, split
from support.tiny import OPTIMIZER, action_error, learn, make_method, make_setting, make_windows


def parameters(policy):
    return concatenate(dict(policy.named_parameters()))


def masks_of(method):
    return method.state_dict()["packnet/masks"]


def make_packnet(tasks, **options):
    setting = dataclasses.replace(
        make_setting(optimizer=dataclasses.replace(OPTIMIZER, weight_decay=0.1)), tasks=tasks
    )
    return METHODS["packnet"](**options).build(setting)


def test_largest_takes_a_share_of_the_free_weights():
    weights = torch.tensor([[5.0, -4.0, 3.0], [-9.0, 0.5, 0.0]])
    free = torch.tensor([[True, True, True], [False, True, True]])
    assert largest(weights, free, 0.4).tolist() == [[True, True, False], [False, False, False]]
    assert largest(weights, free, 0.6).tolist() == [[True, True, True], [False, False, False]]
    assert torch.equal(largest(weights, free, 1.0), free)


def test_every_task_has_an_equal_share_of_every_layer():
    method = make_packnet(3)
    for task in (0, 1):
        learn(method, task, 20)
    like = dict(method.model.named_parameters())
    first, second = (split(mask, like) for mask in masks_of(method))
    for name, weight in like.items():
        if weight.ndim == 1:
            assert first[name].all()
            assert second[name].all()
            continue
        assert int(first[name].sum()) == round(weight.numel() / 3)
        assert int(second[name].sum()) == pytest.approx(2 * weight.numel() / 3, abs=1)
        assert not (first[name] & ~second[name]).any()
    theta = method.optimization.average_vector
    assert not theta[~masks_of(method)[1]].any()  # free for the third task
    assert theta[masks_of(method)[1]].ne(0).float().mean() > 0.9
    assert method.memory_bytes == 2 * len(theta)


def test_pruning_keeps_the_largest_averaged_weights(monkeypatch):
    method = make_packnet(2, retraining=0.5)
    method.begin_task(0, 8)
    follow = method.optimization.follow
    averages = []

    def followed():
        follow()
        averages.append(method.optimization.average_vector.clone())

    monkeypatch.setattr(method.optimization, "follow", followed)
    for update in range(4):
        method.update(make_windows(0).sample(32, torch.Generator().manual_seed(update)))
    like = dict(method.model.named_parameters())
    (kept,) = masks_of(method)
    weights, masks = split(averages[-1].abs(), like), split(kept, like)
    for name in like:
        if like[name].ndim == 2 and like[name].any():
            assert weights[name][masks[name]].min() >= weights[name][~masks[name]].max()
    assert torch.equal(method.optimization.vector, averages[-1] * kept)
    (before,) = masks_of(method).clone()
    for update in range(4, 8):
        method.update(make_windows(0).sample(32, torch.Generator().manual_seed(update)))
    assert torch.equal(masks_of(method)[0], before)
    assert not method.optimization.vector[~kept].any()
    assert not torch.equal(method.optimization.vector[kept], averages[3][kept])


@pytest.mark.parametrize("tasks", [2, 3])
def test_later_tasks_leave_earlier_ones_as_they_are_bit_for_bit(tasks):
    """With a weight decay that would move every weight."""
    method = make_packnet(tasks)
    learn(method, 0, 60)
    (mask,) = masks_of(method)
    policy = copy.deepcopy(method.model_of(0))
    theta = parameters(policy)[mask]
    assert torch.equal(parameters(policy), parameters(method.model))
    windows = make_windows(1)
    method.begin_task(1, 60)
    for update in range(60):
        method.update(windows.sample(32, torch.Generator().manual_seed(update)))
        assert torch.equal(method.optimization.vector[mask], theta)
        assert torch.equal(method.optimization.average_vector[mask], theta)
        assert torch.equal(parameters(method.model_of(0)), parameters(policy))
    assert tasks == 2 or list(method.end_task(windows)) == []
    assert not torch.equal(parameters(method.model), parameters(policy))
    assert action_error(method.model_of(0), 0) == action_error(policy, 0)
    assert len(masks_of(method)) == tasks - 1


def test_it_learns_both_tasks():
    method = make_method("packnet")
    learn(method, 0, 300)
    learn(method, 1, 300, last=True)
    assert action_error(method.model_of(0), 0) < 0.03
    assert action_error(method.model_of(1), 1) < 0.03
    assert action_error(method.model, 0) > 0.1  # without its mask


@pytest.fixture
def retraining():
    """A method after 34 of 40 updates, the batch it learns from, and its state."""
    method = make_packnet(2)
    batch = make_windows(0).sample(32, torch.Generator().manual_seed(0))
    method.begin_task(0, 40)
    for _ in range(34):
        method.update(batch)
    return method, batch, {key: value.clone() for key, value in method.state_dict().items()}


def test_a_task_that_goes_on_for_longer_after_its_pruning_ends_at_the_least_rate(retraining):
    _, batch, state = retraining
    again = make_packnet(2)
    again.load_state_dict(state)
    again.begin_task(0, 80, continued=True)
    rates = [again.update(batch)["learning_rate"] for _ in range(46)]
    assert rates[-1] < 1e-2 * max(rates)
    assert again.optimization.update == again.optimization.updates == 50


def test_a_checkpoint_without_the_update_of_its_pruning_goes_on_as_planned(retraining):
    method, batch, state = retraining
    del state["packnet/pruned_at"]
    again = make_packnet(2)
    again.load_state_dict(state)
    again.begin_task(0, 40, continued=True)
    for _ in range(6):
        assert again.update(batch) == method.update(batch)


@pytest.mark.parametrize("retraining", [0.25, 0.9])
@pytest.mark.parametrize("updates", [1, 2, 3])
def test_a_task_of_few_updates_is_pruned_once(updates, retraining):
    method = make_packnet(3, retraining=retraining)
    for task in (0, 1):
        learn(method, task, updates)
        assert len(masks_of(method)) == task + 1
        assert not method.optimization.average_vector[~masks_of(method)[task]].any()


def test_a_restored_method_shows_the_tasks_as_they_were():
    method = make_packnet(2)
    learn(method, 0, 12)
    learn(method, 1, 12, last=True)
    restored = make_packnet(2)
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    for task in (0, 1):
        assert torch.equal(parameters(restored.model_of(task)), parameters(method.model_of(task)))
    assert masks_of(restored).dtype == torch.bool
