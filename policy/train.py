"""Learn tasks one after another: `python -m policy.train env=lift,can,square`. Wiring only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from configs import commandline
from datasets.store import DemonstrationStore
from envs.evaluator import Evaluator
from envs.tasks import Task
from envs.vector import SimulationError
from policy import checkpoint
from policy.agent import DiffusionPolicy, PolicyActor
from policy.assembly import make_parts, make_replay, make_spec, make_windows, require_parts
from policy.files import write_text
from policy.loading import PolicySpec, describe, find_device, make_normalizer, make_policy
from policy.methods import build_method
from policy.options import check, deciding, seed_range
from policy.record import RunRecord, commit, hardware
from policy.replay import GeneratedReplay
from policy.training import Evaluate, JointWindows, LoopSettings, Progress, TaskWindows, train
from tools.collect import collect_with_bar
from tools.illustrate import illustrate
from tools.playback import input_frames, require_fit, warn_unless_it_plays
from tools.report.page import write_report

PACKAGES = (
    "torch", "mujoco", "robosuite", "metaworld", "robomimic", "gymnasium", "zarr", "numpy", "numba", "reconverge",
)  # fmt: skip
ANYWHERE = (
    "name", "sweep", "resume", "device", "workers", "checkpoint_every", "report", "logger", "demonstrations.path",
)  # fmt: skip
"""Options that may differ when a sweep goes on."""


def main() -> None:
    commandline.run("train", run)


def run(config: DictConfig) -> dict[str, Any]:
    """One run in hydra's run directory, or the rest of the one that `resume=` names."""
    started = time.perf_counter()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if config.resume:
        config = commandline.load_yaml(Path(config.resume) / "config.yaml")
    elif (folder / "config.yaml").exists():
        config = _same_run(config, folder)
        if (folder / "summary.json").exists():
            tqdm.write(f"{folder} is finished")
            return json.loads((folder / "summary.json").read_text())
    tasks = check(config)
    require_parts(config, tasks)
    device = find_device(config.device)
    if not (folder / "config.yaml").exists():
        _write_config(config, folder / "config.yaml")
    try:
        stores = [demonstrations(config, task) for task in tasks]
        collected = time.perf_counter() - started
        progress, record, illustrate_run = _learn(config, folder, tasks, stores, device, collected)
    except (KeyboardInterrupt, FloatingPointError, OSError, SimulationError) as stop:
        # All randomness is keyed, so a loss that is not finite comes again at the same update.
        lower = f"lower optimizer.learning_rate in {folder / 'config.yaml'}, then "
        first = lower if isinstance(stop, FloatingPointError) else ""
        tqdm.write(f"stopped; {first}continue with: python -m policy.train resume={folder}")
        raise
    seconds = {
        "demonstrations": progress.demonstration_seconds,
        "training": progress.training_seconds,
        "evaluation": progress.evaluation_seconds,
    }
    # A resumed run did part of its work in other processes.
    seconds["total"] = max(time.perf_counter() - started, sum(seconds.values()))
    seconds["training_cpu"] = progress.cpu_seconds
    summary = record.finish(progress, {name: round(value, 1) for name, value in seconds.items()})
    if config.report:
        illustrate_run()
        write_report([folder], folder / "report.html")
        tqdm.write(f"see {folder / 'report.html'}")
    return summary


def _same_run(config: DictConfig, folder: Path) -> DictConfig:
    """The configuration of the run in `folder`, which a sweep that is typed again goes on with.

    ValueError where it is another run, or this is no sweep. Options of ANYWHERE are as typed now.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        raise ValueError(f"{folder} holds a run already; continue it with resume={folder}, or choose another name=")
    begun = commandline.load_yaml(folder / "config.yaml")
    for name in commandline.option_names(config):
        was, asked = OmegaConf.select(begun, name), OmegaConf.select(config, name)
        if name not in ANYWHERE and not isinstance(asked, DictConfig) and was != asked:
            raise ValueError(f"{folder} holds a run with {name}={was}, not {asked}; choose another sweep=")
        if name in ANYWHERE:
            OmegaConf.update(begun, name, asked)
    return begun


def _learn(
    config: DictConfig,
    folder: Path,
    tasks: list[Task],
    stores: list[DemonstrationStore],
    device: torch.device,
    collected: float,
) -> tuple[Progress, RunRecord, Callable[[], None]]:
    """Put the run together and learn what is left of it; the last of three adds what only its report shows."""
    torch.manual_seed(config.seed)
    normalizer = make_normalizer([(task.low, task.high) for task in tasks]).to(device)
    spec = make_spec(config, tasks, input_frames(tasks, stores))
    windows = [make_windows(config, spec, store, i, device) for i, store in enumerate(stores)]
    evaluator = Evaluator(tasks, config.evaluation.slots, config.workers, spec.input_frames)
    replay = make_replay(config, spec, normalizer, windows, evaluator)
    everything = partial(_joint, windows)
    method = build_method(config.method.name, make_parts(config, make_policy(spec, normalizer), replay, everything))
    facts = _facts(config, spec, method, brought(config, tasks, stores))
    progress, state, facts = _resume(folder, spec, facts, collected)
    record = RunRecord(
        folder,
        spec.tasks,
        config.updates_per_task,
        lambda: method.policy.state_dict(),
        {"policy": describe(spec), "facts": facts},
        facts,
        progress,
        config.get("logger", "none"),
    )
    settings = LoopSettings(
        config.updates_per_task, config.batch_size, config.checkpoint_every, config.seed,
        config.evaluation.probe_tasks,
    )  # fmt: skip
    seeds, probes = seed_range(config.evaluation.seeds), config.evaluation.probe_rollouts
    evaluate = _success(evaluator, seeds[: config.evaluation.n_rollouts], progress)
    probe = _success(evaluator, seeds[:probes], progress) if probes else None
    try:
        for i, store in enumerate(stores):
            warn_unless_it_plays(store, partial(evaluator.env, i))
        train(method, windows, evaluate, probe, record, settings, progress, state)
    except BaseException:
        record.close()
        raise
    finally:
        evaluator.close()
    model = replay.generator if isinstance(replay, GeneratedReplay) and method.uses_replay else None
    sources = [lambda read=read: read().windows for read in windows]
    return (
        progress,
        record,
        partial(illustrate, folder, tasks, method.policy_of, seeds[:1], model, sources, spec.input_frames),
    )


def _success(evaluator: Evaluator, seeds: range, progress: Progress) -> Evaluate:
    """Success of a policy on a task in the episodes of `seeds`."""

    def evaluate(policy: DiffusionPolicy, task: int) -> list[bool]:
        results = evaluator.rollouts(PolicyActor(policy, task), task, seeds)
        progress.diverged += sum(result.diverged for result in results)
        return [result.success for result in results]

    return evaluate


def demonstrations(config: DictConfig, task: Task) -> DemonstrationStore:
    """The task's store: collected where it is missing, or one brought from elsewhere as it is."""
    settings = config.demonstrations
    path = Path(settings.path) / f"{task.name}.zarr"
    if path.exists() and "expert" not in (store := DemonstrationStore.open(path)).attributes:
        require_fit(store, task)
        return store
    return collect_with_bar(
        task, Path(settings.path), episodes=settings.episodes, noise=settings.noise, workers=config.workers
    )


def brought(config: DictConfig, tasks: list[Task], stores: list[DemonstrationStore]) -> dict[str, int]:
    """Episodes taken of each store that no expert of ours made."""
    taken = {}
    for task, store in zip(tasks, stores, strict=True):
        if "expert" not in store.attributes:
            taken[task.name] = min(len(store), config.demonstrations.episodes)
            tqdm.write(f"{task.name}: {taken[task.name]} of the {len(store)} demonstrations brought from elsewhere")
    return taken


def _write_config(config: DictConfig, path: Path) -> None:
    """The resolved configuration, with paths that hold from any directory."""
    config = config.copy()
    config.demonstrations.path = str(Path(config.demonstrations.path).absolute())
    write_text(path, OmegaConf.to_yaml(config, resolve=True))


def _joint(windows: list[Callable[[], TaskWindows]]) -> JointWindows:
    return JointWindows([read() for read in windows])


def _resume(
    folder: Path, spec: PolicySpec, facts: dict[str, Any], collected: float
) -> tuple[Progress, dict[str, torch.Tensor] | None, dict[str, Any]]:
    """What the run in `folder` had reached and how it began; a fresh start where it had saved nothing."""
    newest = checkpoint.newest(folder / "checkpoints")
    if newest is None:
        return Progress(demonstration_seconds=collected), None, facts
    found = checkpoint.load(newest)
    begun = found.manifest["facts"]
    same = ("method", "replay", "fisher", "seed", "updates_per_task")
    if PolicySpec(**found.manifest["policy"]) != spec or any(begun[name] != facts[name] for name in same):
        raise checkpoint.CheckpointError(
            f"{newest}: of another architecture or method than {folder / 'config.yaml'} describes; restore that file"
        )
    return Progress(**found.manifest["progress"]), found.state, begun


def _facts(config: DictConfig, spec: PolicySpec, method, taken: dict[str, int]) -> dict[str, Any]:
    options = deciding(config)
    if taken:
        options["demonstrations"]["brought"] = taken
    return {
        "method": config.method.name,
        "replay": config.replay.source if method.uses_replay else "none",
        "fisher": config.fisher.name if method.uses_fisher else "none",
        "network": spec.network["name"],
        "seed": config.seed,
        "updates_per_task": config.updates_per_task,
        "evaluation_seeds": config.evaluation.seeds,
        "options": options,
        "parameters": sum(p.numel() for p in method.policy.network.parameters()),
        "command": " ".join(["python -m policy.train", *sys.argv[1:]]),
        "versions": {name: version(name) for name in PACKAGES} | {"commit": commit()},
        "hardware": hardware() | {"device": method.policy.normalizer.low.device.type},
    }


if __name__ == "__main__":
    main()
