"""Record demonstrations of scripted experts: `python -m tools.collect env=lift,can,square
episodes=200`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.cameras import LARGEST, SMALLEST, View
from reconverge.envs.catalog import TASKS_MEANING, task_sequence
from reconverge.envs.seeds import DEMONSTRATION
from reconverge.envs.task import require_experts
from reconverge.envs.workers import MOST_WORKERS
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.paths import check_output
from reconverge.policy.demonstrations.scripted import collect_with_bar


@dataclass(frozen=True)
class CollectOptions:
    """Record demonstrations of scripted experts."""

    env: list[str] = option(["lift", "can", "square"], f"tasks to record, {TASKS_MEANING}")
    path: str = option("demonstrations", "folder of the stores, one <task>.zarr each", text="path")
    episodes: int = option(
        200, "successful episodes of each task", at_least=1, at_most=len(DEMONSTRATION)
    )
    noise: float = option(
        0.2,
        "standard deviation of the noise on the executed actions, in units of the action; the "
        "labels stay clean",
        at_least=0,
        at_most=1,
    )
    cameras: list[str] = option(
        [],
        "cameras whose pictures are recorded too, such as agentview,eye_in_hand (default: none)",
        text="free",
    )
    picture_size: int | None = option(
        None,
        f"height and width of a picture, pixels (default: {View.size})",
        at_least=SMALLEST,
        at_most=LARGEST,
    )
    workers: int | None = option(
        None, "simulation threads (default: all cores)", at_least=1, at_most=MOST_WORKERS
    )


COMMAND = Command(
    "collect", "python -m tools.collect env=lift,can,square episodes=200", CollectOptions
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: CollectOptions) -> None:
    """Record every task, then print a table of the stores."""
    tasks = task_sequence(options.env)
    require_experts(tasks, tasks)
    view = _view(options.cameras, options.picture_size)
    check_output(Path(options.path), "path", folder=True)
    table = Table(title=f"demonstrations in {escape(options.path)}")
    for column in ("task", "episodes", "mean steps", "thrown away %"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in tasks:
        store = collect_with_bar(
            task,
            Path(options.path),
            episodes=options.episodes,
            noise=options.noise,
            workers=options.workers,
            view=view,
        )
        discarded = f"{100 * store.attributes['discarded']:.1f}"
        table.add_row(task.name, str(len(store)), f"{store.n_steps / len(store):.0f}", discarded)
    Console().print(table)


def _view(cameras: list[str], size: int | None) -> View | None:
    if cameras:
        return View(tuple(cameras), View.size if size is None else size)
    if size is not None:
        raise ReconvergeError(
            f"picture_size={size}: nothing is pictured without cameras; "
            "give cameras=agentview,eye_in_hand too"
        )
    return None


if __name__ == "__main__":
    main()
