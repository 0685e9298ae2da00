"""A run read back to be measured: its models after each task, its data, its replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reconverge.envs.evaluator import Evaluator
from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import Denoiser, Source
from reconverge.policy.continual.rehearsal import ReplaySource
from reconverge.policy.demonstrations.fit import in_frames_of
from reconverge.policy.demonstrations.supply import identities, open_store, require_same
from reconverge.policy.images.picture_options import IMAGES, generates_pictures
from reconverge.policy.images.picture_run import load_generator, make_run, read_spec, supplied
from reconverge.policy.runs.build import make_method, make_replay, make_spec, make_windows
from reconverge.policy.runs.configuration import RunOptions, check_train_options, task_labels
from reconverge.policy.runs.folder import recorded_options
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.runs.resuming import begun_with, find_begun


@dataclass(frozen=True)
class LearnedRun:
    """Of the tasks learned so far: names, checkpoints, models, data; replay and region are fresh.

    `method` is a fresh one of the run.
    """

    options: RunOptions
    names: list[str]
    folders: list[Path]
    policies: Sequence[Denoiser]
    windows: Sequence[Callable[[], Source]]
    method: Any

    @property
    def replay(self) -> ReplaySource:
        source: ReplaySource = self.method.replay.source
        return source

    @property
    def region(self) -> Any:
        return getattr(self.method, "region", None)


def read_learned(run: Path) -> LearnedRun:
    """Read a run of either kind; ReconvergeError unless a teacher tells it of earlier tasks."""
    learned = _read_pictures(run) if generates_pictures(run) else _read_policies(run)
    options = learned.options
    weight = asdict(options.method).get("distillation_weight", 0.0)
    if not (learned.method.uses_replay and weight):
        raise ReconvergeError(
            f"{run}: method={options.method.name} replay={options.replay.name} rehearses no "
            "earlier task by distillation"
        )
    boundaries = getattr(options, "boundaries", "told")  # of pictures always
    if boundaries != "told":
        raise ReconvergeError(
            f"{run}: boundaries={boundaries}: its replay knows no tasks to be compared with"
        )
    return learned


def _read_policies(run: Path) -> LearnedRun:
    """Return policies and windows of the run's demonstrations."""
    options = recorded_options(run)
    names = task_labels(options)
    found = _learned(run, names)
    tasks, folder = check_train_options(options), Path(options.demonstrations.path)
    stores = [open_store(task, folder) for task in tasks]
    by_name = {task.name: store for task, store in zip(tasks, stores, strict=True)}
    begun = begun_with(run, find_begun(run))
    here = identities(by_name, tasks, options.demonstrations.episodes, begun)
    require_same(here, begun, folder)
    tasks = in_frames_of(tasks, stores)
    loaded = [load_policy(each) for each in found]
    policies = [each.policy for each in loaded]
    spec = make_spec(options, tasks, loaded[0].spec)
    pairs = zip(tasks, stores, strict=True)
    cpu = torch.device("cpu")
    windows = [
        make_windows(options, spec, store, task, cpu, here[task.name]["episodes"])
        for task, store in pairs
    ]
    evaluator = Evaluator(tasks, options.evaluation.slots, options.workers)
    replay = make_replay(options, spec, policies[0].normalizer, windows, evaluator)
    method = make_method(options, spec, policies[0], replay, windows)
    return LearnedRun(options, names, found, policies, windows, method)


def _read_pictures(run: Path) -> LearnedRun:
    """Return generators and pictures."""
    options = recorded_options(run, IMAGES)
    store = supplied(options, find_begun(run, read_spec))
    made = make_run(replace(options, device="cpu"), store)
    found = _learned(run, made.spec.tasks)
    sources = [lambda source=source: source for source in made.train]
    models = [load_generator(folder) for folder in found]
    return LearnedRun(options, made.spec.tasks, found, models, sources, made.method)


def _learned(run: Path, names: Sequence[str]) -> list[Path]:
    """Return the checkpoints of the tasks that have been learned."""
    folders = [run / "checkpoints" / f"{k}_{name}" for k, name in enumerate(names)]
    found = [folder for folder in folders if folder.exists()]
    if len(found) < 2:
        raise ReconvergeError(f"{run}: {len(found)} tasks have been learned; at least 2 are needed")
    return found
