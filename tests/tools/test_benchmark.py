"""The benchmark of simulation runs and compares like with like."""

import json
import subprocess
import sys

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.seeds import EVALUATION
from reconverge.errors import ReconvergeError
from reconverge.tools.benchmark.equality import EqualityOptions, compare, run
from reconverge.tools.benchmark.simulation import RATIOS
from reconverge.tools.benchmark.stock import STOCK
from support.simulators import use_simulators


def test_main_prints_ratios_and_equal_verdicts_as_json():
    command = [
        sys.executable,
        "-m",
        "reconverge.tools.benchmark.simulation",
        "env=push",
        "rounds=1",
        "episodes=3",
        "workers=2",
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    report = json.loads(lines[-1])
    assert set(report["tasks"]) == {"push"}
    assert all(report["tasks"]["push"][ratio] > 0 for ratio in RATIOS)
    assert report["tasks"]["push"]["same_verdicts"] == 1.0


@pytest.mark.parametrize("name", ["lift", "can", "push", "window-close"])
def test_reset_of_stock_starts_where_ours_does(simulator_of, monkeypatch, name):
    task = TASKS[name]
    simulator = simulator_of(task)
    use_simulators(monkeypatch, task.suite, simulator_of)
    stock, episode = STOCK[task.suite](task, [5, 6]), simulator.new_episode()
    for seed in (5, 6):
        simulator.reset(episode, seed)
        observation, _ = stock.reset()
        ours = simulator.observe([episode])[0]
        # robosuite's poses in the gripper's frame
        lagging = slice(0, 7) if name == "can" else slice(0, 0)
        keep = np.ones(len(ours), bool)
        keep[lagging] = False
        np.testing.assert_allclose(observation[keep], ours[keep], rtol=0, atol=1e-5)


def test_step_of_stock_without_seeds_left_does_nothing(simulator_of, monkeypatch):
    task = TASKS["push"]
    use_simulators(monkeypatch, task.suite, simulator_of)
    stock = STOCK["metaworld"](task, [])
    stock.reset()
    observation, reward, terminated, truncated, _ = stock.step(np.ones(4))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation.shape == (39,)


def test_equality_refuses_a_task_of_another_suite():
    with pytest.raises(ReconvergeError, match="env=lift: is a task of robosuite"):
        run(EqualityOptions(env=["push", "lift"]))


@pytest.mark.parametrize("physics", [True, False])
def test_equality_counts_steps_that_differ(simulator_of, monkeypatch, physics):
    simulator = simulator_of(TASKS["faucet-close"])
    found = compare(simulator, EVALUATION[:2], physics)
    assert (found["episodes"], found["other_success"], found["other_observation"]) == (2, 0, 0)
    assert found["steps"] > found["in_success"] > 0
    other = simulator.constants
    other = other._replace(limit=0.9 * other.limit, offsets=other.offsets + 1e-12)
    monkeypatch.setattr(simulator, "constants", other)
    found = compare(simulator, EVALUATION[:1], physics)
    assert found["other_success"] > 0
    assert found["other_observation"] == found["steps"]
