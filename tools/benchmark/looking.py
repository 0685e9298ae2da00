"""How fast pictures for observations are drawn: ours against mujoco.Renderer of the whole model.

python -m tools.benchmark.looking env=lift,can,square

Everything is measured in turns, in one process, of the same episodes. The last line is one JSON
object: milliseconds of a processor for one picture, pictures a second with one worker and with all,
and ratios, which are medians over the turns.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ["MUJOCO_GL"] = "egl"  # before mujoco comes: without a display, as ours

import mujoco

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.cameras import LARGEST, SMALLEST, View
from reconverge.envs.catalog import task_sequence
from reconverge.envs.render.viewpoint import shown
from reconverge.envs.suites import SUITES
from reconverge.envs.task import Task
from reconverge.envs.vector import VectorEnv
from reconverge.envs.workers import MOST_WORKERS, available_cores
from reconverge.options import option
from reconverge.paths import json_output
from reconverge.progress import progress_bar
from reconverge.tools.benchmark.origin import origin, publish, ratio

SLOTS = 8  # episodes that are looked at in turn
PACKAGES = ("mujoco", "fast-simplification", "robosuite", "metaworld", "numpy")


@dataclass(frozen=True)
class LookingOptions:
    """Measure the speed of pictures for observations."""

    env: list[str] = option(["lift", "can", "square"], "tasks to measure: env=lift,can or env=cw10")
    cameras: list[str] = option(
        ["agentview", "eye_in_hand"], "cameras of an observation", text="free"
    )
    size: int = option(
        84, "height and width of a picture, pixels", at_least=SMALLEST, at_most=LARGEST
    )
    rounds: int = option(7, "turns in which everything is measured once", at_least=1)
    workers: int | None = option(
        None, "drawing threads (default: all cores)", at_least=1, at_most=MOST_WORKERS
    )
    output: str | None = option(None, "JSON file for the results", text="path")


COMMAND = Command(
    "benchmark_looking", "python -m tools.benchmark.looking env=lift,can,square", LookingOptions
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: LookingOptions) -> dict[str, Any]:
    """Measure every task and print one JSON line."""
    output = json_output(options.output)
    view = View(tuple(options.cameras), options.size)
    workers = min(options.workers or available_cores(), SLOTS)
    measured = {
        task.name: measure(task, view, options.rounds, workers)
        for task in task_sequence(options.env)
    }
    report = {
        "tasks": measured,
        "cameras": list(view.cameras),
        "size": view.size,
        "rounds": options.rounds,
        "workers": workers,
        **origin(PACKAGES),
    }
    publish(report, output)
    return report


def measure(task: Task, view: View, rounds: int, workers: int) -> dict[str, Any]:
    """Medians over the turns."""
    with (
        VectorEnv(task, SLOTS, 1, view=view) as one,
        VectorEnv(task, SLOTS, workers, view=view) as several,
    ):
        for env in (one, several):
            env.reset(range(SLOTS), range(SLOTS))
            env.look(range(SLOTS))
        model = one.simulator.picture_model
        model.vis.global_.offwidth = model.vis.global_.offheight = max(view.size, 640)
        with mujoco.Renderer(model, view.size, view.size) as renderer:
            measures: dict[str, Callable[[], object]] = {
                "renderer": partial(_render, renderer, one),
                "one_worker": partial(one.look, range(SLOTS)),
                "all_workers": partial(several.look, range(SLOTS)),
            }
            found = _in_turns(task.name, measures, rounds)
        facts = one.picture_facts
    pictures = SLOTS * len(view.cameras)
    processor = {name: [cpu for _, cpu in times] for name, times in found.items()}
    wall = {name: [clock for clock, _ in times] for name, times in found.items()}
    return {
        **{
            f"{name}_ms": round(1e3 * statistics.median(times) / pictures, 2)
            for name, times in processor.items()
        },
        **{
            f"{name}_per_second": round(pictures / statistics.median(times), 1)
            for name, times in wall.items()
        },
        "speedup_per_core": ratio(processor["renderer"], processor["one_worker"]),
        "scaling": ratio(wall["one_worker"], wall["all_workers"]),
        "renderer": facts["renderer"],
    }


def _in_turns(
    name: str, measures: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Return seconds of the clock and of the process's processors in every turn but the first."""
    found: dict[str, list[tuple[float, float]]] = {each: [] for each in measures}
    for turn in progress_bar(f"{name}: pictures", "round", over=range(rounds + 1)):
        for each, call in measures.items():
            clock, processor = time.perf_counter(), time.process_time()
            call()
            if turn:  # the first turn warms up
                times = time.perf_counter() - clock, time.process_time() - processor
                found[each].append(times)
    return found


def _render(renderer: mujoco.Renderer, env: VectorEnv) -> None:
    """Draw the same pictures as `look` with all that MuJoCo shows by default."""
    assert env.view is not None
    options = shown(SUITES[env.task.suite])
    for episode in env.episodes:
        data = env.simulator.picture_data(episode)
        for camera in env.view.in_suite(env.task).values():
            renderer.update_scene(data, camera, options)
            renderer.render()


if __name__ == "__main__":
    main()
