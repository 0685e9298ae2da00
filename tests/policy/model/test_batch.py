import torch

from reconverge.policy.model.batch import Batch, join
from support.tiny import make_windows


def test_join_and_sample_keep_windows_whole():
    batch = join([make_windows(0, 3), make_windows(1, 2)])
    assert batch.task.tolist() == [0, 0, 0, 1, 1]
    drawn = batch.sample(200, torch.Generator().manual_seed(0))
    again = batch.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.observations, again.observations)
    index = [int((batch.observations == row).all((1, 2)).nonzero()) for row in drawn.observations]
    assert set(index) == set(range(5))
    assert torch.equal(drawn.actions, batch.actions[index])
    assert torch.equal(drawn.task, batch.task[index])
    assert isinstance(drawn, Batch)
