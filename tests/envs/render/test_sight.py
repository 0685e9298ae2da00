"""Episodes that are observed in pictures."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from reconverge.envs.cameras import View
from reconverge.envs.catalog import TASKS
from reconverge.envs.render.sight import Sight
from reconverge.envs.rollout import rollout
from reconverge.envs.vector import VectorEnv


class Means:
    """Describe a picture by its mean red, green and blue, in [-1, 1]."""

    size = 3
    fingerprint: ClassVar = {"name": "means"}

    def __call__(self, pictures):
        return (pictures.mean(axis=(1, 2)) / 127.5 - 1.0).astype(np.float32)


SIGHT = Sight(View(("agentview", "eye_in_hand"), 32), Means(), keeps_state=False)
TASK = SIGHT.of(TASKS["lift"])


@pytest.fixture(scope="module")
def env():
    with VectorEnv(TASK, 2, 1) as made:
        yield made


class Still:
    n_obs_steps = 2

    def __init__(self):
        self.seen = []

    def begin(self, slot, seed):
        pass

    def act(self, slots, history):
        self.seen.append(history)
        return np.zeros((len(slots), 3, 7))


def test_observations_are_what_the_robot_measures_and_the_features(env):
    seen = env.reset([0, 1], [5, 6])
    told = env.simulator.observe(env.episodes)
    assert seen.shape == (2, 9 + 6)
    assert np.array_equal(seen[:, :9], told[:, 10:])  # after the object's pose
    pictures = env.look([0, 1])
    assert np.array_equal(seen[:, 9:12], Means()(pictures[:, 0]))
    assert np.array_equal(seen[:, 12:], Means()(pictures[:, 1]))


def test_features_are_of_the_state_after_the_step(env):
    env.reset([0], [5])
    action = np.zeros((1, 7))
    action[0, 2] = -1.0
    seen, _, _ = env.step([0], action)
    assert np.array_equal(seen[0, 9:], SIGHT.features(env.look([0]))[0])


def test_a_rollout_sees_every_step_of_a_chunk(env):
    actor = Still()
    with VectorEnv(replace(TASK, max_steps=6), 2, 1) as short:
        rollout(short, actor, [5, 6])
    assert [history.shape for history in actor.seen] == [(2, 2, 15)] * 2
    assert all(np.abs(history).max(axis=2).min() > 0 for history in actor.seen)


def test_more_than_a_step_at_once_is_refused(env):
    env.reset([0], [5])
    with pytest.raises(ValueError, match="step by step"):
        env.advance([0], np.zeros((1, 2, 7)))


def test_names_tell_cameras_and_sizes_apart():
    other = Sight(View(("agentview",), 32), Means(), keeps_state=False)
    larger = Sight(View(("agentview", "eye_in_hand"), 48), Means(), keeps_state=False)
    assert len({SIGHT.name, other.name, larger.name}) == 3
    assert SIGHT.of(TASKS["can"]).sight.name == SIGHT.name
