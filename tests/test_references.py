"""The two references: one policy a task, and all tasks at once."""

import torch
from tiny import action_error, learn, make_method, make_normalizer, make_windows

from policy.checkpoint import Checkpoint, save
from policy.flat import concatenate
from policy.loading import PolicySpec, describe, tasks_of
from policy.loading import make_policy as from_spec
from policy.training import JointWindows


def parameters(policy):
    return concatenate(dict(policy.named_parameters()))


def test_single_learns_each_task_as_if_it_were_alone():
    method = make_method("single")
    learn(method, 0, 60)
    first = parameters(method.policy)
    learn(method, 1, 60)
    alone = make_method("single")
    alone.begin_task(1, 60)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        alone.update(make_windows(1).sample(32, generator))
    assert torch.equal(parameters(method.policy_of(0)), first)
    assert torch.equal(parameters(method.policy_of(1)), parameters(alone.policy))
    assert not torch.equal(first, parameters(method.policy_of(1)))


def test_nothing_of_singles_fresh_weights_is_left_in_a_later_task():
    method = make_method("single")
    learn(method, 0, 60)
    method.begin_task(1, 60)
    method.update(make_windows(1).sample(32, torch.Generator().manual_seed(0)))
    assert torch.equal(method._optimization.average_vector, method._optimization.vector)


def test_singles_policies_are_saved():
    method = make_method("single")
    learn(method, 0, 10)
    learn(method, 1, 10, last=True)
    restored = make_method("single")
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    for task in (0, 1):
        assert torch.equal(parameters(restored.policy_of(task)), parameters(method.policy_of(task)))


def test_multitask_learns_every_task_in_the_first_ones_turn():
    method = make_method("multitask")
    learn(method, 0, 400)
    assert action_error(method.policy, 0) < 0.03
    assert action_error(method.policy, 1) < 0.03


def test_joint_windows_hold_as_many_of_each_task():
    windows = JointWindows([make_windows(task) for task in (0, 1)])
    batch = windows.sample(9, torch.Generator().manual_seed(0))
    assert torch.bincount(batch.task).tolist() == [5, 4]
    assert len(JointWindows([make_windows(0), make_windows(1)]).sample(1, torch.Generator()).task) == 1


def test_a_checkpoint_of_single_is_for_the_task_it_learned(tmp_path):
    spec = PolicySpec(
        tasks=["a", "b"], network={"name": "mlp", "width": 8, "depth": 1},
        diffusion={"train_steps": 7, "inference_steps": 7},
        observation_steps=2, action_steps=3, executed_steps=1, observation_size=3, action_size=2,
        task_conditioning="embedding", fourier_octaves=0,
    )  # fmt: skip
    weights = from_spec(spec, make_normalizer()).state_dict()
    for method, known in (("single", ["b"]), ("replay", ["a", "b"])):
        manifest = {"policy": describe(spec), "facts": {"method": method}}
        save(tmp_path / method, 1, "b", None, Checkpoint(weights, {}, manifest))
        assert tasks_of(tmp_path / method / "1_b", spec) == known
