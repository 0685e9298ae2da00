"""Noise, teachers and losses against their definitions."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import (
    Purpose,
    corrupt,
    errors,
    half_squared_errors,
    imagined,
    random_stream,
    taught_by,
)
from reconverge.policy.continual.fisher import DiagonalFisher
from reconverge.policy.model.batch import join
from reconverge.policy.model.diffusion import PREDICTION_TYPES
from support.tiny import make_policy, make_windows

CPU = torch.device("cpu")


def make_sample(policy, count=6):
    batch = join([make_windows(0, count - 2), make_windows(1, 2)])
    return batch, corrupt(policy, batch, random_stream(CPU, 5))


def make_other_policy(**options):
    policy = make_policy(seed=4, **options)
    for parameter in policy.network.parameters():  # away from the zeros of the start
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return policy


def test_random_stream_depends_on_the_whole_key():
    keys = [(0, 1), (0, 2), (1, 1), (1, 0, 1), (0, 0, 1)]
    drawn = [torch.rand(4, generator=random_stream(CPU, *key)).tolist() for key in keys]
    again = [torch.rand(4, generator=random_stream(CPU, *key)).tolist() for key in keys]
    assert drawn == again
    assert len({tuple(row) for row in drawn}) == len(keys)


def test_random_stream_of_a_purpose_is_that_of_its_number():
    """Runs resume, and are compared, across versions: the numbers stay."""
    assert [purpose.name for purpose in sorted(Purpose)] == [
        "BATCH",
        "REPLAY",
        "FISHER",
        "GENERATOR",
        "DATA",
        "ALL_TASKS",
        "METRIC",
        "MEMORY",
        "SEGMENT",
    ]
    for number, purpose in enumerate(sorted(Purpose)):
        found, wanted = random_stream(CPU, 3, 1, purpose, 7), random_stream(CPU, 3, 1, number, 7)
        assert torch.equal(torch.rand(4, generator=found), torch.rand(4, generator=wanted))


def test_corrupt_is_the_forward_process():
    policy = make_policy()
    batch, sample = make_sample(policy)
    stream = random_stream(CPU, 5)
    k = torch.randint(20, (6,), generator=stream)
    noise = torch.randn((6, 3, 2), generator=stream)
    assert torch.equal(sample.k, k)
    signal = policy.diffusion.sqrt_abar[k][:, None, None]
    wanted = signal * batch.actions + (1 - signal**2).sqrt() * noise
    torch.testing.assert_close(sample.noisy, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(sample.target, batch.actions)  # prediction_type=sample
    assert torch.equal(sample.condition, policy.condition(batch.observations, batch.task))
    assert sample.taught == 0


def test_errors_are_the_mean_squares_of_every_sample():
    policy = make_other_policy()
    _, sample = make_sample(policy)
    found = errors(policy, sample)
    for i in range(6):
        rows = slice(i, i + 1)
        output = policy.network(sample.noisy[rows], sample.k[rows], sample.condition[rows])
        expected = ((output - sample.target[rows]) ** 2).mean()
        torch.testing.assert_close(found[i], expected)


@pytest.mark.parametrize("part", [np.s_[:, :1], np.s_[:, :, :1], np.s_[0]])
def test_errors_refuse_answers_of_another_shape(part):
    """They would be stretched to the targets' shape."""

    class Short(nn.Module):
        def forward(self, x, k, condition):
            return x[part]

    policy = make_policy()
    _, sample = make_sample(policy)
    policy.network = Short()
    with pytest.raises(ReconvergeError, match=r"Short answers \[.*\], wanted \[6, 3, 2\]"):
        errors(policy, sample)


def test_half_squared_errors_are_half_the_sum_over_a_sample():
    policy = make_other_policy()
    _, sample = make_sample(policy)
    found = half_squared_errors(policy)(dict(policy.network.named_parameters()), sample.tensors)
    torch.testing.assert_close(found, 0.5 * 6 * errors(policy, sample))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_padding_adds_to_no_loss_and_no_gradient(prediction_type):
    """Actions of the second task have one entry of two."""
    policy = make_other_policy(prediction_type=prediction_type, action_sizes=(2, 1))
    batch = join([make_windows(0, 3), make_windows(1, 3)])
    batch.actions[3:, :, 1] = 0.0
    sample = corrupt(policy, batch, random_stream(CPU, 5))
    assert not sample.noisy[3:, :, 1].any()
    assert sample.noisy[:3].all()
    target = sample.target.clone()
    target[3:, :, 1] = 1e4
    changed, results = replace(sample, target=target), []
    parameters = dict(policy.network.named_parameters())
    for each in (sample, changed):
        losses = errors(policy, each), half_squared_errors(policy)(parameters, each.tensors)
        gradients = torch.autograd.grad(sum(losses).sum(), list(parameters.values()))
        results.append([*losses, *gradients])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
    error = policy.network(sample.noisy, sample.k, sample.condition) - sample.target
    torch.testing.assert_close(results[0][0][:3], error[:3].square().mean((1, 2)))
    torch.testing.assert_close(results[0][0][3:], error[3:, :, 0].square().mean(1))
    torch.testing.assert_close(results[0][1][3:], 0.5 * error[3:, :, 0].square().sum(1))


def test_a_batch_without_padding_has_the_numbers_of_a_policy_for_it_alone():
    """Bit for bit: a mask of ones changes nothing."""
    policy = make_other_policy()
    _, sample = make_sample(policy)
    error = policy.network(sample.noisy, sample.k, sample.condition) - sample.target
    assert torch.equal(errors(policy, sample), error.square().mean(dim=(1, 2)))


def test_taught_by_replaces_the_last_targets_by_the_teachers_answers():
    policy, teacher = make_policy(), make_other_policy()
    _, sample = make_sample(policy)
    taught = taught_by(teacher, sample, 2)
    assert taught.taught == 2
    assert torch.equal(taught.target[:4], sample.target[:4])
    answers = teacher.network(sample.noisy[4:], sample.k[4:], sample.condition[4:])
    torch.testing.assert_close(taught.target[4:], answers)
    assert not torch.allclose(taught.target[4:], sample.target[4:])
    assert not taught.target.requires_grad
    assert taught_by(teacher, sample, 0) is sample
    torch.testing.assert_close(errors(teacher, taught_by(teacher, sample, 6)), torch.zeros(6))


@pytest.mark.parametrize("taught", [0, 4, 9])
def test_split_tells_new_samples_from_replayed_ones(taught):
    policy = make_policy()
    sample = taught_by(make_other_policy(), make_sample(policy, 9)[1], taught)
    new, old = sample.split()
    assert (len(new.k), new.taught, len(old.k), old.taught) == (9 - taught, 0, taught, taught)
    for whole, first, second in zip(sample.tensors, new.tensors, old.tensors, strict=True):
        assert torch.equal(torch.cat([first, second]), whole)


@pytest.mark.parametrize(("count", "taught"), [(10, 3), (9, 4), (6, 0), (4, 4)])
def test_half_takes_every_second_sample_of_both_kinds(count, taught):
    policy = make_policy()
    sample = corrupt(policy, make_windows(0, count), random_stream(CPU, 5))
    sample = taught_by(policy, sample, taught)
    current = count - taught
    halves = []
    for start in (0, 1):
        half = sample.half(start)
        rows = [*range(start, current, 2), *range(current + start, count, 2)]
        for part, whole in zip(half.tensors, sample.tensors, strict=True):
            assert torch.equal(part, whole[rows])
        assert half.taught == len(range(current + start, count, 2))
        halves += rows
    assert sorted(halves) == list(range(count))


def test_imagined_targets_give_the_gauss_newton_matrix():
    """diag(J^T J), J the derivative of the network's output: how half the squared error curves,
    whatever the data.
    """
    policy, stream = make_policy(), random_stream(CPU, 0)
    one = corrupt(policy, make_windows(0, 1), stream)
    parameters = {name: p.detach() for name, p in policy.network.named_parameters()}
    output = functools.partial(
        torch.func.functional_call, policy.network, args=(one.noisy, one.k, one.condition)
    )
    jacobian = torch.func.jacrev(output)(parameters)
    exact = torch.cat(
        [J.flatten(0, 2).flatten(1).square().sum(0) for J in jacobian.values()]
    ).double()
    many = imagined(policy, type(one)(*(x.expand(2000, *x.shape[1:]) for x in one.tensors)), stream)
    loss = half_squared_errors(policy)
    found = DiagonalFisher().estimate(loss, parameters, [many.tensors]).curvatures
    assert float(found.sum() / exact.sum()) == pytest.approx(1.0, abs=0.05)
    assert float(torch.cosine_similarity(found, exact, dim=0)) > 0.99
