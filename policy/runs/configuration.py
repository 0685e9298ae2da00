"""Every option of a training run, as the command line and a run's config.yaml have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reconverge.configs.store import Command, load_yaml, writable
from reconverge.envs.catalog import TASKS_MEANING, task_sequence
from reconverge.envs.seeds import MEASUREMENT
from reconverge.envs.suites import SUITES
from reconverge.envs.task import Task
from reconverge.envs.workers import MOST_SLOTS, MOST_WORKERS
from reconverge.errors import ReconvergeError, unknown
from reconverge.options import check_options, option
from reconverge.policy.continual.fisher import FISHERS
from reconverge.policy.continual.loop import Probing
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.optimization import OptimizerOptions
from reconverge.policy.continual.rehearsal import BUDGET_UNITS
from reconverge.policy.demonstrations.supply import DemonstrationOptions
from reconverge.policy.model.diffusion import DiffusionOptions
from reconverge.policy.model.encoders import ENCODERS, SightOptions, make_sight
from reconverge.policy.model.networks import NETWORKS
from reconverge.policy.model.networks.mlp import MLPOptions
from reconverge.policy.model.policy import PolicyOptions
from reconverge.policy.runs.loggers import check_logger

LARGEST_BATCH, LARGEST_POOL = 1_000_000, 100_000_000  # windows
BATCH_MEANING = "replayed windows of each update"
POOL_MEANING = "windows drawn for each earlier task when a task begins"


@dataclass(frozen=True)
class GeneratorReplayOptions:
    """A diffusion model of windows, trained continually with its own replay."""

    name: str = "generator"
    batch_size: int = option(128, BATCH_MEANING, at_least=1, at_most=LARGEST_BATCH)
    pool: int = option(8000, POOL_MEANING, at_least=1, at_most=LARGEST_POOL)
    updates: int = option(1000, "updates of the generator after each task", at_least=1)
    network: MLPOptions = option(MLPOptions(width=384), "the generator's network")
    diffusion: DiffusionOptions = option(
        DiffusionOptions(num_inference_steps=50), "the generator's diffusion process"
    )
    learning_rate: float = option(2e-3, "peak of the generator's learning rate", at_least=0)


@dataclass(frozen=True)
class RolloutReplayOptions:
    """The frozen previous policy acts in the simulator; its successes are replayed."""

    name: str = "rollout"
    batch_size: int = option(128, BATCH_MEANING, at_least=1, at_most=LARGEST_BATCH)
    pool: int = option(
        8000,
        POOL_MEANING + ", from its successes in 100 episodes",
        at_least=1,
        at_most=LARGEST_POOL,
    )


@dataclass(frozen=True)
class DemonstrationReplayOptions:
    """Stored demonstrations of earlier tasks: all of them, an upper bound, or a few."""

    name: str = "demonstrations"
    batch_size: int = option(128, BATCH_MEANING, at_least=1, at_most=LARGEST_BATCH)
    pool: int = option(
        8000,
        POOL_MEANING + "; all that are kept, where the policy learns from pictures",
        at_least=1,
        at_most=LARGEST_POOL,
    )
    budget: int | None = option(
        None,
        "kept of all earlier tasks together, in whole episodes, each task an equal share "
        "(null: everything)",
        at_least=1,
    )
    budget_unit: str = option(
        "episodes",
        "what replay.budget counts: episodes | bytes: of observations and actions, float32, and "
        "of pictures that the policy learns from",
        choices=BUDGET_UNITS,
    )


@dataclass(frozen=True)
class NoReplayOptions:
    """No replay: `ewc` is trust_region without it."""

    name: str = "none"


REPLAYS: dict[str, type] = {
    "generator": GeneratorReplayOptions,
    "rollout": RolloutReplayOptions,
    "demonstrations": DemonstrationReplayOptions,
    "none": NoReplayOptions,
}
GROUPS: dict[str, Mapping[str, type]] = {
    "method": METHODS,
    "network": NETWORKS,
    "replay": REPLAYS,
    "fisher": FISHERS,
    "encoder": ENCODERS,
}
"""The choices of every group: `method=ewc` takes a row, or a preset of configs/method/."""
CHOSEN = {
    "method": "trust_region",
    "network": "mlp",
    "replay": "generator",
    "fisher": "kfac",
    "encoder": "efficientnet_lite0",
}


@dataclass(frozen=True)
class EvaluationOptions:
    """Rollouts after each task, and the recovery probes between them."""

    n_rollouts: int = option(
        50,
        "evaluation episodes of each task seen, after each task",
        at_least=1,
        at_most=min(map(len, MEASUREMENT.values())),
    )
    probe_rollouts: int = option(
        30, "episodes of each earlier task in a recovery probe (0: no probes)", at_least=0
    )
    probe_tasks: int | None = option(
        None,
        "number of tasks, the first of the sequence, whose recovery is probed "
        "(null: every earlier task)",
        at_least=1,
    )
    probe_dense: int | None = option(
        None,
        "of these, the number that is probed at 2, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, "
        "... updates, the others at 10, 50, 200, 1000, ... (null: all of them); the last update is "
        "in both",
        at_least=0,
    )
    probe_current: int = option(
        0,
        "probes of the task being learned, evenly spaced to its last update, from which forward "
        "transfer is measured (0: none)",
        at_least=0,
        at_most=10_000,
    )
    slots: int = option(50, "episodes that run at the same time", at_least=1, at_most=MOST_SLOTS)
    seeds: str = option(
        "evaluation",
        "evaluation: the reported episodes | selection: others, by which settings are chosen",
        choices=tuple(MEASUREMENT),
    )

    @property
    def probing(self) -> Probing:
        """Return what the loop needs to know of the probes."""
        return Probing(self.probe_rollouts, self.probe_tasks, self.probe_dense, self.probe_current)


@dataclass(frozen=True)
class RunOptions:
    """What every run has that learns tasks one after another, of whatever kind they are."""

    method: Any = MISSING
    network: Any = MISSING
    replay: Any = MISSING
    fisher: Any = MISSING

    seed: int = option(
        0, "fixes the initial weights, the batches and the noise", at_least=0, at_most=2**63 - 1
    )
    updates_per_task: int = option(2000, "gradient updates on each task", at_least=1)
    batch_size: int = option(
        128, "windows of the current task in each update", at_least=1, at_most=LARGEST_BATCH
    )
    resume: str | None = option(
        None,
        "run directory to continue, also with further tasks (env=) or updates; options that are "
        "not typed are as it recorded them",
        text="path",
    )
    name: str = option(
        "${moment:}_${method.name}_seed${seed}",
        "name of the run directory under runs/",
        text="folder",
    )
    sweep: str = option(
        "sweep",
        "name of the directory under runs/ for several runs (-m); repeating the command continues "
        "that sweep",
        text="folder",
    )
    diffusion: DiffusionOptions = option(DiffusionOptions(), "the policy's diffusion process")
    optimizer: OptimizerOptions = option(OptimizerOptions(), "the policy's optimiser, AdamW")
    evaluation: EvaluationOptions = option(EvaluationOptions(), "how success is measured")
    checkpoint_every: int = option(500, "updates between checkpoints within a task", at_least=1)
    report: bool = option(
        True,
        "true: end with a film of each task, the replay's quality and report.html, a page with "
        "everything about the run",
    )
    logger: str = option(
        "none",
        "logger beside TensorBoard: none | wandb (offline unless WANDB_MODE=online) | trackio "
        "(local); pip install -e '.[wandb]' or '.[trackio]'",
        text="free",
    )
    device: str = option("auto", "device of training: cpu | cuda | auto", text="free")


@dataclass(frozen=True)
class TrainOptions(RunOptions, PolicyOptions, SightOptions):
    """Learn tasks one after another."""

    encoder: Any = MISSING

    env: list[str] = option(
        ["lift", "can", "square"],
        f"tasks in the order of learning, {TASKS_MEANING}",
    )
    boundaries: str = option(
        "told",
        "told: the method hears when a task begins, and its updates | detected: it has to notice",
        choices=("told", "detected"),
    )
    room_for: str | None = option(
        None,
        "suite whose tasks may come later (resume=): the policy is made wide enough for them, too",
        choices=tuple(SUITES),
    )
    demonstrations: DemonstrationOptions = option(
        DemonstrationOptions(), "the demonstrations of each task"
    )
    workers: int | None = option(
        None, "simulation threads (default: all cores)", at_least=1, at_most=MOST_WORKERS
    )

    @property
    def policy(self) -> PolicyOptions:
        """Return the options of the policy alone."""
        return PolicyOptions.of(self)

    @property
    def seeing(self) -> dict[str, Any] | None:
        """Return what `make_sight` takes, None for a policy that is told the state."""
        if self.observations == "state":
            return None
        values = {spec.name: getattr(self, spec.name) for spec in fields(SightOptions)}
        return values | {"encoder": asdict(self.encoder)}


FREE_IN_A_SWEEP = (
    *("name", "sweep", "resume", "device", "workers", "checkpoint_every", "report", "logger"),
    *("demonstrations.path", "demonstrations.collect", "pictures"),
)
"""Options that may differ when a sweep goes on: its folders are not named by them."""

TRAIN = Command(
    name="train",
    usage="python -m policy.train env=lift,can,square",
    options=TrainOptions,
    groups=GROUPS,
    chosen=CHOSEN,
    experiments=True,
    hydra={
        "run": {"dir": "runs/${name}"},
        "sweep": {"dir": "runs/${sweep}", "subdir": "${short_name:${hydra.job.override_dirname}}"},
    },
    free_in_a_sweep=FREE_IN_A_SWEEP,
)


def task_labels(options: TrainOptions) -> list[str]:
    """Return the labels of the tasks of a run."""
    return [task.label for task in task_sequence(options.env)]


def check_train_options(options: TrainOptions) -> list[Task]:
    """Return the tasks of the run; raise ReconvergeError for values that no run can use.

    What only a policy or a method can tell is told when they are built (`runs.build`).
    """
    tasks = task_sequence(options.env)
    check_run_options(options)
    if options.seeing is None:
        return tasks
    sight = make_sight(**options.seeing)
    return [sight.of(task) for task in tasks]


def check_run_options(options: RunOptions) -> None:
    """Raise ReconvergeError for what no run of any kind can use."""
    check_options(options)
    evaluation = options.evaluation
    if evaluation.probe_rollouts > evaluation.n_rollouts:
        raise ReconvergeError(
            f"evaluation.probe_rollouts={evaluation.probe_rollouts}: must be 0 to "
            f"evaluation.n_rollouts={evaluation.n_rollouts}; give fewer, or 0 for no probes"
        )
    if evaluation.probe_current and not evaluation.probe_rollouts:
        raise ReconvergeError(
            f"evaluation.probe_current={evaluation.probe_current}: needs "
            "evaluation.probe_rollouts of at least 1"
        )
    check_logger(options.logger)


def deciding(options: TrainOptions) -> dict[str, Any]:
    """Return the options that decide the result beside the seed, as JSON for summary.json."""
    groups = ("method", "network", "replay", "fisher", "diffusion", "optimizer", "demonstrations")
    decided = {name: asdict(getattr(options, name)) for name in groups}
    del decided["demonstrations"]["path"], decided["demonstrations"]["collect"]
    single = {"batch_size": options.batch_size, "room_for": options.room_for}
    single |= {} if options.boundaries == "told" else {"boundaries": options.boundaries}
    seeing = {} if options.seeing is None else {"sight": options.seeing}
    return decided | single | seeing | asdict(options.policy)


def as_yaml(options: RunOptions) -> str:
    """Return the options as the text of a run's config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.structured(options))


def from_yaml(path: Path, command: Command = TRAIN) -> Any:
    """Read what `as_yaml` gave of a command's options; ReconvergeError where it is no run of it."""
    config = load_yaml(path)
    try:
        chosen = {name: _row(name, table, config[name]) for name, table in command.groups.items()}
        schema = writable(OmegaConf.structured(command.options(**chosen)))
        return OmegaConf.to_object(OmegaConf.merge(schema, config))
    except (KeyError, TypeError, AttributeError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ReconvergeError(f"{path}: not the options of a run ({reason}); restore it") from error


def _row(group: str, table: Mapping[str, type], values: Mapping[str, Any]) -> Any:
    if values["name"] not in table:
        raise unknown(group, values["name"], table)
    return table[values["name"]]()
