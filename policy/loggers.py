"""Where a run's scalars go beside metrics.jsonl: TensorBoard always, Weights & Biases or trackio if asked for.

Nothing leaves the machine unless the backend's own environment variables say so: WANDB_MODE=online,
TRACKIO_SPACE_ID or TRACKIO_SERVER_URL. A backend's package is imported when its logger is made.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from policy.choices import unknown
from policy.files import write_text

PROJECT = "reconverge"


class Logger(Protocol):
    """What a backend does. `axis` names what `step` counts."""

    def log(self, values: dict[str, float], step: int, axis: str) -> None: ...
    def close(self, complete: bool) -> None:
        """Write what is pending; `complete`: the run has ended, it was not interrupted."""


class TensorBoardLogger:
    """Event files in `<run>/tensorboard`; what an interrupted run wrote there after `step` is purged."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, values: dict[str, float], step: int, axis: str) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, complete: bool) -> None:
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases in `<run>/wandb`; resumed, another part of it there under the same id.

    Offline, `wandb sync <run>/wandb/offline-run-*` uploads all parts.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]):
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it reports on its own use even then
        import wandb

        self._last = 0
        try:
            self._run = wandb.init(
                project=PROJECT, dir=folder, id=run_id(folder), name=folder.name, group=folder.parent.name,
                config=facts, mode=mode, resume=None if mode == "offline" else "allow",
                settings=wandb.Settings(console="off", silent=True),
            )  # fmt: skip
        except wandb.Error as error:
            raise ValueError(f"logger=wandb: {error}; leave WANDB_MODE unset to log offline") from error
        for axis in ("update", "generator_update"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric="update")
        self._run.define_metric("generator/*", step_metric="generator_update")

    def log(self, values: dict[str, float], step: int, axis: str) -> None:
        # Milliseconds order the entries, those of a resumed run after those before it; two in one would be joined.
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        self._run.log({**values, axis: step}, step=self._last)

    def close(self, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)


class TrackioLogger:
    """A run of trackio, in its own database (TRACKIO_DIR); resumed, the same one goes on."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        import trackio

        self._run = trackio.init(
            project=PROJECT, name=f"{folder.name}-{run_id(folder)}", group=folder.parent.name, config=facts,
            resume="allow", embed=False,
        )  # fmt: skip

    def log(self, values: dict[str, float], step: int, axis: str) -> None:
        self._run.log({**values, axis: step}, step=step)

    def close(self, complete: bool) -> None:
        self._run.finish()


LOGGERS: dict[str, Callable[[Path, dict[str, Any]], Logger] | None] = {
    "none": None,
    "wandb": WandbLogger,
    "trackio": TrackioLogger,
}


def check_logger(name: str) -> None:
    """ValueError for a logger that there is not, or whose package is not installed."""
    if name not in LOGGERS:
        raise unknown("logger", name, LOGGERS)
    if name == "none":
        return
    try:
        version(name)  # of the distribution, not the module: a folder of that name here is no package
    except PackageNotFoundError:
        raise ValueError(f"logger={name}: not installed; pip install -e '.[{name}]', or leave logger= out") from None


def make_loggers(name: str, folder: Path, facts: dict[str, Any], step: int) -> list[Logger]:
    """TensorBoard's and the one called `name` (a key of LOGGERS), of the run in `folder` that goes on at `step`."""
    check_logger(name)
    make = LOGGERS[name]
    return [TensorBoardLogger(folder, step), *([make(folder, facts)] if make else [])]


def run_id(folder: Path) -> str:
    """What a run is called in a logger's books, drawn once and kept in its folder."""
    path = folder / "logger_id.txt"
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:8] + "\n")
    return path.read_text().strip()
