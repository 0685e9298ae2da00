"""The films of a finished run's tasks, and the quality of its replay, for its report."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from reconverge.envs.render.opengl import RenderError
from reconverge.envs.task import Task
from reconverge.files import write_json
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.model.generator import WindowGenerator
from reconverge.policy.reports.footage import Performer, film
from reconverge.policy.reports.replay_quality import replay_quality
from reconverge.policy.runs.execution import FinishedRun

WIDTH, HEIGHT = 320, 240  # pixels of a film


def illustrate(folder: Path, finished: FinishedRun) -> None:
    """Write `videos/<task>.mp4`, and `replay_quality.json` where a generator was trained.

    Films that an interrupted report has left are kept. If no film can be made, one line says why.
    """
    if finished.generator is not None:
        write_json(folder / "replay_quality.json", _quality(finished, finished.generator))
    try:
        for task in finished.tasks:
            path = folder / "videos" / f"{task.label}.mp4"
            if path.exists():
                continue
            performer = _performer(finished, task)
            film([performer], path, finished.film_seeds, width=WIDTH, height=HEIGHT)
    except RenderError as error:
        tqdm.write(f"no videos: {error}")


def _performer(finished: FinishedRun, task: Task) -> Performer:
    actor = PolicyActor(finished.model_of(task.index), task.index)
    return Performer(task.label, task, lambda env: actor)


def entry_names(task: Task) -> list[str]:
    """Return the names of the entries of a task's observation, then of its action."""
    sizes = {**task.sizes, "action": task.action_size}
    return [f"{key}[{i}]" for key, size in sizes.items() for i in range(size)]


def _quality(finished: FinishedRun, model: WindowGenerator) -> list[dict]:
    """Measure each task that the generator has learned: all but the last."""
    found = []
    for task in finished.tasks[:-1]:
        i = task.index
        stream = torch.Generator(model.normalizer.low.device).manual_seed(i)
        windows = finished.windows[i]().windows
        measured = replay_quality(model, windows, i, entry_names(task), stream)
        if measured is not None:
            found.append({"task": task.label, **measured})
    return found
