from dataclasses import replace

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.rollout import Rollout, rollout
from reconverge.envs.vector import VectorEnv
from support.rows import ONE_OF_EACH_SUITE
from support.simulators import use_simulators

MAX_STEPS = 25


@pytest.fixture
def make_env(simulator_of, task, monkeypatch):
    """VectorEnv of a task with a short horizon on the simulator that the session shares."""
    use_simulators(monkeypatch, task.suite, simulator_of)
    return lambda slots, workers=1, max_steps=MAX_STEPS: VectorEnv(
        replace(task, max_steps=max_steps), slots, workers
    )


class RandomActor:
    """Actions that follow from an episode's seed and step; remembers what each episode saw."""

    n_obs_steps = 3

    def __init__(self, env, chunk=4):
        self.chunk, self.action_size = chunk, env.task.action_size
        self.rng, self.seed_of, self.seen, self.calls = {}, {}, {}, []

    def begin(self, slot, seed):
        self.rng[slot] = np.random.default_rng(seed)
        self.seed_of[slot] = seed
        self.seen[seed] = []

    def act(self, slots, history):
        assert history.shape[:2] == (len(slots), self.n_obs_steps)
        self.calls.append(list(slots))
        for slot, observations in zip(slots, history, strict=True):
            self.seen[self.seed_of[slot]].append(observations.copy())
        return np.stack(
            [self.rng[slot].uniform(-1, 1, (self.chunk, self.action_size)) for slot in slots]
        )


class Expert:
    """A task's expert as an actor."""

    n_obs_steps = 1

    def __init__(self, env):
        self.env, self.experts = env, {}

    def begin(self, slot, seed):
        self.experts[slot] = self.env.task.expert(self.env.simulator.landmarks)

    def act(self, slots, history):
        pairs = zip(slots, history, strict=True)
        return np.stack([self.experts[s].act(self.env.task.split(h[-1])) for s, h in pairs])[
            :, None
        ]


def run(env, seeds, chunk=4):
    actor = RandomActor(env, chunk)
    with env:
        results = rollout(env, actor, seeds)
    seen = {seed: np.stack(histories) for seed, histories in actor.seen.items()}
    return [replace(result, slot=0) for result in results], seen


SEEDS = [31, 7, 19, 3, 23, 11, 2]


@ONE_OF_EACH_SUITE
def test_rollout_does_not_depend_on_slots_or_workers(make_env):
    results, seen = run(make_env(1), SEEDS)
    assert [result.seed for result in results] == SEEDS
    for slots, workers in ((2, 1), (3, 2), (7, 4), (12, 2)):
        other, other_seen = run(make_env(slots, workers), SEEDS)
        assert other == results
        for seed in SEEDS:
            np.testing.assert_array_equal(other_seen[seed], seen[seed])


def test_rollout_keeps_the_order_of_seeds(make_env, task):
    seeds = [4, 0, 9, 6, 1, 3, 8, 2]
    with make_env(5, max_steps=task.max_steps) as env:
        ended = []
        results = rollout(env, Expert(env), seeds, lambda result: ended.append(result.seed))
    assert [result.seed for result in results] == seeds
    assert sorted(ended) == sorted(seeds)
    assert ended != seeds
    assert all(result.success == (result.steps < task.max_steps) for result in results)
    assert sum(result.success for result in results) >= (8 if task.suite == "robosuite" else 2)


def test_rollout_starts_the_history_with_copies_and_slides_it(make_env, simulator_of, task):
    _, seen = run(make_env(1), [5], chunk=1)
    histories = seen[5]
    assert len(histories) == MAX_STEPS
    simulator = simulator_of(task)
    episode = simulator.new_episode()
    simulator.reset(episode, 5)
    rng = np.random.default_rng(5)
    expected = [simulator.observe([episode])[0]] * 3
    for history in histories:
        np.testing.assert_array_equal(history, np.stack(expected[-3:]))
        simulator.step(episode, rng.uniform(-1, 1, (1, task.action_size))[0])
        expected.append(simulator.observe([episode])[0])


def test_rollout_executes_whole_chunks_up_to_max_steps(make_env):
    env = make_env(2)
    actor = RandomActor(env, chunk=10)
    with env:
        results = rollout(env, actor, [1, 2, 3])
    assert [result.steps for result in results] == [MAX_STEPS] * 3
    assert actor.calls == [[0, 1]] * 3 + [[0]] * 3


def test_rollout_of_no_seeds_is_empty(make_env):
    assert run(make_env(2), []) == ([], {})


def test_rollout_takes_seeds_that_are_gone_once_they_are_read(make_env):
    for seeds in (iter([4, 5]), np.array([4, 5])):
        results = run(make_env(2, max_steps=2), seeds)[0]
        assert [(result.seed, type(result.seed)) for result in results] == [(4, int), (5, int)]


class Saboteur(RandomActor):
    """Breaks the simulation of one seed before its second plan."""

    def __init__(self, env, target):
        super().__init__(env)
        self.env, self.target = env, target

    def act(self, slots, history):
        for slot in slots:
            if self.seed_of[slot] == self.target and len(self.seen[self.target]) == 1:
                self.env.episodes[slot].data.qpos[0] = np.nan
        return super().act(slots, history)


@ONE_OF_EACH_SUITE
def test_rollout_counts_a_diverged_episode_as_a_failure(make_env, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings to the working directory
    expected, seen = run(make_env(1), SEEDS)
    with make_env(2) as env:
        actor = Saboteur(env, SEEDS[2])
        results = rollout(env, actor, SEEDS)
    broken = results[2]
    assert broken == Rollout(SEEDS[2], broken.slot, success=False, steps=5, diverged=True)
    for i, seed in enumerate(SEEDS):
        if i != 2:
            assert replace(results[i], slot=0) == expected[i]
            np.testing.assert_array_equal(np.stack(actor.seen[seed]), seen[seed])


def test_make_simulator_makes_its_own():
    """Without the simulator that the other tests share."""
    task = replace(TASKS["lift"], max_steps=3)
    results, seen = run(VectorEnv(task, 2, 1), [0, 1], chunk=1)
    assert [result.steps for result in results] == [3, 3]
    assert not np.array_equal(seen[0][0], seen[1][0])
