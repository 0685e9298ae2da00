"""What the report of a finished run shows beside its numbers: a film of each task, and how good its replay is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from datasets.windows import Windows
from envs.render import RenderError
from envs.tasks import Task
from policy.agent import DiffusionPolicy, PolicyActor
from policy.files import write_json
from policy.generator import WindowGenerator
from policy.replay_quality import replay_quality
from tools.export_video import film

WIDTH, HEIGHT = 320, 240  # pixels of a film


def illustrate(
    folder: Path,
    tasks: Sequence[Task],
    policy_of: Callable[[int], DiffusionPolicy],
    seeds: range,
    model: WindowGenerator | None,
    windows: Sequence[Callable[[], Windows]],
    frames: Mapping[str, str],
) -> None:
    """Write `replay_quality.json` (with a generator) and `videos/<task>.mp4`, one episode a seed, into `folder`.

    `frames`: of the tasks whose actions are not in the base frame.
    """
    if model is not None:
        write_json(folder / "replay_quality.json", _quality(tasks, model, windows))
    try:
        for i, task in enumerate(tasks):
            path, frame = folder / "videos" / f"{task.label}.mp4", frames.get(task.label, "base")
            _film(task, PolicyActor(policy_of(i), i), path, seeds, frame)
    except RenderError as error:
        tqdm.write(f"no videos: {error}")


def entry_names(task: Task) -> list[str]:
    """Names of the entries of a task's observation, then of its action."""
    sizes = {**task.sizes, "action": task.action_size}
    return [f"{key}[{i}]" for key, size in sizes.items() for i in range(size)]


def _film(task: Task, actor: PolicyActor, path: Path, seeds: range, frame: str) -> None:
    film(task, lambda env: actor, path, seeds, width=WIDTH, height=HEIGHT, input_frame=frame)


def _quality(tasks: Sequence[Task], model: WindowGenerator, windows: Sequence[Callable[[], Windows]]) -> list[dict]:
    """One entry a task that the generator has learned: all but the last."""
    found = []
    for i, task in enumerate(tasks[:-1]):
        stream = torch.Generator(model.normalizer.low.device).manual_seed(i)
        measured = replay_quality(model, windows[i](), i, entry_names(task), stream)
        if measured is not None:
            found.append({"task": task.label, **measured})
    return found
