"""The generator of pictures that is learned task by task, and that is its own replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reconverge.options import choose
from reconverge.policy.images.class_tasks import PictureBatch
from reconverge.policy.images.unet2d import UNETS, Shape
from reconverge.policy.model.batch import join
from reconverge.policy.model.diffusion import Diffusion, DiffusionOptions
from reconverge.policy.runs.checkpoint import CheckpointError
from reconverge.schema import read_record

CLASS_ROWS = 32
"""Classes that a model has room for, a multiple of it for more: no shape tells of tasks to come."""
AT_ONCE = 500  # pictures that are generated together


@dataclass(frozen=True)
class PictureSpec:
    """Everything that decides a model's architecture and tasks; JSON in a checkpoint's manifest."""

    tasks: list[str]
    classes: list[list[int]]  # of every task, by their numbers in the data set
    names: list[str]  # of all classes of the data set
    shape: list[int]  # C, H, W
    network: dict[str, Any]  # name and options
    diffusion: dict[str, Any]

    @classmethod
    def from_json(cls, value: Any, file: Path) -> PictureSpec:
        """Read what `asdict` gave; CheckpointError names `file` and the field that is damaged."""
        return read_record(cls, value, f"{file}: pictures", CheckpointError)

    def continues(self, was: PictureSpec) -> bool:
        """Return whether a run of `was` may go on as this."""
        return self == was


class PictureDenoiser(nn.Module):
    """A diffusion model of pictures [C, H, W], as rows [C * H, W], given the class one-hot.

    Without guidance, as in arXiv 2509.23593. Pictures are generated in `precision`.
    """

    def __init__(
        self,
        network: nn.Module,
        diffusion: Diffusion,
        shape: Shape,
        classes: Sequence[Sequence[int]],
        rows: int,
        precision: str = "float32",
    ):
        super().__init__()
        self.network, self.diffusion = network, diffusion
        self.shape, self.classes, self.rows = shape, classes, rows
        self.precision = precision

    def clean(self, batch: PictureBatch) -> Float[Tensor, "B L D"]:
        """Return x_0 of a batch: rows of pixels."""
        return batch.pictures.flatten(1, 2)

    def conditions(self, batch: PictureBatch) -> Float[Tensor, "B K"]:
        """Return the classes one-hot."""
        return self.one_hot(batch.label)

    def masks(self, batch: PictureBatch) -> Float[Tensor, "B 1 D"]:
        """Return ones: a picture has no padding."""
        return torch.ones(len(batch), 1, self.shape[2], device=batch.label.device)

    def one_hot(self, label: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        return nn.functional.one_hot(label, self.rows).to(torch.float32)

    def generate(self, task: int, count: int, generator: torch.Generator) -> PictureBatch:
        """Generate pictures of a task, its classes in turn."""
        starts = range(0, count, AT_ONCE)
        size = (self.shape[0] * self.shape[1], self.shape[2])
        device = generator.device
        noise = (
            torch.randn((min(AT_ONCE, count - start), *size), generator=generator, device=device)
            for start in starts
        )
        return self.from_noise(task, noise)

    @torch.no_grad()
    def from_noise(self, task: int, noise: Iterator[Float[Tensor, "n L D"]]) -> PictureBatch:
        """Turn noise into pictures of a task, its classes in turn, one batch after another."""
        own = torch.tensor(self.classes[task])
        parts, done = [], 0
        for x in noise:
            labels = own[torch.arange(done, done + len(x)) % len(own)].to(x.device)
            enabled = self.precision == "bfloat16"
            with torch.autocast(x.device.type, torch.bfloat16, enabled=enabled):
                rows = self.diffusion.sample(self.network, x, self.one_hot(labels))
            pictures = rows.float().clamp(-1.0, 1.0).unflatten(1, self.shape[:2])
            parts.append(PictureBatch(pictures, labels, torch.full_like(labels, task)))
            done += len(x)
        return join(parts)


def make_denoiser(
    spec: PictureSpec, device: torch.device | str, precision: str = "float32"
) -> PictureDenoiser:
    """Build the model of `spec` with fresh weights."""
    rows = CLASS_ROWS * -(-len(spec.names) // CLASS_ROWS)
    channels, height, width = spec.shape
    shape = (channels, height, width)
    network = choose("network", UNETS, spec.network).build(shape, rows)
    diffusion = Diffusion(DiffusionOptions(**spec.diffusion), device)
    return PictureDenoiser(network, diffusion, shape, spec.classes, rows, precision).to(device)
