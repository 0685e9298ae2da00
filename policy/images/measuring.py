"""How good generated pictures are: the judge's verdict on each, their Frechet distance together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reconverge.envs.seeds import MEASUREMENT
from reconverge.policy.continual.denoising import random_stream
from reconverge.policy.continual.loop import Distance, Progress
from reconverge.policy.images.class_tasks import PictureBatch
from reconverge.policy.images.frechet import Moments, frechet_distance, moments
from reconverge.policy.images.inception import Features
from reconverge.policy.images.judge import Judge
from reconverge.policy.images.picture_model import PictureDenoiser
from reconverge.policy.runs.configuration import EvaluationOptions

BLOCK = 100  # pictures whose noise is drawn together, so that the first n are always the same


class PictureEvaluation:
    """Evaluate of the loop: whether each generated picture is of its class, by the judge.

    The Frechet distance to the test pictures goes into `progress`, of as many pictures as a probe
    has, and after a task of all of them, too. `real` are the moments of every task's test
    pictures, in `features`.
    """

    def __init__(
        self,
        judge: Judge,
        features: Features,
        real: Sequence[Moments],
        options: EvaluationOptions,
        progress: Progress,
    ):
        self.judge, self.features, self.real = judge, features, real
        self.options, self.progress = options, progress

    def __call__(self, model: PictureDenoiser, task: int, n: int) -> list[bool]:
        found = self.generate(model, task, n)
        features = self.features(found.pictures)
        for count in sorted({min(n, self.options.probe_rollouts), n}):
            self._note(features[:count], task)
        return (self.judge.classes(found.pictures) == found.label).tolist()

    def generate(self, model: PictureDenoiser, task: int, n: int) -> PictureBatch:
        """Return the first n evaluation pictures of a task, from noise keyed by seeds and task."""
        channels, height, width = model.shape
        start = MEASUREMENT[self.options.seeds].start
        device = next(model.parameters()).device
        blocks = [
            torch.randn(
                (BLOCK, channels * height, width),
                generator=random_stream(torch.device("cpu"), start, task, block),
            )
            for block in range(-(-n // BLOCK))
        ]
        noise = torch.cat(blocks)[:n].to(device)
        return model.from_noise(task, iter(noise.split(self.options.slots)))

    def _note(self, features: Tensor, task: int) -> None:
        """Note the distance of at least two pictures."""
        if len(features) < 2:
            return
        at = self.progress
        value = frechet_distance(self.real[task], moments(features))
        at.distances.append(Distance(at.task, task, at.update, len(features), value))
