"""A run goes on: what it had reached, further tasks, and the options that are typed anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from reconverge.configs.store import Command
from reconverge.envs.catalog import task_sequence
from reconverge.errors import ReconvergeError
from reconverge.policy.continual.loop import Probing, Progress
from reconverge.policy.demonstrations.supply import Identities
from reconverge.policy.runs import checkpoint
from reconverge.policy.runs.configuration import FREE_IN_A_SWEEP, TRAIN, TrainOptions
from reconverge.policy.runs.folder import (
    DEMONSTRATIONS_FILE,
    Options,
    flat,
    open_run,
    owned,
    recorded_options,
    replaced,
)
from reconverge.policy.runs.loading import PolicySpec
from reconverge.policy.runs.summary import Summary, read_summary
from reconverge.schema import parse_json, read_text
from reconverge.seal import ALGORITHM, check_signed

MAY_CHANGE = (
    "env",
    "updates_per_task",
    "batch_size",
    "optimizer.learning_rate",
    "optimizer.warmup",
    "optimizer.weight_decay",
    "optimizer.max_gradient_norm",
    "optimizer.ema_decay",
    "optimizer.precision",
    "method.distillation_weight",
    "method.replay_weight",
    "method.strength",
    "method.share",
    "method.inner_rate",
    "replay.batch_size",
    "replay.pool",
    "replay.updates",
    "replay.learning_rate",
    "evaluation.slots",
    "demonstrations.path",
    "demonstrations.collect",
    "pictures",
    "checkpoint_every",
    "report",
    "logger",
    "device",
    "workers",
)
"""Options that may be typed beside resume=; the others decide the architecture or what is measured.
"""
KNOWS_ALL_TASKS = ("multitask", "packnet")
"""Methods that are told of all tasks before the first."""
ReadSpec = Callable[[dict[str, Any], Path], Any]
"""read(manifest, its file): the spec of a run's model"""
FIXED_FACTS = ("method", "replay", "fisher", "seed")
"""Facts in which a run and its checkpoints must agree."""
OF_THE_START = ("command", "versions", "hardware")
"""Facts that a run keeps from its start."""


@dataclass(frozen=True)
class Begun:
    """What a run had reached at its newest checkpoint, `folder`."""

    folder: Path
    state: dict[str, Tensor]  # of the method
    progress: Progress
    spec: Any  # PolicySpec, or of another kind of model with `tasks` and `continues`
    facts: dict[str, Any]
    options: dict[str, Any]  # by their dotted names


def _policy_spec(manifest: dict[str, Any], file: Path) -> PolicySpec:
    return PolicySpec.from_json(manifest.get("policy"), file)


def find_begun(run: Path, read_spec: ReadSpec = _policy_spec) -> Begun | None:
    """Read the newest checkpoint of a run; None where it has none yet."""
    checkpoints = run / "checkpoints"
    folder = checkpoint.newest(checkpoints)
    if folder is None:
        if checkpoints.exists() and not checkpoints.is_dir():
            raise ReconvergeError(f"{checkpoints}: must be a folder; restore it")
        return None
    found = checkpoint.load(folder)
    manifest, file = found.manifest, folder / checkpoint.MANIFEST
    return Begun(
        folder,
        found.state,
        Progress.from_json(manifest["progress"], str(file)),
        read_spec(manifest, file),
        manifest["facts"],
        manifest["options"],
    )


def run_in(
    folder: Path,
    options: Options,
    typed: Sequence[str],
    in_sweep: bool,
    finish: Callable[[Options, Path], Summary],
    command: Command = TRAIN,
) -> Summary:
    """Begin the run in a folder, or go on with it, to its end, which `finish` brings about.

    With `options.resume` the options are those that the run recorded, but for those `typed`. Of a
    sweep that is typed again a run that has its summary, and its report if one is wanted, is read.
    """
    with owned(folder):
        if options.resume:
            options = resumed_options(options, folder, typed, command)
        else:
            options = open_run(options, folder, in_sweep, command)
        if in_sweep and (folder / "summary.json").exists() and not _lacks_report(options, folder):
            tqdm.write(f"{folder} is finished")
            return read_summary(folder)
        return finish(options, folder)


def _lacks_report(options: Options, folder: Path) -> bool:
    """Tell if a finished run has no report where one is wanted and can be made."""
    made = not options.report or (folder / "report.html").exists()
    return not made and checkpoint.newest(folder / "checkpoints") is not None


def begun_with(run: Path, begun: Begun | None) -> Identities:
    """Return the demonstrations that the run began with, as far as it has found them."""
    if begun is not None:
        return begun.facts["demonstrations"]
    path = run / DEMONSTRATIONS_FILE
    found = parse_json(read_text(path), str(path)) if path.exists() else {}
    if not isinstance(found, dict):
        raise ReconvergeError(f"{path}: must be a map; restore it")
    check_signed(found, str(path))
    return {name: one for name, one in found.items() if name != ALGORITHM}


def resumed_options(
    options: Options, run: Path, typed: Sequence[str], command: Command = TRAIN
) -> Options:
    """Return the options that the run in a folder recorded, those `typed` as they are in `options`.

    ReconvergeError for an option that no run can change on its way, or a value that it cannot.
    """
    recorded = recorded_options(run, command)
    was, now = flat(recorded), flat(options)
    names = [name for name in typed if name in now and name != "resume"]
    changed = {name: now[name] for name in names if was[name] != now[name]}
    for name, value in changed.items():
        if name not in MAY_CHANGE:
            may = [each for each in MAY_CHANGE if each in was]
            raise ReconvergeError(
                f"resume={run}: {name}={value}: the run has {was[name]}, which cannot change; "
                f"begin a new run, or change some of {', '.join(may)}"
            )
    if "env" in changed:
        _check_further(recorded, changed["env"])
    if options.updates_per_task < recorded.updates_per_task and "updates_per_task" in changed:
        raise ReconvergeError(
            f"updates_per_task={options.updates_per_task}: the run has "
            f"{recorded.updates_per_task} and may have more, not fewer"
        )
    for name, value in changed.items():
        recorded = replaced(recorded, name, value)
    return recorded


def _check_further(recorded: TrainOptions, env: list[str]) -> None:
    """Raise ReconvergeError unless `env` goes on with further tasks."""
    was = [task.label for task in task_sequence(recorded.env)]
    now = [task.label for task in task_sequence(env)]
    if now[: len(was)] != was:
        raise ReconvergeError(
            f"env={','.join(env)}: a run goes on with further tasks at the end of its own; give "
            f"env={','.join(was)},<task>"
        )
    if len(now) > len(was) and recorded.method.name in KNOWS_ALL_TASKS:
        raise ReconvergeError(
            f"env={','.join(env)}: method={recorded.method.name} must know all tasks before the "
            "first; begin a new run with them"
        )


def go_on(
    begun: Begun, spec: Any, facts: dict[str, Any], options: Any, command: str
) -> tuple[Progress, dict[str, Any]]:
    """Return where the run goes on, and its facts: those of its start, and what changed since.

    CheckpointError where the checkpoint is of another architecture, method or seed.
    """
    _check_same(begun, spec, facts)
    progress, now = begun.progress, flat(options)
    names = [name for name in begun.options if name in now and name not in FREE_IN_A_SWEEP]
    changed = {name: now[name] for name in names if begun.options[name] != now[name]}
    finished = progress.task == len(begun.spec.tasks)
    if finished and len(spec.tasks) == progress.task and "updates_per_task" in changed:
        before = begun.options["updates_per_task"]
        _reopen(progress, before, options.updates_per_task, options.evaluation.probing)
    changes = [*begun.facts["changes"]]
    if progress.task < len(spec.tasks):
        changed |= _moved(begun.facts, facts)
        where = {"task": progress.task, "update": progress.update}
        changes += [{**where, "options": changed, "command": command}] if changed else []
    else:
        _refuse_too_late(changed, begun.options)
    kept = {name: begun.facts[name] for name in OF_THE_START}
    return progress, {**facts, **kept, "changes": changes}


def _refuse_too_late(changed: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise ReconvergeError for an option that would tell of a finished run what it was not."""
    for name in sorted(changed.keys() & before.keys() - {"env", "evaluation.slots"}):
        raise ReconvergeError(
            f"{name}={changed[name]}: all tasks are learned, with {before[name]}; give {name}="
            f"{before[name]}, or further tasks (env=) or more updates (updates_per_task=) too"
        )


def _moved(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of hardware and versions decides a result and is not as the run last had it."""
    hardware = now["hardware"]
    on_gpu = hardware.get("device") == "cuda"  # whose random numbers depend on the model of GPU
    names = ("device", "precision", "gpu") if on_gpu else ("device", "precision")
    here = {f"hardware.{name}": hardware.get(name) for name in names}
    here |= {f"versions.{name}": version for name, version in now["versions"].items()}
    last = {}
    for name in here:
        part, _, key = name.partition(".")
        last[name] = before[part].get(key)
    for change in before["changes"]:
        last |= {name: value for name, value in change["options"].items() if name in here}
    return {name: value for name, value in here.items() if value != last[name]}


def _reopen(progress: Progress, before: int, updates: int, probing: Probing) -> None:
    """Go back to before the last task's evaluation, so that it is learned on for more updates."""
    progress.task, progress.update = progress.task - 1, before
    progress.successes.pop()
    progress.probes = [
        probe
        for probe in progress.probes
        if (probe.while_learning, probe.update) != (progress.task, before)
        or probe.task in probing.due(progress.task, before, updates)
    ]
    progress.distances = [
        distance
        for distance in progress.distances
        if (distance.while_learning, distance.update) != (progress.task, before)
        or (
            distance.samples == probing.rollouts
            and distance.task in probing.due(progress.task, before, updates)
        )
    ]


def _check_same(begun: Begun, spec: Any, facts: dict[str, Any]) -> None:
    same = spec.continues(begun.spec)
    if not same or any(begun.facts[name] != facts[name] for name in FIXED_FACTS):
        raise checkpoint.CheckpointError(
            f"{begun.folder}: of another architecture or method than the options of its run "
            "describe; restore both, or begin a new run"
        )
