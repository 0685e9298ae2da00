"""How fast episodes are simulated: ours against the stock environments and against `mj_step` alone.

python -m tools.benchmark.simulation env=lift,can,square

Everything is measured in turns, in one process, on the same states and actions: those of expert
episodes. The last line is one JSON object; ratios are medians over the turns.
"""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy comes: the stock environments' best

import mujoco
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from rich.console import Console
from rich.table import Table

from reconverge.configs import commandline
from reconverge.configs.store import Command
from reconverge.envs.catalog import task_sequence
from reconverge.envs.rollout import rollout
from reconverge.envs.seeds import EVALUATION
from reconverge.envs.task import Task
from reconverge.envs.vector import VectorEnv
from reconverge.envs.workers import MOST_WORKERS, available_cores
from reconverge.options import option
from reconverge.paths import json_output
from reconverge.policy.demonstrations.scripted import NoisyExpert
from reconverge.progress import progress_bar
from reconverge.tools.benchmark.origin import origin, publish, ratio
from reconverge.tools.benchmark.stock import STOCK, make_stock

TRACES = 3  # expert episodes whose states and actions are stepped
SLOTS = 48  # episodes that run at the same time in ours
CHUNK = 2  # control steps in a call of ours: as many as policies execute by default
RESETS, HARD_RESETS = 20, 1
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
RATIOS = (
    "speedup_per_core",
    "scaling",
    "fraction_of_limit",
    "reset_speedup",
    "soft_reset_speedup",
    "evaluation_speedup",
)
WARM = EVALUATION[-TRACES - 1]  # an episode that is begun before the clock
PACKAGES = ("mujoco", "robosuite", "metaworld", "gymnasium", "numba", "numpy")


@dataclass
class Trace:
    """An expert's episode: the action and the state before each control step, and the model that it
    ran in.
    """

    seed: int
    model: mujoco.MjModel
    actions: np.ndarray  # [T, Da]
    states: np.ndarray  # [T, S]
    controls: np.ndarray  # [T, nu] actuator commands at the end of the step


@dataclass(frozen=True)
class SimulationOptions:
    """Measure the speed of simulation."""

    env: list[str] = option(["lift", "can", "square"], "tasks to measure: env=lift,can or env=cw10")
    rounds: int = option(7, "turns in which everything is measured once", at_least=1)
    episodes: int = option(50, "expert episodes of an evaluation", at_least=1)
    workers: int | None = option(
        None,
        "simulation threads, and processes of the stock evaluation (default: all cores)",
        at_least=1,
        at_most=MOST_WORKERS,
    )
    output: str | None = option(None, "JSON file for the results", text="path")


COMMAND = Command(
    "benchmark_simulation",
    "python -m tools.benchmark.simulation env=lift,can,square",
    SimulationOptions,
)


def main() -> None:
    commandline.run(COMMAND, run)


def run(options: SimulationOptions) -> dict[str, Any]:
    """Measure every task, print a table and one JSON line."""
    output = json_output(options.output)
    workers = min(options.workers or available_cores(), options.episodes)
    tasks = task_sequence(options.env)
    measured = {
        task.name: measure(task, options.rounds, options.episodes, workers) for task in tasks
    }
    _print(measured)
    report = {
        "tasks": measured,
        "rounds": options.rounds,
        "episodes": options.episodes,
        "workers": workers,
        **origin(PACKAGES),
    }
    publish(report, output)
    return report


def measure(task: Task, rounds: int, episodes: int, workers: int) -> dict[str, float]:
    """Medians over the turns: control steps a second, resets a second, seconds of an evaluation,
    and ratios.
    """
    with (
        VectorEnv(task, SLOTS, 1) as one,
        VectorEnv(task, SLOTS, workers) as all_cores,
        VectorEnv(task, episodes, workers) as evaluated,
    ):
        traces = [_trace(one, seed) for seed in EVALUATION[-TRACES:]]
        stock = STOCK[task.suite](task)
        hard = stock if task.suite == "metaworld" else STOCK[task.suite](task, hard=True)
        fresh = count()  # a seed seen before would be a cheaper reset
        measures: dict[str, Callable[[], float]] = {
            "stock": partial(_step_stock, stock, traces),
            "ours": partial(_step_ours, one, traces),
            "ours_all_cores": partial(_step_ours, all_cores, traces),
            "limit": partial(_step_physics, traces, one.simulator.fingerprint["substeps"]),
            "resets_stock": partial(_reset_stock, stock, RESETS),
            "resets_stock_hard": partial(_reset_stock, hard, HARD_RESETS),
            "resets_ours": partial(_reset_ours, one, fresh),
        }
        found: dict[str, list[float]] = {name: [] for name in measures}
        for turn in progress_bar(f"{task.name}: steps and resets", "round", over=range(rounds + 1)):
            for name, timed in measures.items():
                rate = timed()
                if turn:  # the first turn warms up
                    found[name].append(rate)
        verdicts, evaluations = _evaluate(task, evaluated, episodes, workers, rounds=min(3, rounds))
    return {
        **{
            f"{name}_per_second": round(statistics.median(rates), 1)
            for name, rates in found.items()
        },
        **{
            f"evaluation_{name}_s": round(statistics.median(s), 2)
            for name, s in evaluations.items()
        },
        "speedup_per_core": ratio(found["ours"], found["stock"]),
        "scaling": ratio(found["ours_all_cores"], found["ours"]),
        "fraction_of_limit": ratio(found["ours"], found["limit"]),
        "reset_speedup": ratio(found["resets_ours"], found["resets_stock_hard"]),
        "soft_reset_speedup": ratio(found["resets_ours"], found["resets_stock"]),
        "evaluation_speedup": ratio(evaluations["stock"], evaluations["ours"]),
        "same_verdicts": verdicts,
    }


def _trace(env: VectorEnv, seed: int) -> Trace:
    task, simulator, episode = env.task, env.simulator, env.simulator.new_episode()
    expert = task.expert(simulator.landmarks)
    simulator.reset(episode, seed)
    model = copy.copy(episode.env.model) if task.suite == "metaworld" else simulator.model
    actions, states, controls = [], [], []
    for _ in range(task.max_steps):
        states.append(np.empty(mujoco.mj_stateSize(model, STATE)))
        mujoco.mj_getState(model, episode.data, states[-1], STATE)
        actions.append(expert.act(task.split(simulator.observe([episode])[0])))
        simulator.step(episode, actions[-1])
        controls.append(episode.data.ctrl.copy())
        if simulator.success(episode):
            break
    return Trace(seed, model, np.array(actions), np.array(states), np.array(controls))


# Rates: control steps or resets a second.


def _step_stock(env, traces: list[Trace]) -> float:
    spent = 0.0
    for trace in traces:
        env.start(trace.seed)
        begun = time.perf_counter()
        for action in trace.actions:
            env.advance(action)
        spent += time.perf_counter() - begun
    return sum(len(trace.actions) for trace in traces) / spent


def _step_ours(env: VectorEnv, traces: list[Trace]) -> float:
    """Observations and success included, every slot on one of the traces."""
    chosen = [traces[slot % len(traces)] for slot in range(len(env))]
    env.reset(range(len(env)), [trace.seed for trace in chosen])
    spent, steps = 0.0, 0
    for step in range(0, max(len(trace.actions) for trace in traces), CHUNK):
        slots = [slot for slot, trace in enumerate(chosen) if step + CHUNK <= len(trace.actions)]
        if not slots:
            break
        chunks = np.stack([chosen[slot].actions[step : step + CHUNK] for slot in slots])
        begun = time.perf_counter()
        done = env.advance(slots, chunks)
        spent += time.perf_counter() - begun
        steps += int(done.steps.sum())
    return steps / spent


def _step_physics(traces: list[Trace], substeps: int) -> float:
    """`mj_step` alone, from the same states under the same commands."""
    spent = 0.0
    for trace in traces:
        data = mujoco.MjData(trace.model)
        for state, control in zip(trace.states, trace.controls, strict=True):
            mujoco.mj_setState(trace.model, data, state, STATE)
            data.ctrl[:] = control
            begun = time.perf_counter()
            mujoco.mj_step(trace.model, data, nstep=substeps)
            spent += time.perf_counter() - begun
    return sum(len(trace.actions) for trace in traces) / spent


def _reset_stock(env, resets: int) -> float:
    begun = time.perf_counter()
    for i in range(resets):
        env.start(EVALUATION[i])
    return resets / (time.perf_counter() - begun)


def _reset_ours(env: VectorEnv, fresh: Iterator[int]) -> float:
    begun = time.perf_counter()
    for _ in range(RESETS):
        env.reset([0], [EVALUATION[next(fresh)]])
    return RESETS / (time.perf_counter() - begun)


# Whole evaluations.


def _evaluate(
    task: Task, env: VectorEnv, episodes: int, workers: int, rounds: int
) -> tuple[float, dict[str, list[float]]]:
    """Share of equal verdicts, and seconds of each turn's evaluation, without the making of the
    environments.
    """
    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    agreed = []
    for turn in progress_bar(f"{task.name}: evaluations", "round", over=range(rounds)):
        seeds = EVALUATION[turn * episodes : (turn + 1) * episodes]
        shares = [seeds[i::workers] for i in range(workers)]
        stock = AsyncVectorEnv(
            [partial(make_stock, task, [WARM, *share]) for share in shares],
            context="spawn",
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        stock.reset()
        stock.step(np.zeros((workers, task.action_size)))
        begun = time.perf_counter()
        expected = _stock_verdicts(task, stock, shares, NoisyExpert(env, 0.0))
        seconds["stock"].append(time.perf_counter() - begun)
        stock.close()
        begun = time.perf_counter()
        found = rollout(env, NoisyExpert(env, 0.0), seeds)
        seconds["ours"].append(time.perf_counter() - begun)
        agreed += [result.success == expected[result.seed] for result in found]
    return round(statistics.fmean(agreed), 4), seconds


def _stock_verdicts(
    task: Task, stock: AsyncVectorEnv, shares: list[range], expert: NoisyExpert
) -> dict[int, bool]:
    """Success by seed."""
    running = [0] * len(shares)
    verdicts: dict[int, bool] = {}
    observations, _ = stock.reset()
    for slot, share in enumerate(shares):
        expert.begin(slot, share[0])
    while len(verdicts) < sum(len(share) for share in shares):
        actions = expert.act(range(len(shares)), observations[:, None])[:, 0]
        observations, _, success, truncated, _ = stock.step(actions)
        for slot in np.flatnonzero(success | truncated):
            verdicts[shares[slot][running[slot]]] = bool(success[slot])
            running[slot] += 1
            expert.begin(slot, 0)
    return verdicts


def _print(measured: dict[str, dict[str, float]]) -> None:
    rates = ("stock", "ours", "ours_all_cores", "limit", "resets_stock", "resets_ours")
    for title, columns, form in (
        ("control steps and resets a second", [f"{name}_per_second" for name in rates], ".0f"),
        ("ratios", [*RATIOS, "same_verdicts"], ".2f"),
    ):
        table = Table(title=title)
        for column in ("task", *columns):
            table.add_column(
                column.removesuffix("_per_second").replace("_", " "),
                justify="left" if column == "task" else "right",
            )
        for name, row in measured.items():
            table.add_row(name, *(f"{row[column]:{form}}" for column in columns))
        Console().print(table)


if __name__ == "__main__":
    main()
