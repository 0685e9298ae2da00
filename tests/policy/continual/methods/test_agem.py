"""A-GEM's projection against gradients by autograd."""

import dataclasses

import pytest
import torch

from support.tiny import learn, make_method, make_windows


class Watched:
    """A method in its second task, away from the first's optimum, and the gradients it follows."""

    def __init__(self, monkeypatch):
        self.method = make_method("agem")
        learn(self.method, 0, 100)
        self.method.begin_task(1, 10)
        at = self.method.optimization
        at.vector.mul_(0.9)  # what it answers is too small for the first task
        self.samples, self.gradients = [], []
        prepare, descend = self.method.prepare, at.descend

        def keep_sample(batch):
            self.samples.append(prepare(batch))
            return self.samples[-1]

        def keep_gradient():
            self.gradients.append(torch.cat([p.grad.flatten() for p in at.model.parameters()]))
            return descend()

        monkeypatch.setattr(self.method, "prepare", keep_sample)
        monkeypatch.setattr(at, "descend", keep_gradient)

    def expected(self):
        """g and g_ref at the parameters as they are, on the sample of the last update."""
        model, sample = self.method.optimization.model, self.samples[-1]
        output = model.network(sample.noisy, sample.k, sample.condition)
        error = (output - sample.target).square().mean((1, 2))
        current = len(error) - sample.taught
        leaves = list(model.parameters())
        parts = [
            torch.autograd.grad(part.mean(), leaves, retain_graph=True)
            for part in (error[:current], error[current:])
        ]
        return [torch.cat([g.flatten() for g in part]) for part in parts]


@pytest.mark.parametrize("conflict", [False, True])
def test_update_projects_a_gradient_that_would_raise_the_replayed_loss(monkeypatch, conflict):
    """More windows of the replayed task do not conflict with it; the opposite actions do."""
    watched, batch = Watched(monkeypatch), make_windows(0, 64, seed=5)
    before = watched.method.optimization.vector.clone()
    if conflict:
        batch = dataclasses.replace(batch, actions=-batch.actions)
    metrics = watched.method.update(batch)
    watched.method.optimization.vector.copy_(before)
    g, g_ref = watched.expected()
    (found,) = watched.gradients
    assert metrics.keys() == {"loss", "replayed", "projected", "learning_rate"}
    assert metrics["projected"] == float(g @ g_ref < 0) == float(conflict)
    wanted = g - (g @ g_ref) / (g_ref @ g_ref) * g_ref if conflict else g
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert float(found @ g_ref) > -1e-4 * float(found.norm() * g_ref.norm())


def test_update_of_the_first_task_is_that_of_finetune():
    found = []
    for name in ("agem", "finetune"):
        method = make_method(name)
        learn(method, 0, 5)
        found.append(method.optimization.vector.clone())
    assert torch.equal(*found)
