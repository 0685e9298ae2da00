import math
from dataclasses import replace

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.model.diffusion import PREDICTION_TYPES, Diffusion
from support.tiny import DIFFUSION, SIZES, make_policy, make_windows


def observations(batch=4, task=0):
    return make_windows(task, batch).observations


def test_condition_is_the_history_its_fourier_features_and_the_task():
    policy = make_policy(fourier_octaves=2)
    seen, task = observations(), torch.tensor([0, 1, 0, 1])
    found = policy.condition(seen, task)
    entries = 2 * 3
    assert found.shape == (4, entries * (1 + 2 * 2) + 2)
    for row, history, index in zip(found, seen, task.tolist(), strict=True):
        size = SIZES[index]
        normal = torch.zeros(2, 3)
        normal[:, :size] = history[:, :size] / 2  # bounds are -2 and 2
        flat = normal.flatten().tolist()
        expected = list(flat)
        for octave in (1, 2):
            expected += [math.sin(octave * math.pi * x) for x in flat]
            expected += [math.cos(octave * math.pi * x) for x in flat]
        expected += [1.0, 0.0] if index == 0 else [0.0, 1.0]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_condition_ignores_padded_entries():
    policy = make_policy(fourier_octaves=1)
    seen = observations(task=1)
    filled = seen.clone()
    filled[..., SIZES[1] :] = 123.0
    task = torch.ones(4, dtype=torch.long)
    assert torch.equal(policy.condition(filled, task), policy.condition(seen, task))
    history = policy.condition(filled, task)[:, :6].view(4, 2, 3)
    assert history[..., SIZES[1] :].eq(0).all()
    assert history[..., : SIZES[1]].ne(0).any()


def test_condition_without_task_conditioning_hides_the_task():
    policy = make_policy(task_conditioning="none")
    seen = observations()
    seen[..., 2] = 0  # what the bounds of task 1 do not know
    zero, one = (policy.condition(seen, torch.full((4,), task)) for task in (0, 1))
    assert zero.shape == (4, 6)
    assert torch.equal(zero, one)
    told = make_policy()
    assert not torch.equal(*(told.condition(seen, torch.full((4,), task)) for task in (0, 1)))


def test_plan_follows_from_the_noise_and_stays_in_bounds():
    policy = make_policy(fourier_octaves=1)
    for parameter in policy.network.parameters():
        parameter.data *= 3
    seen, task, noise = observations(), torch.zeros(4, dtype=torch.long), torch.randn(4, 3, 2)
    plan = policy.plan(seen, task, noise)
    assert plan.shape == (4, 3, 2)
    assert plan.abs().max() <= 1
    torch.manual_seed(99)
    assert torch.equal(policy.plan(seen, task, noise), plan)
    assert not torch.equal(policy.plan(seen, task, noise + 1), plan)
    assert not plan.requires_grad


def test_plan_stays_in_bounds_where_sampling_is_not_clipped():
    policy = make_policy()
    policy.diffusion = Diffusion(replace(DIFFUSION, clip=None))
    for parameter in policy.network.parameters():
        parameter.data.add_(torch.ones_like(parameter))
    plan = policy.plan(observations(), torch.zeros(4, dtype=torch.long), torch.randn(4, 3, 2))
    assert plan.abs().max() == 1


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_plan_of_a_task_with_smaller_actions_is_zero_beyond_them(prediction_type):
    policy = make_policy(prediction_type=prediction_type, action_sizes=(2, 1))
    for parameter in policy.network.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    seen, task, noise = observations(), torch.tensor([0, 1, 0, 1]), torch.randn(4, 3, 2)
    plan = policy.plan(seen, task, noise)
    assert plan[::2].all()
    assert plan[1::2, :, 0].all()
    assert not plan[1::2, :, 1].any()
    noise[1::2, :, 1] += 1
    assert torch.equal(policy.plan(seen, task, noise), plan)
    assert [policy.action_size_of(i) for i in range(2)] == [2, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_conditioning": "word"}, r"unknown task_conditioning 'word'.*embedding, none"),
        ({"fourier_octaves": -1}, "fourier_octaves=-1: must be at least 0"),
        ({"steps": (2, 3, 4)}, "n_action_steps=4: must be 1 to horizon=3"),
        ({"steps": (0, 3, 2)}, "n_obs_steps=0: must be at least 1"),
    ],
)
def test_diffusion_policy_refuses_bad_options(options, message):
    with pytest.raises(ReconvergeError, match=message):
        make_policy(**options)
