"""The contract of every method in the table, and what tells them apart."""

import dataclasses
import os
from functools import cache

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.options import choose
from reconverge.policy.continual.loop import JointSource
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.parameter_vector import concatenate
from support.tiny import OPTIMIZER, action_error, learn, make_method, make_policy, make_windows

REPLAY_AND_FISHER = {
    "finetune": (False, False),
    "ewc": (False, True),
    "online_ewc": (False, True),
    "l2": (False, False),
    "mas": (False, False),
    "packnet": (False, False),
    "er": (True, False),
    "agem": (True, False),
    "replay": (True, False),
    "trust_region": (True, True),
    "ftml": (True, False),
    "vr_mcl": (True, False),
    "multitask": (False, False),
    "single": (False, False),
}

# Of methods that learn a task from half of each batch; 0.03 of others.
ACTION_ERROR = {"ftml": 0.06, "vr_mcl": 0.06}


@pytest.fixture(params=list(METHODS))
def name(request):
    return request.param


def parameters(policy):
    return concatenate(dict(policy.named_parameters()))


@pytest.mark.parametrize(("row", "has"), REPLAY_AND_FISHER.items())
def test_uses_replay_and_uses_fisher_say_what_a_method_has(row, has):
    method = make_method(row)
    assert (method.uses_replay, method.uses_fisher) == has


def test_methods_names_a_row_as_its_options_do(name):
    assert METHODS[name]().name == name


@pytest.fixture
def joint(monkeypatch):
    """The sizes of the batches that a method draws from all tasks at once."""
    sizes, sample = [], JointSource.sample

    def drawn(self, size, generator):
        sizes.append(size)
        return sample(self, size, generator)

    monkeypatch.setattr(JointSource, "sample", drawn)
    return sizes


def test_method_learns_ends_and_goes_on(name, joint):
    """begin_task, update, end_task; the state restores it; a second task follows."""
    method = make_method(name)
    metrics = learn(method, 0, 150)
    losses = [entry["loss"] for entry in metrics]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert all(isinstance(value, float) for entry in metrics for value in entry.values())
    if not joint:  # else half of its windows are of the other task
        assert action_error(method.model, 0) < ACTION_ERROR.get(name, 0.03)
    restored = make_method(name, policy=make_policy(seed=9))
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    assert torch.equal(parameters(restored.model), parameters(method.model))
    second, other = learn(method, 1, 60, last=True), learn(restored, 1, 60, last=True)
    assert second == other
    assert torch.equal(parameters(restored.model), parameters(method.model))
    losses = [entry["loss"] for entry in second]
    share = 1.0 if joint else 0.8  # it knows both tasks
    assert sum(losses[-10:]) < share * sum(losses[:10])
    replayed = {"distillation", "replayed"}
    assert any(replayed & entry.keys() for entry in second) == method.uses_replay
    assert any("penalty" in entry for entry in second) or not method.uses_fisher


def test_load_state_dict_restores_the_middle_of_a_task(name):
    method = make_method(name)
    learn(method, 0, 10)
    windows = make_windows(1)

    def advance(method, start, stop):
        for update in range(start, stop):
            method.update(windows.sample(16, torch.Generator().manual_seed(update)))

    method.begin_task(1, 12)
    advance(method, 0, 7)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    restored = make_method(name, policy=make_policy(seed=9))
    restored.load_state_dict(state)
    restored.begin_task(1, 12, continued=True)
    for either in (method, restored):
        advance(either, 7, 12)
    found = restored.state_dict()
    assert found.keys() == method.state_dict().keys()
    assert all(torch.equal(value, found[key]) for key, value in method.state_dict().items())


def test_end_task_prepares_replay_and_region(name):
    method = make_method(name, "generator")
    method.begin_task(0, 2)
    before = method.state_dict().keys()
    updates = list(method.end_task(make_windows(0)))
    assert len(updates) == (5 if method.uses_replay else 0)
    prepared = {key.partition("/")[0] for key in method.state_dict().keys() - before}
    assert ("trust_region" in prepared) >= method.uses_fisher
    assert ("replay" in prepared) == method.uses_replay


@cache
def learned(name, precision="float32"):
    """Errors of a policy on task 0 before task 1 is learned, then on both."""
    method = make_method(name, optimizer=dataclasses.replace(OPTIMIZER, precision=precision))
    learn(method, 0, 200)
    before = action_error(method.model, 0)
    learn(method, 1, 350, last=True)
    assert all(value.dtype != torch.bfloat16 for value in method.state_dict().values())
    return before, action_error(method.model, 0), action_error(method.model, 1)


def test_finetune_forgets_and_replay_does_not():
    errors = {name: learned(name) for name in ("finetune", "replay", "trust_region")}
    assert all(before < 0.02 for before, _, _ in errors.values()), errors
    assert errors["finetune"][1] > 0.3, errors
    for name in ("replay", "trust_region"):
        assert errors[name][1] < 0.02, errors
        assert errors[name][2] < 0.02, errors


@pytest.mark.parametrize(
    "name", ["trust_region", "vr_mcl"] if os.environ.get("ALL_TASKS") else ["trust_region"]
)
def test_method_learns_and_remembers_in_bfloat16(name):
    found = {each: learned(name, each)[1:] for each in ("float32", "bfloat16")}
    assert found["bfloat16"] != found["float32"]
    for exact, rounded in zip(*found.values(), strict=True):
        assert rounded < exact + 0.01, found


def test_methods_refuses_unknown_names():
    with pytest.raises(ReconvergeError, match=r"'trust_regoin'.*did you mean 'trust_region'"):
        choose("method", METHODS, {"name": "trust_regoin"})
    with pytest.raises(ReconvergeError, match=r"option of method 'ewc' 'strenght'.*'strength'"):
        choose("method", METHODS, {"name": "ewc", "strenght": 1.0})
