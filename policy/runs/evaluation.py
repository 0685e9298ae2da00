"""Success of a loaded policy in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, SupportsIndex

from reconverge.envs.rollout import Rollout, rollout
from reconverge.envs.seeds import DEMONSTRATION
from reconverge.envs.task import Task
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.policy.runs.loading import LoadedPolicy
from reconverge.policy.runs.metrics import wilson


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a policy's rollouts on one task."""

    task: str
    n_rollouts: int
    successes: int
    mean_steps: float | None  # control steps of the successful rollouts
    diverged: int  # rollouts whose simulation failed; no successes

    @property
    def success(self) -> float:
        """Return the success rate."""
        return self.successes / self.n_rollouts

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of the success rate."""
        return wilson(self.successes, self.n_rollouts)

    def to_json(self) -> dict[str, Any]:
        """Return the rates and counts."""
        return {
            "success": self.success,
            "success_ci95": list(self.interval),
            "n_rollouts": self.n_rollouts,
            "mean_steps_of_successes": self.mean_steps,
            "diverged": self.diverged,
        }


def evaluate(
    loaded: LoadedPolicy,
    tasks: Sequence[Task],
    seeds: Iterable[SupportsIndex],
    slots: int = 50,
    workers: int | None = None,
    on_end: Callable[[Rollout], object] = lambda _: None,
) -> list[Evaluation]:
    """Run one episode a task and seed, `slots` at the same time on `workers` threads.

    `tasks` are some of `loaded.tasks`; `on_end` is told of each episode that has ended.
    ReconvergeError for other tasks, for seeds of demonstrations, which official starts are not
    drawn from, and where there are no seeds or slots.
    """
    chosen = [index(seed) for seed in seeds]
    if not chosen or slots < 1:
        raise ReconvergeError(
            f"{len(chosen)} rollouts in {slots} slots: n_rollouts and slots must be at least 1"
        )
    drawn = any(task.starts != "official" for task in tasks)
    if drawn and min(chosen) < DEMONSTRATION.stop:
        raise ReconvergeError(
            f"seed={min(chosen)}: seeds below {DEMONSTRATION.stop} are for demonstrations; "
            f"evaluate from {DEMONSTRATION.stop} on"
        )
    actors = [loaded.actor(task) for task in tasks]
    results = []
    for task, actor in zip(tasks, actors, strict=True):
        with VectorEnv(task, min(slots, len(chosen)), workers) as env:
            rollouts = rollout(env, actor, chosen, on_end)
        steps = [r.steps for r in rollouts if r.success]
        mean = sum(steps) / len(steps) if steps else None
        diverged = sum(r.diverged for r in rollouts)
        results.append(Evaluation(task.label, len(rollouts), len(steps), mean, diverged))
    return results
