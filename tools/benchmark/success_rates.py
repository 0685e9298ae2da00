"""How many starts the scripted experts solve, with the noise of demonstrations and without.

python -m tools.benchmark.success_rates env=mt50 episodes=30 output=experts.json

Episodes are the first demonstration seeds, as `collect` records them, or those from `first` on: no
expert was tuned on seeds from 500000 on. The last line is one JSON object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.catalog import task_sequence
from reconverge.envs.rollout import rollout
from reconverge.envs.seeds import DEMONSTRATION
from reconverge.envs.vector import VectorEnv
from reconverge.envs.workers import MOST_WORKERS
from reconverge.options import option
from reconverge.paths import json_output
from reconverge.policy.demonstrations.scripted import SLOTS, NoisyExpert
from reconverge.tools.benchmark.origin import origin, publish

PACKAGES = ("mujoco", "robosuite", "metaworld", "numba", "numpy")


@dataclass(frozen=True)
class ExpertsOptions:
    """Measure the success of scripted experts."""

    env: list[str] = option(["mt50"], "tasks to measure: env=push,hammer or env=mt50")
    episodes: int = option(30, "episodes a task and noise", at_least=1, at_most=len(DEMONSTRATION))
    first: int = option(0, "first demonstration seed", at_least=0, at_most=len(DEMONSTRATION) - 1)
    noise: float = option(0.2, "noise beside none, as in collect", at_least=0, at_most=1)
    workers: int | None = option(
        None, "simulation threads (default: all cores)", at_least=1, at_most=MOST_WORKERS
    )
    output: str | None = option(None, "JSON file for the results", text="path")


COMMAND = Command(
    "benchmark_success_rates", "python -m tools.benchmark.success_rates env=mt50", ExpertsOptions
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: ExpertsOptions) -> None:
    """Measure every task; print a line for each and one JSON line."""
    output = json_output(options.output)
    seeds = DEMONSTRATION[options.first :][: options.episodes]
    found = {}
    for task in task_sequence(options.env):
        with VectorEnv(task, min(SLOTS, options.episodes), options.workers) as env:
            found[task.label] = measure(env, options.noise, seeds)
        print(task.label, found[task.label], flush=True)
    report = {
        "tasks": found,
        "episodes": len(seeds),
        "first": options.first,
        "noise": options.noise,
        **origin(PACKAGES),
    }
    publish(report, output)


def measure(env: VectorEnv, noise: float, seeds: range) -> dict[str, Any]:
    """Return the number of episodes that are solved without noise and with it, the seeds of the
    others, and the control steps of a solved one, in the middle and at most (None if none is).
    """
    clean, noisy = (rollout(env, NoisyExpert(env, sigma), seeds) for sigma in (0.0, noise))
    steps = [result.steps for result in noisy if result.success]
    return {
        "solved": sum(result.success for result in clean),
        "solved_with_noise": len(steps),
        "failed": [result.seed for result in clean if not result.success],
        "failed_with_noise": [result.seed for result in noisy if not result.success],
        "median_steps": float(np.median(steps)) if steps else None,
        "most_steps": max(steps, default=None),
    }


if __name__ == "__main__":
    main()
