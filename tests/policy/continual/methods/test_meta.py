"""The meta-learners against their formulas."""

import os
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.parameter_vector import split
from reconverge.policy.continual.rehearsal import Replay
from reconverge.policy.model.diffusion import mean_square
from support.tiny import action_error, learn, make_method, make_setting, make_windows


class Watched:
    """A method in its second task, away from the teacher, and what its updates see and follow."""

    def __init__(self, monkeypatch, name, **options):
        self.method = make_method(name, **options)
        learn(self.method, 0, 5)
        self.method.begin_task(1, 10)
        at = self.method.optimization
        generator = torch.Generator().manual_seed(1)
        at.vector.add_(0.05 * torch.randn(at.vector.shape, generator=generator))
        self.samples, self.thetas, self.gradients = [], [], []
        prepare, descend = self.method.prepare, at.descend

        def keep_sample(batch):
            self.samples.append(prepare(batch))
            self.thetas.append(at.vector.clone())
            return self.samples[-1]

        def keep_gradient():
            assert torch.equal(at.vector, self.thetas[-1])  # the inner step is undone
            gradients = [p.grad.flatten() for p in at.model.parameters()]
            self.gradients.append(torch.cat(gradients))
            return descend()

        monkeypatch.setattr(self.method, "prepare", keep_sample)
        monkeypatch.setattr(at, "descend", keep_gradient)

    def update(self, count=1):
        return [self.method.update(make_windows(1, 10, seed=i)) for i in range(count)]

    def written_out(self, update, rate, at=None):
        """First-order MAML gradient by autograd, on the sample of an update: support rows 0, 2,
        ..., query rows 1, 3, ... of both kinds; at the parameters of the update `at`.
        """
        part, theta = self.samples[update], self.thetas[update if at is None else at]
        network = self.method.optimization.model.network
        names = dict(network.named_parameters())

        def gradient(vector, start):
            leaf = vector.clone().requires_grad_()
            total = 0.0
            for rows in (range(start, 10, 2), range(10 + start, 42, 2)):
                rows = list(rows)
                inputs = (part.noisy[rows], part.k[rows], part.condition[rows])
                output = functional_call(network, split(leaf, names), inputs)
                total = total + mean_square(output - part.target[rows]).mean()
            return torch.autograd.grad(total, leaf)[0]

        return gradient(theta - rate * gradient(theta, 0), 1)


def test_update_of_ftml_follows_the_query_gradient_after_an_inner_step(monkeypatch):
    watched = Watched(monkeypatch, "ftml", inner_rate=0.3)
    (metrics,) = watched.update()
    (found,) = watched.gradients
    torch.testing.assert_close(found, watched.written_out(0, 0.3), rtol=1e-4, atol=1e-7)
    assert metrics.keys() == {"loss", "distillation", "learning_rate"}
    without = watched.written_out(0, 0.0)
    assert (found - without).norm() > 1e-3 * without.norm()


def test_update_of_vr_mcl_corrects_the_estimate_before_by_the_same_batch(monkeypatch):
    watched = Watched(monkeypatch, "vr_mcl", inner_rate=0.3)
    watched.update(3)
    estimate = watched.written_out(0, 0.3)
    torch.testing.assert_close(watched.gradients[0], estimate, rtol=1e-4, atol=1e-7)
    for t in (1, 2):
        now, before = (watched.written_out(t, 0.3, at=i) for i in (t, t - 1))
        estimate = now + 0.9 * (estimate - before)
        torch.testing.assert_close(watched.gradients[t], estimate, rtol=1e-3, atol=1e-6)


@pytest.mark.skipif(not os.environ.get("ALL_TASKS"), reason="with ALL_TASKS=1")
@pytest.mark.parametrize("name", ["ftml", "vr_mcl"])
def test_update_keeps_the_first_task(name):
    method = make_method(name)
    learn(method, 0, 250)
    learn(method, 1, 400, last=True)
    assert action_error(method.model, 0) < 0.04
    assert action_error(method.model, 1) < 0.04


def test_begin_task_ends_the_estimate():
    method = make_method("vr_mcl")
    learn(method, 0, 3)
    assert "meta/estimate" in method.state_dict()
    method.begin_task(1, 3)
    assert "meta/estimate" not in method.state_dict()


@pytest.mark.parametrize("sizes", [(1, 8), (8, 1)])
def test_build_refuses_batches_that_cannot_be_halved(sizes):
    setting = make_setting()
    replay = Replay(setting.replay.source, batch_size=sizes[1], pool=8)
    with pytest.raises(ReconvergeError, match="method=ftml halves its batches"):
        METHODS["ftml"]().build(replace(setting, batch_size=sizes[0], replay=replay))
