import numpy as np
import pytest
import torch

from reconverge.policy.model.normalizer import Normalizer

LOW = torch.tensor([[-1.0, 0.0, 2.0, 0.0], [-3.0, -0.5, 0.0, 0.0]])
HIGH = torch.tensor([[1.0, 4.0, 2.0, 0.0], [5.0, 0.5, 0.0, 0.0]])


def normalizer(rows=3):
    made = Normalizer(rows, 4)
    made.set_task(0, LOW[0], HIGH[0])
    made.set_task(1, LOW[1, :2], HIGH[1, :2])
    return made


@pytest.mark.parametrize("middle", [(), (3,), (3, 2)])
def test_normalize_maps_the_bounds_and_unnormalize_maps_back(middle):
    task = torch.tensor([0, 1, 1, 0])
    low, high = (
        LOW[task].view(4, *(1 for _ in middle), 4),
        HIGH[task].view(4, *(1 for _ in middle), 4),
    )
    u = torch.rand(4, *middle, 4, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    x = low + u * (high - low)
    made = normalizer()
    y = made.normalize(x, task)
    torch.testing.assert_close(y, torch.where(high > low, 2 * u - 1, 0.0))
    torch.testing.assert_close(made.unnormalize(y, task), x)


def test_normalize_makes_padding_zero_whatever_it_holds():
    made, task = normalizer(), torch.tensor([1])
    y = made.normalize(torch.tensor([[0.0, 0.0, 7.0, -2.0]]), task)
    assert y[0, 2:].tolist() == [0, 0]
    assert made.unnormalize(torch.full((1, 4), 0.9), task)[0, 2:].tolist() == [0, 0]


def test_set_task_leaves_earlier_rows_unchanged():
    made = normalizer()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.set_task(2, torch.full((4,), -9.0), torch.full((4,), 9.0))
    after = made.state_dict()
    assert all(torch.equal(after[name][:2], before[name][:2]) for name in before)
    assert after["is_set"].all()
    made.set_task(0, LOW[0], HIGH[0])  # the same again is no change
    with pytest.raises(ValueError, match="task 0 already has other bounds"):
        made.set_task(0, LOW[1], HIGH[1])


def test_state_dict_restores_the_rows():
    made, copy = normalizer(), Normalizer(3, 4)
    copy.load_state_dict(made.state_dict())
    x, task = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0])
    assert torch.equal(copy.normalize(x, task), made.normalize(x, task))
    with pytest.raises(ValueError, match="task 2 has no declared bounds"):
        copy.normalize(x, torch.tensor([0, 2]))


def test_set_task_takes_numpy_bounds():
    made = Normalizer(1, 2)
    made.set_task(0, np.array([0.0, -1.0]), np.array([1.0, 1.0]))
    assert made.normalize(torch.tensor([[0.5, 1.0]]), torch.tensor([0])).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("task", "low", "high", "message"),
    [
        (3, [0.0], [1.0], "rows 0 to 2"),
        (2, [1.0], [0.0], "every low must be finite"),
        (2, [0.0], [float("inf")], "every low must be finite"),
        (2, [0.0] * 5, [1.0] * 5, "at most 4"),
        (2, [0.0], [1.0, 1.0], "one length"),
    ],
)
def test_set_task_refuses_bad_bounds(task, low, high, message):
    with pytest.raises(ValueError, match=message):
        normalizer().set_task(task, torch.tensor(low), torch.tensor(high))
