"""Tasks of classes: which classes each task teaches, and its pictures as batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from reconverge.datasets.images.labelled import LabelledPictures
from reconverge.errors import ReconvergeError, unknown

LEGAL = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class ClassTask:
    """Some classes, by their numbers in the data set, that are learned together."""

    index: int
    label: str
    classes: tuple[int, ...]


def class_tasks(names: Sequence[str], chosen: Sequence[str], per_task: int) -> list[ClassTask]:
    """Return the tasks of `chosen` classes of a data set, in order, or of all if there are none.

    ReconvergeError for classes that are unknown, chosen twice or badly named, for fewer than two,
    and where they are no multiple of those of a task.
    """
    order = list(chosen) or list(names)
    for name in order:
        if name not in names:
            raise unknown("classes", name, names)
        if not LEGAL.fullmatch(name):
            raise ReconvergeError(
                f"class {name!r}: checkpoints are named by it, so rename its folder: letters, "
                "digits, dots, - and _"
            )
    if len(set(order)) < len(order):
        raise ReconvergeError(f"classes={','.join(order)}: one is there twice; leave it out")
    if len(order) < 2:
        raise ReconvergeError(
            f"{len(order)} classes: at least 2 are needed, as generated pictures are told apart"
        )
    if len(order) % per_task:
        raise ReconvergeError(
            f"classes_per_task={per_task}: {len(order)} classes are no multiple of it; choose "
            "another number, or some of the classes (classes=)"
        )
    groups = [order[i : i + per_task] for i in range(0, len(order), per_task)]
    return [
        ClassTask(index, "+".join(group), tuple(names.index(name) for name in group))
        for index, group in enumerate(groups)
    ]


@dataclass(frozen=True)
class PictureBatch:
    """Pictures with values -1 to 1, their classes and their tasks."""

    pictures: Float[Tensor, "B C H W"]
    label: Int[Tensor, " B"]
    task: Int[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.task)

    def sample(self, size: int, generator: torch.Generator) -> PictureBatch:
        """Draw pictures with replacement."""
        index = torch.randint(len(self), (size,), generator=generator, device=self.task.device)
        return PictureBatch(self.pictures[index], self.label[index], self.task[index])


@dataclass(frozen=True)
class TaskPictures:
    """The pictures of one task, values 0 to 255; each counts as an episode of a replay budget."""

    pictures: UInt8[Tensor, "N C H W"]
    labels: Int[Tensor, " N"]
    task: int

    @property
    def episode_bytes(self) -> Int[Tensor, " N"]:
        """Return the bytes of every picture."""
        return torch.full((len(self.labels),), self.pictures[0].numel())

    def select(self, episodes: Int[Tensor, " n"]) -> TaskPictures:
        """Return some of the pictures."""
        chosen = episodes.to(self.labels.device)
        return replace(self, pictures=self.pictures[chosen], labels=self.labels[chosen])

    def sample(self, size: int, generator: torch.Generator) -> PictureBatch:
        """Draw pictures with replacement."""
        device, drawn_on = self.labels.device, generator.device
        index = torch.randint(len(self.labels), (size,), generator=generator, device=drawn_on)
        index = index.to(device)
        task = torch.full((size,), self.task, device=device)
        return PictureBatch(as_values(self.pictures[index]), self.labels[index], task)

    def pool(self, size: int, generator: torch.Generator) -> PictureBatch:
        """Draw what is rehearsed for a task."""
        return self.sample(size, generator)


def task_pictures(
    found: LabelledPictures, task: ClassTask, device: torch.device | str
) -> TaskPictures:
    """Return the pictures of a task's classes on a device."""
    own = found.of(task.classes)
    pictures, labels = torch.tensor(own.pictures), torch.tensor(own.labels)
    return TaskPictures(pictures.to(device), labels.to(device), task.index)


def as_values(pictures: UInt8[Tensor, "*N C H W"]) -> Float[Tensor, "*N C H W"]:
    """Return values -1 to 1 of values 0 to 255."""
    return pictures.float() / 127.5 - 1.0


def as_bytes(pictures: Float[Tensor, "*N C H W"]) -> UInt8[Tensor, "*N C H W"]:
    """Return values 0 to 255 of values -1 to 1, the nearest ones."""
    return ((pictures.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
