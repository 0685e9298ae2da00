"""Sheets of generated pictures after each task: a row a task seen, the same noise every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from reconverge.files import replacing
from reconverge.policy.continual.loop import Progress
from reconverge.policy.images.class_tasks import as_bytes
from reconverge.policy.images.measuring import PictureEvaluation
from reconverge.policy.images.picture_model import PictureDenoiser, PictureSpec
from reconverge.policy.runs.record import Reporter
from reconverge.policy.runs.summary import Summary

COLUMNS = 20
SCALE, GAP = 2, 2  # of a pixel; between pictures


@dataclass(frozen=True)
class SampleSheets:
    """A reporter that also writes `samples/<k>_<task>.png` after each task."""

    reporter: Reporter
    folder: Path
    model_of: Callable[[int], PictureDenoiser]
    evaluation: PictureEvaluation
    spec: PictureSpec

    def task_ended(self, progress: Progress) -> None:
        self.reporter.task_ended(progress)
        seen = range(progress.task + 1)
        drawn = [self.evaluation.generate(self.model_of(task), task, COLUMNS) for task in seen]
        rows = [as_bytes(batch.pictures).cpu().numpy() for batch in drawn]
        path = sheet_path(self.folder, progress.task, self.spec.tasks[progress.task])
        with replacing(path) as temporary:
            Image.fromarray(sheet(rows)).save(temporary, "PNG")

    def finished(self, summary: Summary) -> None:
        self.reporter.finished(summary)


def sheet_path(folder: Path, task: int, label: str) -> Path:
    """Return where the sheet after a task lies in the folder of a run."""
    return folder / "samples" / f"{task}_{label}.png"


def sheet(rows: Sequence[UInt8[np.ndarray, "n C H W"]]) -> UInt8[np.ndarray, "h w 3"]:
    """Return rows of pictures as one, on a white ground, pixels enlarged."""
    n, _, height, width = rows[0].shape
    high, wide = height * SCALE + GAP, width * SCALE + GAP
    found = np.full((len(rows) * high + GAP, n * wide + GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            large = picture.repeat(SCALE, 1).repeat(SCALE, 2).transpose(1, 2, 0)
            top, left = i * high + GAP, j * wide + GAP
            found[top : top + height * SCALE, left : left + width * SCALE] = large
    return found
