"""Experience replay against its loss written out, and what it remembers from a few episodes."""

import torch

from support.tiny import action_error, learn, make_method, make_windows


def test_update_replays_the_targets_of_the_data():
    method = make_method("er", replay_weight=0.5)
    learn(method, 0, 20)
    method.begin_task(1, 10)
    with torch.no_grad():
        method.optimization.vector.add_(0.1 * torch.randn(method.optimization.vector.shape))
    sample = method.prepare(make_windows(1, 9))
    assert (len(sample.k), sample.taught) == (41, 32)
    # The network predicts the actions, which on task 0 follow from the last observation.
    size = sample.target[0].numel()
    known = {row.numpy().tobytes() for row in make_windows(0).actions.flatten(1)}
    assert all(row.numpy().tobytes() in known for row in sample.target[9:].reshape(32, size))
    output = method.optimization.model.network(sample.noisy, sample.k, sample.condition)
    error = (output - sample.target).square().mean((1, 2))
    loss, metrics = method.loss(sample)
    torch.testing.assert_close(loss, error[:9].mean() + 0.5 * error[9:].mean())
    assert metrics.keys() == {"loss", "replayed"}


def test_a_few_episodes_keep_the_first_task():
    method = make_method("er", "memory")
    learn(method, 0, 200)
    assert method.memory_bytes == 4 * 1000
    learn(method, 1, 350, last=True)
    assert action_error(method.model, 0) < 0.03
    assert action_error(method.model, 1) < 0.02
