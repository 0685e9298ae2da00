"""The experts of LIBERO's fixtures, of a plate, a bottle and a book, against its own goals on seeds
that no tuning saw.
"""

import os

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.rollout import rollout
from reconverge.envs.suites.libero.experts.boxes import HANDLE, Box
from reconverge.envs.suites.libero.installation import installed
from reconverge.envs.vector import VectorEnv
from reconverge.policy.demonstrations.scripted import NoisyExpert

pytestmark = pytest.mark.skipif(not installed(), reason="wants pip install -e '.[libero]'")

SEEDS = range(4_300_000, 4_300_006)
DRAWER, CABINET, PLATE, KNOB, RACK = (f"libero_goal_{i}" for i in (0, 2, 5, 7, 9))
SHUT, SLOT = "libero_90_22", "libero_10_5"  # the lowest drawer; a book
DOOR = "libero_90_33"  # of a microwave
ROOM, BETWEEN = "libero_90_5", "libero_90_31"  # before an open drawer; beside a bottle
BELOW = "libero_goal_3"  # a drawer that is shut
CARTONS, BELOW_TOP, MUGS = "libero_10_1", "libero_90_8", "libero_90_34"
ALL = [DRAWER, CABINET, PLATE, KNOB, RACK, SHUT, SLOT, DOOR, ROOM, BETWEEN, BELOW]
LONG = [CARTONS, BELOW_TOP, MUGS] if os.environ.get("ALL_TASKS") else []
TOP_DRAWER, TOP_JOINT = "libero_90_7", "wooden_cabinet_1_top_level"


@pytest.mark.parametrize("name", [*ALL, *LONG])
def test_expert_solves_unseen_starts_with_noise_in_the_executed_action(name):
    with VectorEnv(TASKS[name], len(SEEDS)) as env:
        actor = NoisyExpert(env, 0.1)
        results = rollout(env, actor, SEEDS)
        assert sum(result.success and result.steps < 300 for result in results) >= 5, results
        assert np.abs(np.concatenate([actor.recordings[i].actions for i in range(6)])).max() <= 1.0


@pytest.mark.parametrize(
    ("name", "level", "box"),
    [
        (DRAWER, "middle", ("wooden_cabinet_1_middle_region", HANDLE)),  # which is observed
        (TOP_DRAWER, "top", ("wooden_cabinet_1", f"_top_region{HANDLE}", TOP_JOINT)),
    ],
)
def test_handle_of_a_drawer_moves_with_it(name, level, box):
    """Its box, read from the observation, is where MuJoCo has the geom that stands out most."""
    joint = f"wooden_cabinet_1_{level}_level"
    with VectorEnv(TASKS[name], 1) as env:
        env.reset([0], [SEEDS[0]])
        model, data = env.simulator.model, env.episodes[0].data
        handle = Box(env.simulator.landmarks, *box)
        for position in (0.0, -0.1):
            data.joint(joint).qpos[0] = position
            env.step([0], np.zeros((1, 7)))
            middle, _ = handle.read(env.task.split(env.observe([0])[0]))
            moved = np.flatnonzero(model.geom_bodyid == model.joint(joint).bodyid[0])
            outmost = moved[data.geom_xpos[moved, 1].argmax()]
            np.testing.assert_allclose(middle, data.geom_xpos[outmost], atol=5e-3)


def test_knob_is_a_landmark_on_its_stove():
    with VectorEnv(TASKS[KNOB], 1) as env:
        knob = Box(env.simulator.landmarks, "flat_stove_1", HANDLE)
    assert 0.01 < 2.0 * min(knob.half[:2]) < 0.04  # between the fingers
    assert np.hypot(*knob.middle[:2]) < max(knob.half)  # over the axis
