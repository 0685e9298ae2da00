import copy
import dataclasses
import functools

import pytest
import torch
from tiny import OPTIMIZER, action_error, learn, make_method, make_parts, make_policy, make_replay, make_windows
from torch import nn

from policy.agent import join
from policy.fisher import build_fisher
from policy.flat import concatenate
from policy.methods import METHODS, build_method
from policy.methods.base import half_squared_errors, imagined, noisy_sample, random_stream
from policy.optimization import OptimizerSettings

REPLAYING = {"replay", "trust_region", "ftml", "vr_mcl"}
HALVED = {"ftml", "vr_mcl"}  # learn a task from half of each batch
PENALISED = {"ewc", "trust_region"}


@pytest.fixture(params=list(METHODS))
def name(request):
    return request.param


def parameters(policy):
    return concatenate(dict(policy.named_parameters()))


def test_every_method_learns_ends_and_goes_on(name):
    """The contract: begin_task, update, end_task; the state restores it; a second task follows."""
    method = make_method(name)
    metrics = learn(method, 0, 150)
    losses = [entry["loss"] for entry in metrics]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert all(isinstance(value, float) for entry in metrics for value in entry.values())
    if name != "multitask":  # spends half of its windows on the other task; see test_references
        assert action_error(method.policy, 0) < (0.06 if name in HALVED else 0.03)
    restored = make_method(name, policy=make_policy(seed=9))
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    assert torch.equal(parameters(restored.policy), parameters(method.policy))
    second, other = learn(method, 1, 60, last=True), learn(restored, 1, 60, last=True)
    assert second == other
    assert torch.equal(parameters(restored.policy), parameters(method.policy))
    losses = [entry["loss"] for entry in second]
    assert sum(losses[-10:]) < (1.0 if name == "multitask" else 0.8) * sum(losses[:10])  # it knows both tasks
    assert ("distillation" in second[-1]) == (name in REPLAYING)
    assert any("penalty" in entry for entry in second) == (name in PENALISED)


def test_the_state_restores_the_middle_of_a_task(name):
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


def test_nothing_is_prepared_after_the_last_task(name):
    method = make_method(name, "generator")
    method.begin_task(0, 2)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    assert list(method.end_task(make_windows(0), True)) == []
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())
    updates = list(method.end_task(make_windows(0), False))
    assert len(updates) == (5 if name in REPLAYING else 0)
    assert ("trust_region/directions" in method.state_dict()) == (name in PENALISED)


def test_finetuning_forgets_and_replay_does_not():
    errors = {}
    for name in ("finetune", "replay", "trust_region"):
        method = make_method(name)
        learn(method, 0, 200)
        before = action_error(method.policy, 0)
        learn(method, 1, 350, last=True)
        errors[name] = before, action_error(method.policy, 0), action_error(method.policy, 1)
    assert all(before < 0.02 for before, _, _ in errors.values()), errors
    assert errors["finetune"][1] > 0.3, errors
    for name in ("replay", "trust_region"):
        assert errors[name][1] < 0.02, errors
        assert errors[name][2] < 0.02, errors


@pytest.mark.parametrize("name", ["trust_region", "vr_mcl"])
def test_methods_learn_and_remember_in_bfloat16_too(name):
    found = {}
    for precision in ("float32", "bfloat16"):
        method = make_method(name, optimizer=dataclasses.replace(OPTIMIZER, precision=precision))
        learn(method, 0, 200)
        learn(method, 1, 350, last=True)
        found[precision] = [action_error(method.policy, task) for task in (0, 1)]
        assert all(value.dtype != torch.bfloat16 for value in method.state_dict().values())
    assert found["bfloat16"] != found["float32"]
    for exact, rounded in zip(*found.values(), strict=True):
        assert rounded < exact + 0.01, found


def test_targets_of_the_policy_give_the_gauss_newton_matrix():
    """diag(J^T J), J the derivative of the network's output: how half the squared error curves, whatever the data."""
    policy, stream = make_policy(), random_stream(torch.device("cpu"), 0)
    one = noisy_sample(policy, make_windows(0, 1), stream)
    parameters = {name: p.detach() for name, p in policy.network.named_parameters()}
    output = functools.partial(torch.func.functional_call, policy.network, args=one[:3])
    jacobian = torch.func.jacrev(output)(parameters)
    exact = torch.cat([J.flatten(0, 2).flatten(1).square().sum(0) for J in jacobian.values()]).double()
    many = imagined(policy, tuple(x.expand(2000, *x.shape[1:]) for x in one), stream)
    found = build_fisher("diagonal").estimate(half_squared_errors(policy), parameters, [many]).curvatures
    assert float(found.sum() / exact.sum()) == pytest.approx(1.0, abs=0.05)
    assert float(torch.cosine_similarity(found, exact, dim=0)) > 0.99


def test_targets_of_the_policy_hold_where_the_demonstrations_leave_no_residual():
    held = {}
    for targets in ("demonstrations", "policy"):
        method = make_method("ewc", fisher="diagonal", targets=targets)
        learn(method, 0, 200)
        held[targets] = float(method.state_dict()["trust_region/curvatures"].sum())
    assert held["policy"] > 10 * held["demonstrations"] > 0


def test_generated_windows_keep_the_first_task_too():
    parts = make_parts("generator")
    object.__setattr__(parts, "replay", make_generated())
    method = build_method("replay", parts)
    learn(method, 0, 200)
    learn(method, 1, 400, last=True)
    assert action_error(method.policy, 0) < 0.04
    assert action_error(method.policy, 1) < 0.02


def make_generated():
    return make_replay("generator", updates=500, pool=400)


class Recorder(nn.Module):
    """A linear denoiser: x, k and the condition to the output, by one matrix."""

    def __init__(self, *, sample_steps, sample_size, condition_size):
        super().__init__()
        self.shape = (sample_steps, sample_size)
        self.linear = nn.Linear(sample_steps * sample_size + 1 + condition_size, sample_steps * sample_size)

    def forward(self, x, k, condition):
        given = torch.cat([x.flatten(1), k[:, None] / 20, condition], dim=1)
        return self.linear(given).unflatten(1, self.shape)


@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("name", ["finetune", "replay"])
def test_an_update_follows_the_first_two_terms_of_equation_8(monkeypatch, name, beta):
    """One update against L_t + beta L_GD written out sample by sample, on a linear network."""
    from policy.networks import NETWORKS

    monkeypatch.setitem(NETWORKS, "linear", Recorder)
    monkeypatch.setattr("tiny.NETWORK", {})
    policy = make_policy()
    torch.manual_seed(4)
    policy.network = Recorder(sample_steps=3, sample_size=2, condition_size=8)
    parts = make_parts(policy=policy, optimizer=OptimizerSettings(learning_rate=0.1, warmup=0, weight_decay=0.0))
    object.__setattr__(parts, "distillation_weight", beta)
    method = build_method(name, parts)
    learn(method, 0, 3)
    teacher = copy.deepcopy(method.policy)
    method.begin_task(1, 10)
    seen = []
    monkeypatch.setattr(method._optimization, "step", lambda loss: seen.append(loss) or 0.0)
    # A first update, so that student and teacher differ.
    with torch.no_grad():
        method._optimization.vector.add_(0.1 * torch.randn(method._optimization.vector.shape))
    batch = make_windows(1, 9)
    method.update(batch)
    student = method._optimization.model
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(seen[0], list(student.parameters()))])

    # The randomness that the seed prescribes: replay drawn at the task's start, then batch, steps and noise.
    old = make_windows(0).sample(200, random_stream(torch.device("cpu"), 3, 1, 1))
    stream = random_stream(torch.device("cpu"), 3, 1, 0, 0)
    both = batch if name == "finetune" else join([batch, old.sample(32, stream)])
    k = torch.randint(20, (len(both),), generator=stream)
    noise = torch.randn((len(both), 3, 2), generator=stream)
    first, second = torch.zeros(()), torch.zeros(())
    for i in range(len(both)):
        x0, c = both.actions[i], policy.condition(both.observations[i : i + 1], both.task[i : i + 1])
        signal = float(student.diffusion.sqrt_abar[k[i]])
        xk = (signal * x0 + (1 - signal**2) ** 0.5 * noise[i])[None]
        if i < 9:
            first = first + (student.network(xk, k[i : i + 1], c)[0] - x0).square().sum() / 6 / 9
        else:
            taught = teacher.network(xk, k[i : i + 1], c)[0].detach()
            second = second + (student.network(xk, k[i : i + 1], c)[0] - taught).square().sum() / 6 / 32
    expected = torch.autograd.grad(first + beta * second, list(student.parameters()))
    torch.testing.assert_close(gradient, torch.cat([g.flatten() for g in expected]), rtol=1e-4, atol=1e-6)
    if name == "replay":
        assert second > 1e-3


def displacement(method):
    """|mu^T (theta - theta*)| of the first task's anchor, at the parameters and not at their average."""
    state = method.state_dict()
    direction, offset = state["trust_region/directions"][0], state["trust_region/offsets"][0]
    residual = direction.double() @ state["policy/model"].double() - offset
    return abs(float(residual))


@pytest.mark.parametrize("name", sorted(PENALISED))
def test_a_strong_trust_region_holds_the_projected_displacement(name):
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
def test_every_fisher_serves_as_penalty_and_as_constraint(fisher, radius):
    method = make_method("trust_region", fisher=fisher, radius=radius)
    learn(method, 0, 40)
    metrics = learn(method, 1, 40, last=True)
    if radius is None:
        assert any("penalty" in entry for entry in metrics)
    else:
        assert all(entry["trust_region"] <= 1.01 * radius for entry in metrics)
        assert any(entry["trust_region"] > 0.9 * radius for entry in metrics)


@pytest.mark.parametrize("fisher", ["rank1", "diagonal", "low_rank"])
def test_a_recentred_region_begins_every_task_where_the_policy_is(fisher):
    values = {}
    for recentre in (False, True):
        method = make_method("trust_region", fisher=fisher, recentre=recentre)
        for task in range(2):
            learn(method, task, 40)
        values[recentre] = method._region.form.value(method._optimization.average_vector)
    assert values[True] <= 1e-6 * values[False], values


def test_an_annealed_penalty_ends_with_its_task():
    method = make_method("trust_region", fisher="diagonal", strength=1e4, anneal=True)
    learn(method, 0, 40)
    penalties = [entry["penalty"] for entry in learn(method, 1, 40, last=True) if "penalty" in entry]
    assert len(penalties) == 10
    assert penalties[-1] == 0 < min(penalties[:-1])


def test_an_unknown_method_lists_the_choices():
    with pytest.raises(ValueError, match=r"unknown method 'trust_regoin'.*did you mean 'trust_region'"):
        make_method("trust_regoin")
