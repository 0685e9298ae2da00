"""Experts of tasks that take several steps, against LIBERO's own goals on seeds that no tuning
saw.
"""

import os

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.rollout import rollout
from reconverge.envs.suites.libero.experts.assignments import EXPERTS
from reconverge.envs.suites.libero.experts.turns import InTurn, rise_first
from reconverge.envs.suites.libero.installation import installed
from reconverge.envs.vector import VectorEnv
from reconverge.policy.demonstrations.scripted import NoisyExpert

SEEDS = range(4_310_000, 4_310_006)
TWO_INTO_A_BASKET, MUG_AND_BOX, TWO_MUGS = "libero_10_0", "libero_10_6", "libero_10_4"
INTO_A_DRAWER_AND_SHUT, SHUT_AND_ON_TOP = "libero_90_4", "libero_90_1"
INTO_A_MICROWAVE_AND_SHUT = "libero_10_9"
BY_HAND = (TWO_INTO_A_BASKET, TWO_MUGS, SHUT_AND_ON_TOP) if os.environ.get("ALL_TASKS") else ()
ALL = [MUG_AND_BOX, INTO_A_DRAWER_AND_SHUT, INTO_A_MICROWAVE_AND_SHUT, *BY_HAND]


@pytest.mark.skipif(not installed(), reason="wants pip install -e '.[libero]'")
@pytest.mark.parametrize("name", ALL)
def test_expert_solves_unseen_starts_with_noise_in_the_executed_action(name):
    with VectorEnv(TASKS[name], len(SEEDS)) as env:
        results = rollout(env, NoisyExpert(env, 0.1), SEEDS)
    assert sum(result.success and result.steps < 400 for result in results) >= 5, results


class Part:
    """A step whose state is read from the observation by its number, and its actions as well: its
    own is the number, what it makes of another's while the hand leaves has it in the tens.
    """

    def __init__(self, number):
        self.number = number

    def act(self, observation):
        return np.array([float(self.number)])

    def placed(self, observation):
        return self.number in observation["placed"]

    def holds(self, observation):
        return self.number in observation["held"]

    def leave(self, observation, action):
        return action + 10.0 * self.number


@pytest.mark.parametrize(
    ("placed", "held", "action"),
    [
        ([], [], 1.0),
        ([], [1], 1.0),
        ([1], [1], 1.0),  # lets go of what is there
        ([1], [], 12.0),
        ([1], [2], 2.0),
        ([], [2], 2.0),  # not put down for what came loose
        ([1, 2], [2], 2.0),
        ([1, 2], [], 33.0),  # away from both
        ([1, 2], [3], 3.0),
        ([1, 2, 3], [3], 3.0),
    ],
)
def test_steps_are_done_in_turn(placed, held, action):
    steps = InTurn(Part(1), Part(2), Part(3))
    seen = {"placed": np.array(placed), "held": np.array(held)}
    np.testing.assert_array_equal(steps.act(seen), [action])


@pytest.mark.skipif(not os.environ.get("ALL_TASKS"), reason="builds every scene")
@pytest.mark.parametrize("name", EXPERTS)
def test_every_expert_solves_an_unseen_start(name):
    with VectorEnv(TASKS[name], 4) as env:
        results = rollout(env, NoisyExpert(env, 0.1), SEEDS[:4])
    assert any(result.success for result in results)


def test_hand_rises_before_it_moves_aside_and_not_down_after():
    action = np.array([0.5, -0.5, -1.0, 0.1, 0.2, 0.3, -1.0])
    low, there, above = (rise_first(action, missing) for missing in (0.1, 0.0, -0.02))
    np.testing.assert_array_equal(low, [0.0, 0.0, 1.0, 0.1, 0.2, 0.3, -1.0])
    np.testing.assert_array_equal(there, [0.5, -0.5, 0.0, 0.1, 0.2, 0.3, -1.0])
    np.testing.assert_allclose(above, [0.5, -0.5, -0.6, 0.1, 0.2, 0.3, -1.0])
    assert action[2] == -1.0
    down = np.array([0.3, -0.5, -1.0, 0.1, 0.2, 0.3, -1.0])  # to what is below: else it hovers
    np.testing.assert_array_equal(rise_first(down, 0.1), down)
