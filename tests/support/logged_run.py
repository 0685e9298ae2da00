"""A run of two tasks, interrupted after the first and resumed, as its loggers see it.

In a process of its own: `python -m support.logged_run interrupted FOLDER LOGGER`.
"""

import sys
from pathlib import Path
from time import perf_counter

import torch

from reconverge.policy.continual.loop import Progress
from reconverge.policy.runs.record import RunRecord

UPDATES = 20  # of each task


class Silent:
    """A reporter that shows nothing and keeps what it hears."""

    def __init__(self):
        self.heard = []

    def task_ended(self, progress):
        self.heard.append(progress.task)

    def finished(self, summary):
        self.heard.append(summary)


def make_record(folder, progress, logger="none", *, facts=None, reporter=None, started=None):
    """Open the record of a run of lift and can."""
    weights = {"w": torch.ones(1)}
    facts = facts or {"method": "replay", "options": {"batch_size": 8}}
    reporter = reporter or Silent()
    names, manifest = ["lift", "can"], {"policy": "tiny"}
    started = perf_counter() if started is None else started
    return RunRecord(
        *(folder, names, UPDATES, lambda: weights, manifest),
        *(facts, progress, reporter, started, logger),
    )


def interrupted(folder, logger):
    """Learn the first task, then stop."""
    progress = Progress()
    run = make_record(folder, progress, logger)
    for progress.update in range(1, UPDATES + 1):
        run.updated(progress, {"loss": 1.0 / progress.update})
    progress.successes.append([[True, False]])
    run.task_ended(progress)
    run.close()


def resumed(folder, logger):
    """Learn the second task of that run."""
    progress = Progress(task=1, update=0, successes=[[[True, False]]])
    run = make_record(folder, progress, logger)
    for update in range(1, 11):
        run.generator_updated(progress, update, 10, 0.25)
    for progress.update in range(1, UPDATES + 1):
        run.updated(progress, {"loss": 2.0 / progress.update})
    progress.successes.append([[True, True], [False, False]])
    run.task_ended(progress)
    run.close(complete=True)


if __name__ == "__main__":
    part, folder, logger = sys.argv[1:]
    {"interrupted": interrupted, "resumed": resumed}[part](Path(folder), logger)
