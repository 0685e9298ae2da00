"""The rows are those of metaworld: names, sequences, horizon, experts."""

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3, MT50_V3
from metaworld.policies import ENV_POLICY_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from reconverge.envs.catalog import ALIASES, TASKS, task_sequence
from reconverge.envs.suites.metaworld.fifty import OWN_EXPERTS


def environments(alias):
    return [task.simulator for task in task_sequence(alias)]


def test_every_environment_of_metaworld_is_a_row():
    rows = [task for task in TASKS.values() if task.suite == "metaworld"]
    assert len(rows) == 50
    assert {task.simulator for task in rows} == set(ALL_V3_ENVIRONMENTS) == set(ENV_POLICY_MAP)
    assert all(f"{task.name}-v3" == task.simulator for task in rows)
    assert {task.name for task in rows if task.expert_name == task.name} == set(OWN_EXPERTS)


def test_cw10_is_continual_worlds_sequence():
    assert environments("cw10") == [
        "hammer-v3",
        "push-wall-v3",
        "faucet-close-v3",
        "push-back-v3",
        "stick-pull-v3",
        "handle-press-side-v3",
        "push-v3",
        "shelf-place-v3",
        "window-close-v3",
        "peg-unplug-side-v3",
    ]


def test_mt10_and_mt50_are_metaworlds_sequences():
    assert environments("mt10") == list(MT10_V3)
    assert environments("mt50") == list(MT50_V3)


def test_horizon_is_continual_worlds_in_cw10_and_metaworlds_elsewhere():
    steps = {name: TASKS[name].max_steps for name in ALIASES["mt50"]}
    assert {steps[name] for name in ALIASES["cw10"]} == {200}
    assert {steps[name] for name in set(steps) - set(ALIASES["cw10"])} == {
        SawyerXYZEnv.max_path_length
    }


def test_bounds_hold_the_hand_and_the_goals_of_every_environment():
    """metaworld clips the hand to its own bounds, and goals to each environment's."""
    hand = SawyerXYZEnv._HAND_SPACE
    for task in task_sequence("mt50"):
        low, high = task.split(task.low), task.split(task.high)
        np.testing.assert_array_equal(low["hand"][:3], hand.low.astype(np.float32))
        np.testing.assert_array_equal(high["hand"][:3], hand.high.astype(np.float32))
        assert task.observation_size == 39
