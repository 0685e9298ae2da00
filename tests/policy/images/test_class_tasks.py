"""Tasks of classes, and their pictures in batches."""

import numpy as np
import pytest
import torch

from reconverge.datasets.images.labelled import LabelledPictures
from reconverge.errors import ReconvergeError
from reconverge.policy.images.class_tasks import as_bytes, as_values, class_tasks, task_pictures

NAMES = ["ant", "bee", "cat", "dog"]


def test_tasks_take_the_classes_in_order():
    found = class_tasks(NAMES, [], 2)
    assert [(t.index, t.label, t.classes) for t in found] == [
        (0, "ant+bee", (0, 1)),
        (1, "cat+dog", (2, 3)),
    ]
    assert [t.classes for t in class_tasks(NAMES, ["dog", "bee"], 1)] == [(3,), (1,)]


@pytest.mark.parametrize(
    ("names", "chosen", "per_task", "said"),
    [
        (NAMES, [], 3, "4 classes are no multiple of it"),
        (NAMES, ["ant", "ant"], 1, "one is there twice"),
        (NAMES, ["ant", "cow"], 1, "classes"),
        (NAMES, ["ant"], 1, "1 classes: at least 2"),
        (["a@1", "b"], [], 1, "rename its folder"),
    ],
)
def test_bad_classes_are_one_line(names, chosen, per_task, said):
    with pytest.raises(ReconvergeError, match=said):
        class_tasks(names, chosen, per_task)


def test_batches_are_pictures_of_the_task_and_keyed():
    values = np.arange(8, dtype=np.uint8)[:, None, None, None].repeat(8, 2).repeat(8, 3)
    found = LabelledPictures(values, np.arange(8) % 4)
    source = task_pictures(found, class_tasks(NAMES, [], 2)[1], "cpu")
    batch = source.sample(50, torch.Generator().manual_seed(0))
    assert set(as_bytes(batch.pictures)[:, 0, 0, 0].tolist()) == {2, 3, 6, 7}
    assert (as_bytes(batch.pictures)[:, 0, 0, 0] % 4 == batch.label).all()
    assert batch.task.tolist() == [1] * 50
    again = source.sample(50, torch.Generator().manual_seed(0))
    assert torch.equal(batch.pictures, again.pictures)
    kept = source.select(torch.tensor([0]))
    assert kept.labels.tolist() == [2]
    assert kept.episode_bytes.tolist() == [64]


def test_values_of_bytes_and_back():
    everything = torch.arange(256, dtype=torch.uint8)[:, None, None, None]
    assert torch.equal(as_bytes(as_values(everything)), everything)
    assert as_values(everything).aminmax() == (-1.0, 1.0)
