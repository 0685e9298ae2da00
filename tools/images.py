"""Learn to generate pictures, task by task: `python -m tools.images data=fashion_mnist`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from reconverge.configs import commandline
from reconverge.policy.images.picture_options import IMAGES, ImageOptions, absolute_data
from reconverge.policy.images.picture_run import learn_pictures
from reconverge.policy.reports.live import LiveReporter
from reconverge.policy.reports.page import write_report
from reconverge.policy.runs.execution import reporting
from reconverge.policy.runs.resuming import run_in
from reconverge.policy.runs.summary import Summary


def main() -> None:
    commandline.run(IMAGES, commandline.in_run_directory(execute))


def execute(
    options: ImageOptions, folder: Path, typed: Sequence[str] = (), in_sweep: bool = False
) -> Summary:
    """Learn what is left of the run in `folder`, write its report and return its summary."""
    return run_in(folder, absolute_data(options), typed, in_sweep, _finish, IMAGES)


def _finish(options: ImageOptions, folder: Path) -> Summary:
    updates = options.updates_per_task
    summary = learn_pictures(options, folder, lambda tasks: LiveReporter(folder, tasks, updates))
    if options.report:
        with reporting(folder, "images"):
            write_report([folder], folder / "report.html")
        tqdm.write(f"see {folder / 'report.html'}")
    return summary


if __name__ == "__main__":
    main()
