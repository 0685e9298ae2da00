"""Log a run's scalars beside metrics.jsonl: TensorBoard always, one more backend if asked for.

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

from reconverge.errors import ReconvergeError, unknown
from reconverge.files import write_text

PROJECT, ID_FILE = "reconverge", "logger_id.txt"
WANDB_MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")


class Logger(Protocol):
    """A backend. `axis` says what `step` counts: update or generator_update."""

    def log(self, values: dict[str, float], step: int, axis: str) -> None: ...
    def close(self, complete: bool) -> None:
        """Write all pending values; the run has ended if `complete`, or may be resumed."""


class TensorBoardLogger:
    """Write event files in `<run>/tensorboard`; a resumed run purges events after `step`.

    A curve over the generator's own updates has a folder of its own, and begins anew: a purge takes
    all names in a folder alike.
    """

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        self._begin = lambda name: SummaryWriter(str(place / name), purge_step=1)
        self._writers = {"": SummaryWriter(str(place), purge_step=step + 1)}

    def log(self, values: dict[str, float], step: int, axis: str) -> None:
        for name, value in values.items():
            own = "" if axis == "update" else name
            if own not in self._writers:
                self._writers[own] = self._begin(name)
            self._writers[own].add_scalar(name, value, step)

    def close(self, complete: bool) -> None:
        for writer in self._writers.values():
            writer.close()


class WandbLogger:
    """Write a run of Weights & Biases in `<run>/wandb`; a resumed run adds a part of the same id.

    Offline, `wandb sync <run>/wandb/offline-run-*` uploads all parts.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]):
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it reports its use otherwise
        import wandb

        self._last = 0
        try:
            self._run = wandb.init(
                project=PROJECT,
                dir=folder,
                id=run_id(folder),
                name=folder.name,
                group=folder.parent.name,
                config=facts,
                mode=mode,
                resume=None if mode == "offline" else "allow",
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise ReconvergeError(
                f"logger=wandb: {error}; leave WANDB_MODE unset to log offline"
            ) from error
        for axis in ("update", "generator_update"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric="update")
        self._run.define_metric("generator/*", step_metric="generator_update")

    def log(self, values: dict[str, float], step: int, axis: str) -> None:
        # Milliseconds order the entries, those of a resumed run after those before it; two in one
        # would be joined.
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        self._run.log({**values, axis: step}, step=self._last)

    def close(self, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)


class TrackioLogger:
    """Write a run of trackio, in its own database (TRACKIO_DIR); a resumed run continues it."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        import trackio

        self._run = trackio.init(
            project=PROJECT,
            name=f"{folder.name}-{run_id(folder)}",
            group=folder.parent.name,
            config=facts,
            resume="allow",
            embed=False,
        )

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
    """Raise ReconvergeError for an unknown logger, one whose package is not installed, or a
    WANDB_MODE that wandb does not have.
    """
    if name not in LOGGERS:
        raise unknown("logger", name, LOGGERS)
    if name == "none":
        return
    try:
        version(name)  # of the distribution: a folder of that name is no package
    except PackageNotFoundError:
        raise ReconvergeError(
            f"logger={name}: not installed; pip install -e '.[{name}]', or leave logger= out"
        ) from None
    mode = os.environ.get("WANDB_MODE", "offline")
    if name == "wandb" and mode not in WANDB_MODES:
        raise unknown("WANDB_MODE", mode, WANDB_MODES)


def make_loggers(name: str, folder: Path, facts: dict[str, Any], step: int) -> list[Logger]:
    """Make TensorBoard's logger and the one called `name`, a key of LOGGERS.

    The run in `folder` continues at `step`.
    """
    check_logger(name)
    make = LOGGERS[name]
    return [TensorBoardLogger(folder, step), *([make(folder, facts)] if make else [])]


def run_id(folder: Path) -> str:
    """Return the id of the run for its loggers, drawn once and kept in its folder."""
    path = folder / ID_FILE
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:8] + "\n")
    return path.read_text("utf-8").strip()
