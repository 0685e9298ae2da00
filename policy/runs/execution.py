"""One training run: from options and a folder to a finished run."""

from __future__ import annotations

import gc
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from reconverge.envs.evaluator import Evaluator
from reconverge.envs.seeds import MEASUREMENT
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError, lacks_memory
from reconverge.policy.continual.learner import Method
from reconverge.policy.continual.loop import Evaluate, LoopSettings, Progress, learn_tasks
from reconverge.policy.continual.optimization import DivergenceError, precision_on
from reconverge.policy.continual.rehearsal import GeneratedReplay
from reconverge.policy.demonstrations.fit import in_frames_of
from reconverge.policy.demonstrations.playback import warn_unless_it_plays
from reconverge.policy.demonstrations.supply import Identities
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.model.generator import WindowGenerator
from reconverge.policy.model.policy import DiffusionPolicy
from reconverge.policy.runs.build import (
    ReadWindows,
    check_parts,
    make_method,
    make_replay,
    make_spec,
    make_windows,
    open_stores,
)
from reconverge.policy.runs.configuration import (
    RunOptions,
    TrainOptions,
    check_train_options,
    deciding,
)
from reconverge.policy.runs.folder import OPTIONS_FILE, flat, forget, record_options
from reconverge.policy.runs.loading import find_device, make_normalizer, make_policy
from reconverge.policy.runs.provenance import command, hardware, precision_told, versions
from reconverge.policy.runs.record import Reporter, RunRecord
from reconverge.policy.runs.resuming import begun_with, find_begun, go_on
from reconverge.policy.runs.summary import Summary

EXPECTED = (KeyboardInterrupt, ReconvergeError, OSError)  # what ends a run that may be resumed


@dataclass(frozen=True)
class FinishedRun:
    """A run that has learned its last task, with what its report may show."""

    summary: Summary
    tasks: Sequence[Task]
    model_of: Callable[[int], DiffusionPolicy]
    generator: WindowGenerator | None  # of the replay, where it was trained
    windows: Sequence[ReadWindows]
    film_seeds: range


def learn(options: TrainOptions, folder: Path, reporter: Reporter) -> FinishedRun:
    """Learn what is left of the run in `folder`, and write its summary.

    Nothing is made before the options are known to describe a run. Where the run is interrupted,
    or an error ends it, a line says how to go on.
    """
    started = time.perf_counter()
    tasks = check_train_options(options)
    check_parts(options, tasks)
    device = find_device(options.device)
    with resumable(options, folder, "train"):
        return _learn_all(options, folder, reporter, tasks, device, started)


@contextmanager
def resumable(options: RunOptions, folder: Path, name: str) -> Iterator[None]:
    """Record the options of a run; where it stops, say how to go on, with the command `name`, or
    forget that it began.
    """
    gc.collect()  # what the run before, in a sweep, held of a GPU: a full one starts no collection
    new = not (folder / OPTIONS_FILE).exists()
    if new:
        record_options(options, folder)
    try:
        yield
    except BaseException as stop:
        if not isinstance(stop, EXPECTED) and not lacks_memory(stop):
            raise
        kept = isinstance(stop, (KeyboardInterrupt, OSError))
        if new and not kept and forget(folder):
            raise
        again = _resuming(name, folder)
        # All randomness is keyed, so a loss that is not finite comes again at the same update.
        again += " optimizer.learning_rate=<lower>" if isinstance(stop, DivergenceError) else ""
        again += " batch_size=<smaller>" if lacks_memory(stop) else ""
        tqdm.write(f"stopped; continue with: {again}")
        if isinstance(stop, OSError):
            raise ReconvergeError(f"{stop}; free disk space or rights, then resume") from stop
        raise


@contextmanager
def reporting(folder: Path, name: str) -> Iterator[None]:
    """Where the report of a finished run is interrupted, say how to go on, with `name`."""
    try:
        yield
    except KeyboardInterrupt:
        tqdm.write(f"stopped; all is learned, for the report: {_resuming(name, folder)}")
        raise


def _resuming(name: str, folder: Path) -> str:
    """Return the line that a shell takes to go on with the run in `folder`."""
    return f"reconverge {name} {shlex.quote(f'resume={folder}')}"


def _learn_all(
    options: TrainOptions,
    folder: Path,
    reporter: Reporter,
    tasks: list[Task],
    device: torch.device,
    started: float,
) -> FinishedRun:
    begun = find_begun(folder)
    before = None if begun is None else begun.spec
    make_spec(options, tasks, before)  # refuses tasks before any is recorded
    stores, found = open_stores(options, tasks, folder, begun_with(folder, begun))
    tasks = in_frames_of(tasks, stores)
    collected = time.perf_counter() - started
    torch.manual_seed(options.seed)
    spec = make_spec(options, tasks, before)
    normalizer = make_normalizer(spec, tasks).to(device)
    pairs = zip(tasks, stores, strict=True)
    windows = [
        make_windows(options, spec, store, task, device, found[task.name]["episodes"])
        for task, store in pairs
    ]
    evaluator = Evaluator(tasks, options.evaluation.slots, options.workers)
    replay = make_replay(options, spec, normalizer, windows, evaluator)
    method = make_method(options, spec, make_policy(spec, normalizer), replay, windows)
    facts = facts_of(options, deciding(options), method, found)
    progress, state = Progress(demonstration_seconds=collected), None
    if begun is not None:
        progress, facts = go_on(begun, spec, facts, options, command())
        progress.demonstration_seconds += collected
        state = begun.state
    record_options(options, folder)  # with those that were typed anew
    manifest = {"policy": spec.to_json(), "facts": facts, "options": flat(options)}
    record = RunRecord(
        folder,
        spec.tasks,
        options.updates_per_task,
        lambda: method.model.state_dict(),
        manifest,
        facts,
        progress,
        reporter,
        started,
        options.logger,
    )
    seeds = MEASUREMENT[options.evaluation.seeds]
    try:
        for i, store in enumerate(stores):
            warn_unless_it_plays(store, partial(evaluator.env, i))
        evaluate = _success(evaluator, seeds, progress)
        learn_tasks(method, windows, evaluate, record, loop_settings(options), progress, state)
    except BaseException:
        record.close()
        raise
    finally:
        evaluator.close()
    told, generator = options.boundaries == "told", None
    noticed = {} if told else {"boundaries": progress.boundaries}
    summary = record.finish(progress, method.memory_bytes, **noticed)
    if replay and isinstance(replay.source, GeneratedReplay) and method.uses_replay and told:
        generator = replay.source.generator
    return FinishedRun(summary, tasks, method.model_of, generator, windows, seeds[:1])


def loop_settings(options: RunOptions) -> LoopSettings:
    """Return what the loop needs to know of the options."""
    return LoopSettings(
        options.updates_per_task,
        options.batch_size,
        options.checkpoint_every,
        options.seed,
        options.evaluation.n_rollouts,
        options.evaluation.probing,
    )


def _success(evaluator: Evaluator, seeds: range, progress: Progress) -> Evaluate:
    """Measure success of a policy on a task in the first episodes of `seeds`."""

    def evaluate(policy: DiffusionPolicy, task: int, n: int) -> list[bool]:
        results = evaluator.rollouts(PolicyActor(policy, task), task, seeds[:n])
        progress.diverged += sum(result.diverged for result in results)
        return [result.success for result in results]

    return evaluate


def facts_of(
    options: RunOptions, decided: dict[str, Any], method: Method, demonstrations: Identities
) -> dict[str, Any]:
    """Return what summary.json says of a run beside its results; `decided` are its options."""
    parameters = list(method.model.network.parameters())
    device = parameters[0].device
    precision = precision_told(device, precision_on(device, options.optimizer.precision))
    return {
        "method": options.method.name,
        "replay": options.replay.name if method.uses_replay else "none",
        "fisher": options.fisher.name if method.uses_fisher else "none",
        "network": options.network.name,
        "seed": options.seed,
        "updates_per_task": options.updates_per_task,
        "evaluation_seeds": options.evaluation.seeds,
        "options": decided,
        "parameters": sum(p.numel() for p in parameters),
        "demonstrations": demonstrations,
        "changes": [],
        "command": command(),
        "versions": versions(),
        "hardware": hardware() | {"device": device.type, "precision": precision},
    }
