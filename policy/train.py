"""Learn tasks one after another: `python -m policy.train env=lift,can,square`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from reconverge.configs import commandline
from reconverge.policy.reports.illustrate import illustrate
from reconverge.policy.reports.live import LiveReporter
from reconverge.policy.reports.page import write_report
from reconverge.policy.runs.configuration import TRAIN, TrainOptions, task_labels
from reconverge.policy.runs.execution import learn, reporting
from reconverge.policy.runs.resuming import run_in
from reconverge.policy.runs.summary import Summary


def main() -> None:
    commandline.run(TRAIN, commandline.in_run_directory(execute))


def execute(
    options: TrainOptions, folder: Path, typed: Sequence[str] = (), in_sweep: bool = False
) -> Summary:
    """Learn what is left of the run in `folder`, write its report and return its summary."""
    return run_in(folder, options, typed, in_sweep, _finish)


def _finish(options: TrainOptions, folder: Path) -> Summary:
    reporter = LiveReporter(folder, task_labels(options), options.updates_per_task)
    finished = learn(options, folder, reporter)
    if options.report:
        with reporting(folder, "train"):
            illustrate(folder, finished)
            write_report([folder], folder / "report.html")
        tqdm.write(f"see {folder / 'report.html'}")
    return finished.summary


if __name__ == "__main__":
    main()
