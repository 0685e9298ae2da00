"""Success rate of a checkpoint in the simulator: `python -m policy.evaluate checkpoint=runs/<name> env=lift`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from configs import commandline
from envs.rollout import Rollout, rollout
from envs.seeds import DEMONSTRATION
from envs.tasks import Task, task_sequence
from envs.vector import VectorEnv
from policy.agent import PolicyActor
from policy.choices import unknown
from policy.files import write_json
from policy.loading import find_checkpoint, load_policy, tasks_of
from policy.metrics import wilson


def main() -> None:
    commandline.run("evaluate", run)


def run(config: DictConfig) -> dict[str, Any]:
    """Evaluate on every task, print a table and return what `output=` gets."""
    if config.n_rollouts < 1 or config.slots < 1:
        raise ValueError(f"n_rollouts={config.n_rollouts}, slots={config.slots}: must be at least 1")
    if config.seed in DEMONSTRATION:
        raise ValueError(f"seed={config.seed} starts demonstrations; evaluate from {DEMONSTRATION.stop} on")
    if config.checkpoint is None:
        raise ValueError("checkpoint= is missing; give runs/<name> or a folder in its checkpoints/")
    checkpoint = find_checkpoint(config.checkpoint)
    policy, spec = load_policy(checkpoint, config.device)
    known = tasks_of(checkpoint, spec)
    tasks = task_sequence(list(config.env) or known)
    for task in tasks:
        if task.label not in known:
            raise unknown("task of this checkpoint", task.label, known)
    seeds = range(config.seed, config.seed + config.n_rollouts)
    results = {
        task.label: _evaluate(
            task, spec.input_frame(task.label), PolicyActor(policy, spec.tasks.index(task.label)), seeds, config
        )
        for task in tasks
    }
    report = {name: _report(rollouts) for name, rollouts in results.items()}
    Console().print(_table(str(checkpoint), report))
    value = {"checkpoint": str(checkpoint), "seeds": [seeds.start, seeds.stop], "tasks": report}
    if config.output:
        write_json(Path(config.output), value)
    return value


def _evaluate(task: Task, frame: str, actor: PolicyActor, seeds: range, config: DictConfig) -> list[Rollout]:
    with (
        VectorEnv(task, min(config.slots, len(seeds)), config.workers, input_frame=frame) as env,
        tqdm(total=len(seeds), desc=task.label, unit="episode") as bar,
    ):
        return rollout(env, actor, seeds, lambda _: bar.update())


def _report(rollouts: list[Rollout]) -> dict[str, Any]:
    solved = [r.steps for r in rollouts if r.success]
    return {
        "success": len(solved) / len(rollouts),
        "success_ci95": list(wilson(len(solved), len(rollouts))),
        "n_rollouts": len(rollouts),
        "mean_steps_of_successes": sum(solved) / len(solved) if solved else None,
        "diverged": sum(r.diverged for r in rollouts),
    }


def _table(title: str, report: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title)
    for column in ("task", "success %", "95 % interval", "rollouts", "steps", "diverged"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for name, entry in report.items():
        low, high = entry["success_ci95"]
        steps = entry["mean_steps_of_successes"]
        table.add_row(
            name,
            f"{100 * entry['success']:.1f}",
            f"{100 * low:.0f} to {100 * high:.0f}",
            str(entry["n_rollouts"]),
            "-" if steps is None else f"{steps:.0f}",
            str(entry["diverged"]),
        )
    return table


if __name__ == "__main__":
    main()
