"""The objective of the learner, term by term, and the trust region within it."""

import copy
import dataclasses
from unittest import mock

import pytest
import torch
from torch import nn

from reconverge.errors import ReconvergeError
from reconverge.policy.continual import learner, loop
from reconverge.policy.continual.denoising import Purpose, random_stream
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.optimization import OptimizerOptions
from reconverge.policy.continual.rehearsal import Replay
from reconverge.policy.model.batch import join
from support.tiny import (
    OPTIMIZER,
    action_error,
    learn,
    make_method,
    make_policy,
    make_replay,
    make_setting,
    make_windows,
)

PENALISED = ["ewc", "trust_region"]
SETTINGS = loop.LoopSettings(3, 16, 5, seed=3, n_rollouts=1, probing=loop.Probing())


@dataclasses.dataclass(frozen=True)
class LinearOptions:
    """A linear denoiser: x, k and the condition to the output, by one matrix."""

    name: str = "linear"

    def build(self, *, sample_steps, sample_size, condition_size):
        return Linear(sample_steps, sample_size, condition_size)


class Linear(nn.Module):
    def __init__(self, steps, size, condition_size):
        super().__init__()
        self.shape = (steps, size)
        self.linear = nn.Linear(steps * size + 1 + condition_size, steps * size)

    def forward(self, x, k, condition):
        given = torch.cat([x.flatten(1), k[:, None] / 20, condition], dim=1)
        return self.linear(given).unflatten(1, self.shape)


@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("name", ["finetune", "replay"])
def test_update_follows_the_first_two_terms_of_equation_8(monkeypatch, name, beta):
    """One update against L_t + beta L_GD written out sample by sample, on a linear network."""
    policy = make_policy(network=LinearOptions())
    optimizer = OptimizerOptions(0.1, warmup=0, weight_decay=0.0, precision="float32")
    method = make_method(name, policy=policy, optimizer=optimizer, distillation_weight=beta)
    learn(method, 0, 3)
    teacher = copy.deepcopy(method.model)
    method.begin_task(1, 10)
    optimization, seen = method.optimization, []
    monkeypatch.setattr(optimization, "step", lambda loss: seen.append(loss) or 0.0)
    # Away from the teacher, so that its answers differ.
    with torch.no_grad():
        optimization.vector.add_(0.1 * torch.randn(optimization.vector.shape))
    batch = make_windows(1, 9)
    method.update(batch)
    student = optimization.model
    gradient = torch.cat(
        [g.flatten() for g in torch.autograd.grad(seen[0], list(student.parameters()))]
    )

    # The randomness that the seed prescribes: replay drawn at the task's start, then batch, steps
    # and noise.
    old = make_windows(0).sample(200, random_stream(torch.device("cpu"), 3, 1, 1))
    stream = random_stream(torch.device("cpu"), 3, 1, 0, 0)
    both = batch if name == "finetune" else join([batch, old.sample(32, stream)])
    k = torch.randint(20, (len(both),), generator=stream)
    noise = torch.randn((len(both), 3, 2), generator=stream)
    first, second = torch.zeros(()), torch.zeros(())
    for i in range(len(both)):
        x0, c = (
            both.actions[i],
            policy.condition(both.observations[i : i + 1], both.task[i : i + 1]),
        )
        signal = float(student.diffusion.sqrt_abar[k[i]])
        xk = (signal * x0 + (1 - signal**2) ** 0.5 * noise[i])[None]
        if i < 9:
            first = first + (student.network(xk, k[i : i + 1], c)[0] - x0).square().sum() / 6 / 9
        else:
            taught = teacher.network(xk, k[i : i + 1], c)[0].detach()
            second = (
                second + (student.network(xk, k[i : i + 1], c)[0] - taught).square().sum() / 6 / 32
            )
    expected = torch.autograd.grad(first + beta * second, list(student.parameters()))
    torch.testing.assert_close(
        gradient, torch.cat([g.flatten() for g in expected]), rtol=1e-4, atol=1e-6
    )
    if name == "replay":
        assert second > 1e-3


def test_loss_weighs_every_earlier_task_as_much_as_the_new_one():
    method = make_method("replay", distillation_weight=0.5)
    learn(method, 0, 3)
    method.begin_task(1, 10)
    with torch.no_grad():
        method.optimization.vector.add_(0.1 * torch.randn(method.optimization.vector.shape))
    sample = method.prepare(make_windows(1, 9))
    for tasks in (1, 3):
        method.task = tasks
        loss, metrics = method.loss(sample)
        expected = metrics["loss"] + 0.5 * tasks * metrics["distillation"]
        torch.testing.assert_close(loss.detach(), expected)
    assert metrics["distillation"] > 1e-3


def test_generated_replay_keeps_the_first_task():
    setting = make_setting()
    source = make_replay("generator", updates=500, pool=400)
    setting = dataclasses.replace(setting, replay=Replay(source, batch_size=32, pool=200))
    method = METHODS["replay"]().build(setting)
    learn(method, 0, 200)
    learn(method, 1, 400, last=True)
    assert action_error(method.model, 0) < 0.04
    assert action_error(method.model, 1) < 0.02


def test_end_task_takes_the_fisher_where_demonstrations_leave_no_residual():
    held = {}
    for targets in ("demonstrations", "policy"):
        method = make_method("ewc", fisher="diagonal", targets=targets)
        learn(method, 0, 200)
        held[targets] = float(method.state_dict()["trust_region/curvatures"].sum())
    assert held["policy"] > 10 * held["demonstrations"] > 0


def displacement(method):
    """|mu^T (theta - theta*)| of the first task's anchor, at the parameters and not at their
    average.
    """
    state = method.state_dict()
    direction, offset = state["trust_region/directions"][0], state["trust_region/offsets"][0]
    residual = direction.double() @ state["policy/model"].double() - offset
    return abs(float(residual))


@pytest.mark.parametrize("name", PENALISED)
def test_update_with_a_strong_trust_region_holds_the_displacement(name):
    found = {}
    for strength in (0.0, 1.0, 1e6):
        method = make_method(name, strength=strength)
        learn(method, 0, 120)
        learn(method, 1, 120, last=True)
        found[strength] = displacement(method)
    assert found[1e6] < 1e-2 * found[0.0], found
    assert found[1e6] <= found[1.0] <= found[0.0], found


@pytest.mark.parametrize("fisher", ["rank1", "diagonal", "low_rank"])
@pytest.mark.parametrize("radius", [None, 1e-3])
def test_update_with_every_fisher_as_penalty_and_as_constraint(fisher, radius):
    method = make_method("trust_region", fisher=fisher, radius=radius)
    learn(method, 0, 40)
    metrics = learn(method, 1, 40, last=True)
    if radius is None:
        assert any("penalty" in entry for entry in metrics)
    else:
        assert all(entry["trust_region"] <= 1.01 * radius for entry in metrics)
        assert any(entry["trust_region"] > 0.9 * radius for entry in metrics)


@pytest.mark.parametrize("fisher", ["rank1", "diagonal", "low_rank"])
def test_end_task_centres_the_region_where_the_policy_is(fisher):
    values = {}
    for centre in ("each_optimum", "before_task"):
        method = make_method("trust_region", fisher=fisher, centre=centre)
        for task in range(2):
            learn(method, task, 40)
        values[centre] = method.region.form.value(method.optimization.average_vector)
    assert values["before_task"] <= 1e-6 * values["each_optimum"], values


def test_update_around_the_policy_before_the_task_ends_without_a_penalty():
    method = make_method("trust_region", fisher="diagonal", strength=1e4, centre="before_task")
    learn(method, 0, 40)
    penalties = [
        entry["penalty"] for entry in learn(method, 1, 40, last=True) if "penalty" in entry
    ]
    assert len(penalties) == 10
    assert penalties[-1] == 0 < min(penalties[:-1])


@pytest.mark.parametrize("name", ["replay", "ftml", "vr_mcl"])
def test_build_refuses_replay_none(name):
    setting = dataclasses.replace(make_setting(), replay=None)
    with pytest.raises(ReconvergeError, match=f"method={name} replay=none would replay nothing"):
        METHODS[name]().build(setting)


def test_no_two_purposes_tasks_or_updates_share_a_random_stream(monkeypatch):
    """In a whole run, zeros at the end of a key apart, which do not count."""
    keys = []

    def recorded(device, *key):
        keys.append(key)
        return random_stream(device, *key)

    for module in (learner, loop):
        monkeypatch.setattr(module, "random_stream", recorded)
    method = make_method("trust_region", "generator", fisher="diagonal", centre="replayed")
    tasks = [lambda task=task: make_windows(task) for task in range(2)]
    progress = loop.Progress()
    loop.learn_tasks(method, tasks, lambda *_: [True], mock.Mock(), SETTINGS, progress)
    assert {key[0] for key in keys} == {3}
    assert {key[2] for key in keys} == {*Purpose} - {
        Purpose.ALL_TASKS,
        Purpose.MEMORY,
        Purpose.SEGMENT,
    }
    drawn = [(*key, 0)[:4] for key in keys]
    assert len(drawn) == len(set(drawn))


def test_the_average_follows_what_the_trust_region_leaves(monkeypatch):
    method = make_method("ewc")
    learn(method, 0, 3)
    method.begin_task(1, 10)
    optimization, followed = method.optimization, []

    def hold(theta, *_):
        theta.fill_(0.5)
        return {}

    monkeypatch.setattr(method.region, "hold", hold)
    monkeypatch.setattr(
        optimization, "follow", lambda: followed.append(optimization.vector.clone())
    )
    method.update(make_windows(1, 9))
    (vector,) = followed
    assert vector.eq(0.5).all()


def test_the_average_of_a_learned_policy_follows_slowly():
    method, shares = make_method("finetune"), []
    for task in range(2):
        method.begin_task(task, 1500)
        optimization = method.optimization
        before = optimization.average_vector.clone()
        method.update(make_windows(task, 9))
        moved, way = optimization.average_vector - before, optimization.vector - before
        shares.append(float(moved.norm() / way.norm()))
    assert shares == pytest.approx([1.0, 1 - OPTIMIZER.ema_decay], rel=1e-2)
