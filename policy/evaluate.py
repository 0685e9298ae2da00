"""Success rate of a policy: `python -m policy.evaluate checkpoint=runs/<name> env=lift`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.seeds import EVALUATION
from reconverge.envs.suites import STARTS, with_starts
from reconverge.envs.workers import MOST_SLOTS, MOST_WORKERS
from reconverge.files import write_json
from reconverge.options import option
from reconverge.paths import json_output
from reconverge.policy.runs.evaluation import Evaluation, evaluate
from reconverge.policy.runs.loading import load_policy
from reconverge.progress import progress_bar


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure success of a policy."""

    env: list[str] = option(
        [], "tasks to evaluate: env=lift,can (default: all of the run, learned yet or not)"
    )
    checkpoint: str | None = option(
        None, "folder of a run (its newest checkpoint) or of one checkpoint in it", text="path"
    )
    n_rollouts: int = option(50, "episodes of each task", at_least=1, at_most=len(EVALUATION))
    seed: int = option(
        EVALUATION.start,
        f"seed of the first episode; later ones count up; evaluation starts at {EVALUATION.start}",
        at_least=0,
    )
    starts: str = option(
        "seeds",
        "where episodes start: seeds: as the seed draws it | official: LIBERO's own initial state "
        "number `seed` of 50, counted on from the first again",
        choices=STARTS,
    )
    slots: int = option(50, "episodes that run at the same time", at_least=1, at_most=MOST_SLOTS)
    workers: int | None = option(
        None, "simulation threads (default: all cores)", at_least=1, at_most=MOST_WORKERS
    )
    device: str = option("cpu", "device of the policy: cpu | cuda | auto", text="free")
    output: str | None = option(None, "JSON file for the results", text="path")


COMMAND = Command(
    "evaluate",
    "python -m policy.evaluate checkpoint=runs/<name> env=lift n_rollouts=50",
    EvaluateOptions,
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: EvaluateOptions) -> dict[str, Any]:
    """Evaluate on every task, print a table and return what `output=` gets."""
    output = json_output(options.output)
    loaded = load_policy(options.checkpoint, options.device)
    tasks = [with_starts(task, options.starts) for task in loaded.select(options.env)]
    seeds = range(options.seed, options.seed + options.n_rollouts)
    with progress_bar("evaluate", "episode", len(tasks) * len(seeds)) as bar:
        results = evaluate(
            loaded, tasks, seeds, options.slots, options.workers, lambda _: bar.update()
        )
    unlearned = {task.label for task in tasks if task.index >= loaded.learned}
    Console().print(_table(escape(str(loaded.path)), results, unlearned))
    value = {
        "checkpoint": str(loaded.path),
        "seeds": [seeds.start, seeds.stop],
        "starts": options.starts,
        "tasks": {result.task: result.to_json() for result in results},
    }
    if output is not None:
        write_json(output, value)
    return value


def _table(title: str, results: list[Evaluation], unlearned: Collection[str]) -> Table:
    table = Table(title=title, caption="* not learned yet" if unlearned else None)
    for column in ("task", "success %", "95 % interval", "rollouts", "steps", "diverged"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for result in results:
        low, high = result.interval
        table.add_row(
            f"{result.task} *" if result.task in unlearned else result.task,
            f"{100 * result.success:.1f}",
            f"{100 * low:.0f} to {100 * high:.0f}",
            str(result.n_rollouts),
            "-" if result.mean_steps is None else f"{result.mean_steps:.0f}",
            str(result.diverged),
        )
    return table


if __name__ == "__main__":
    main()
