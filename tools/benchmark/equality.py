"""Whether our episodes are metaworld's own: observation and success after every control step.

python -m tools.benchmark.equality env=cw10 episodes=1000

metaworld's environment steps beside ours, from the same start, under the same actions: the expert's
and random ones mixed, so that many episodes come to succeed and some to leave success again. With
physics=false it observes and judges the states of ours, several times as fast. The last line is one
JSON object; the exit status is 1 where something differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.catalog import task_sequence
from reconverge.envs.seeds import EVALUATION
from reconverge.envs.suites import make_simulator
from reconverge.envs.suites.suite import Simulator
from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.progress import progress_bar
from reconverge.tools.benchmark.origin import origin, publish
from reconverge.tools.benchmark.stock import StockMetaworld

AFTER_SUCCESS = 20  # control steps that an episode goes on
PACKAGES = ("mujoco", "metaworld", "scipy", "numpy", "numba")


@dataclass(frozen=True)
class EqualityOptions:
    """Compare Meta-World's episodes with metaworld's own."""

    env: list[str] = option(["cw10"], "tasks of Meta-World to compare: env=push,hammer or env=cw10")
    episodes: int = option(1000, "episodes a task", at_least=1)
    physics: bool = option(True, "metaworld steps its own physics; false: it is shown our states")


COMMAND = Command(
    "benchmark_equality", "python -m tools.benchmark.equality env=cw10", EqualityOptions
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: EqualityOptions) -> None:
    """Compare every task; print a line for each and one JSON line."""
    tasks = task_sequence(options.env)
    for task in tasks:
        if task.suite != "metaworld":
            raise ReconvergeError(
                f"env={task.name}: is a task of {task.suite}; choose tasks of Meta-World, such as "
                "env=push,hammer or env=mt50"
            )
    found = {}
    for task in tasks:
        simulator = make_simulator(task)
        found[task.name] = compare(simulator, EVALUATION[: options.episodes], options.physics)
        print(task.name, found[task.name], flush=True)
    publish({"tasks": found, **origin(PACKAGES)})
    if any(row["other_success"] or row["other_observation"] for row in found.values()):
        raise SystemExit(1)


class OwnStep:
    """metaworld's environment with its own physics."""

    def __init__(self, simulator: Simulator, seeds: range):
        self._stock = StockMetaworld(simulator.task, seeds)

    def start(self, episode: Any, seed: int) -> None:
        self._stock.start(seed)

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        return self._stock.advance(action)


class OurState:
    """metaworld's observation and success condition of our episode's state."""

    def start(self, episode: Any, seed: int) -> None:
        self._env = episode.env

    def advance(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        space = self._env.sawyer_observation_space
        observation = np.clip(self._env._get_obs(), space.low, space.high)
        return observation, bool(self._env.evaluate_state(observation, action)[1]["success"])


def compare(simulator: Simulator, seeds: range, physics: bool = True) -> dict[str, int]:
    """Count episodes, those that succeeded, control steps, those in success, and those after which
    success or a bit of the observation differs from metaworld's.
    """
    theirs = OwnStep(simulator, seeds) if physics else OurState()
    counts = np.zeros(5, np.int64)
    for seed in progress_bar(simulator.task.name, "episode", over=seeds):
        counts += _compare_episode(simulator, theirs, seed)
    names = ("succeeded", "steps", "in_success", "other_success", "other_observation")
    return {"episodes": len(seeds), **dict(zip(names, counts.tolist(), strict=True))}


def _compare_episode(simulator: Simulator, theirs: OwnStep | OurState, seed: int) -> np.ndarray:
    task, rng = simulator.task, np.random.default_rng([seed, 3])
    share = rng.uniform(0.0, 0.5)  # of random actions
    episode, expert = simulator.new_episode(), task.expert(simulator.landmarks)
    simulator.reset(episode, seed)
    theirs.start(episode, seed)
    successes: list[bool] = []
    other_success = other_observation = 0
    while len(successes) < task.max_steps and sum(successes) < AFTER_SUCCESS:
        action = rng.uniform(-1.0, 1.0, task.action_size)
        if rng.random() >= share:
            action = expert.act(task.split(simulator.observe([episode])[0]))
        simulator.step(episode, action)
        observation, success = theirs.advance(action)
        successes.append(episode.success)
        other_success += successes[-1] != success
        other_observation += episode.observation.tobytes() != observation.tobytes()
    counts = any(successes), len(successes), sum(successes), other_success, other_observation
    return np.array(counts, np.int64)


if __name__ == "__main__":
    main()
