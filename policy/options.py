"""What the options of `policy.train` may be: ValueError, in one line, for values that no run can use."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from envs.seeds import CHOICES as SEEDS
from envs.tasks import Task, task_sequence
from policy.choices import unknown
from policy.fisher import Fisher, build_fisher
from policy.loggers import check_logger
from policy.methods import METHODS
from policy.optimization import OptimizerSettings
from policy.replay import REPLAYS

TARGETS = ("demonstrations", "policy")
META = ("ftml", "vr_mcl")
NOTHING_WITHOUT_REPLAY = ("replay", *META)
REPLAYING = ("trust_region", *NOTHING_WITHOUT_REPLAY)
AT_LEAST_ONE = (
    "updates_per_task", "batch_size", "checkpoint_every", "observation_steps", "action_steps", "workers",
    "demonstrations.episodes", "evaluation.n_rollouts", "evaluation.slots", "fisher.samples", "replay.updates",
    "evaluation.probe_tasks",
    "network.width", "network.depth", "replay.network.width", "replay.network.depth",
)  # fmt: skip
NOT_NEGATIVE = (
    "seed", "optimizer.learning_rate", "optimizer.warmup", "optimizer.weight_decay", "optimizer.ema_decay",
    "replay.learning_rate", "demonstrations.noise", "method.strength",
    "method.distillation_weight", "method.radius", "method.inner_rate", "method.momentum",
)  # fmt: skip


def check(config: DictConfig) -> list[Task]:
    """The tasks of the run; ValueError for values that no run can use."""
    tasks = task_sequence(list(config.env))
    if config.method.name not in METHODS:
        raise unknown("method", config.method.name, METHODS)
    if config.method.name in NOTHING_WITHOUT_REPLAY and config.replay.source == "none":
        raise ValueError(
            f"method={config.method.name} replay=none would replay nothing; choose a replay=, or method=finetune"
        )
    if config.method.name in META and min(config.batch_size, config.replay.batch_size) < 2:
        raise ValueError(
            f"method={config.method.name} halves its batches: batch_size and replay.batch_size at least 2"
        )
    if config.replay.source not in REPLAYS:
        raise unknown("replay", config.replay.source, REPLAYS)
    for names, least in ((AT_LEAST_ONE, 1), (NOT_NEGATIVE, 0)):
        for name in names:
            value = OmegaConf.select(config, name)
            if value is not None and not (isinstance(value, (int, float)) and least <= value < math.inf):
                raise ValueError(f"{name}={value}: must be a finite number of at least {least}")
    if not 0.0 <= config.method.get("momentum", 0.0) <= 1.0:
        raise ValueError(f"method.momentum={config.method.momentum}: must be 0 to 1")
    make_fisher(config)
    OptimizerSettings(**config.optimizer)
    if config.method.name == "single" and config.optimizer.get("keep_moments"):
        raise ValueError("method=single starts every task afresh: optimizer.keep_moments=true has nothing to keep")
    if config.replay.source != "none" and min(config.replay.batch_size, config.replay.pool) < 1:
        raise ValueError("replay.batch_size and replay.pool: must be at least 1; to replay nothing give replay=none")
    if config.method.name in REPLAYING and config.replay.source == "generator" and config.batch_size < len(tasks):
        raise ValueError(
            f"batch_size={config.batch_size}: the generator's batches hold every task: at least {len(tasks)}"
        )
    if not 0 <= config.evaluation.probe_rollouts <= config.evaluation.n_rollouts:
        raise ValueError(
            f"evaluation.probe_rollouts={config.evaluation.probe_rollouts}: must be 0 to evaluation.n_rollouts"
        )
    if not 0.0 <= config.demonstrations.noise <= 1.0:
        raise ValueError(f"demonstrations.noise={config.demonstrations.noise}: must be 0 to 1, in units of the action")
    seed_range(config.evaluation.seeds)
    check_logger(config.get("logger", "none"))
    if len({task.action_size for task in tasks}) > 1:
        raise ValueError("env= mixes tasks with different action sizes; choose tasks of one suite")
    return tasks


def seed_range(name: str) -> range:
    """The episodes to evaluate on."""
    if name not in SEEDS:
        raise unknown("evaluation.seeds", name, SEEDS)
    return SEEDS[name]


def make_fisher(config: DictConfig) -> Fisher:
    """ValueError for a name or an option that there is not."""
    options = {name: value for name, value in config.fisher.items() if name not in ("name", "samples", "targets")}
    targets = config.fisher.get("targets", TARGETS[0])
    if targets not in TARGETS:
        raise unknown("fisher.targets", targets, TARGETS)
    return build_fisher(config.fisher.name, **options)


def deciding(config: DictConfig) -> dict[str, Any]:
    """What decides the result beside the seed, as the configuration says it."""
    groups = ("method", "fisher", "replay", "network", "diffusion", "optimizer", "demonstrations")
    single = (
        "batch_size",
        "observation_steps",
        "action_steps",
        "executed_steps",
        "fourier_octaves",
        "task_conditioning",
    )
    options: dict[str, Any] = {name: OmegaConf.to_container(config[name], resolve=True) for name in groups}
    options["demonstrations"].pop("path")
    return options | {name: config[name] for name in single}
