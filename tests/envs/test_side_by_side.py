from dataclasses import replace

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.rollout import rollout
from reconverge.envs.side_by_side import SideBySide
from reconverge.envs.vector import VectorEnv
from support.simulators import use_simulators

SEEDS = [7, 8, 9]


class Chunks:
    """Actions that follow from the seed, the step and the history; `steps` observations, chunks of
    `size`.
    """

    def __init__(self, steps, size):
        self.n_obs_steps, self.size = steps, size
        self.rng, self.seen = {}, {}

    def begin(self, slot, seed):
        self.rng[slot] = np.random.default_rng(seed)
        self.seen[slot] = []

    def act(self, slots, history):
        assert history.shape[:2] == (len(slots), self.n_obs_steps)
        for slot, observations in zip(slots, history, strict=True):
            self.seen[slot].append(observations.copy())
        return np.stack([self.rng[slot].uniform(-1, 1, (self.size, 4)) for slot in slots])


@pytest.fixture
def make_env(simulator_of, monkeypatch):
    use_simulators(monkeypatch, "metaworld", simulator_of)
    return lambda slots: VectorEnv(replace(TASKS["push"], max_steps=11), slots, 1)


def test_side_by_side_acts_as_in_separate_rollouts(make_env):
    shapes = [(1, 4), (3, 2)]
    together = [Chunks(*shape) for shape in shapes]
    ended = {}
    with make_env(2 * len(SEEDS)) as env:
        rollout(
            env, SideBySide(together, len(SEEDS)), SEEDS * 2, lambda r: ended.update({r.slot: r})
        )
    assert [ended[slot].seed for slot in range(6)] == SEEDS * 2
    for i, shape in enumerate(shapes):
        alone = Chunks(*shape)
        with make_env(len(SEEDS)) as env:
            results = rollout(env, alone, SEEDS)
        for slot, result in enumerate(results):
            other = ended[len(SEEDS) * i + slot]
            assert (result.seed, result.success, result.steps) == (
                other.seed,
                other.success,
                other.steps,
            )
            np.testing.assert_array_equal(alone.seen[slot], together[i].seen[len(SEEDS) * i + slot])
