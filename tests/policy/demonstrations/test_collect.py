from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.envs import seeds
from reconverge.envs.catalog import TASKS
from reconverge.envs.vector import VectorEnv
from reconverge.policy.demonstrations import scripted as tool
from reconverge.policy.demonstrations.scripted import collect, record
from support.simulators import use_simulators

LIFT = replace(TASKS["lift"], max_steps=120)


@pytest.fixture(autouse=True)
def small(monkeypatch, simulator_of):
    """The session's simulators, four episodes at a time, two appended together."""
    use_simulators(monkeypatch, "robosuite", simulator_of)
    monkeypatch.setattr(tool, "SLOTS", 4)
    monkeypatch.setattr(tool, "EPISODES_PER_APPEND", 2)


def content(store):
    parts = {**store.read(), **{f"meta/{name}": rows for name, rows in store.scalars().items()}}
    return {**parts, "ends": store.episode_ends}


def assert_same(found, wanted):
    found, wanted = content(found), content(wanted)
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        np.testing.assert_array_equal(found[name], rows, err_msg=name)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, simulator_of):
    """Six episodes of lift, collected in one go with one worker."""
    with pytest.MonkeyPatch.context() as patch:
        use_simulators(patch, "robosuite", simulator_of)
        patch.setattr(tool, "SLOTS", 1)
        path = tmp_path_factory.mktemp("reference") / "lift.zarr"
        return collect(LIFT, path, episodes=6, noise=0.2, workers=1)


@pytest.mark.parametrize(
    ("slots", "workers", "append"), [(4, 2, 1), (4, 3, 2), (3, 1, 8), (7, 4, 5)]
)
def test_collect_does_not_depend_on_workers_or_slots(
    tmp_path, monkeypatch, reference, slots, workers, append
):
    monkeypatch.setattr(tool, "SLOTS", slots)
    monkeypatch.setattr(tool, "EPISODES_PER_APPEND", append)
    assert_same(
        collect(LIFT, tmp_path / "lift.zarr", episodes=6, noise=0.2, workers=workers), reference
    )


class Stop(BaseException):
    pass


def test_collect_resumed_makes_the_same_store(tmp_path, reference):
    def interrupt(done, tried):
        raise Stop

    path = tmp_path / "lift.zarr"
    with pytest.raises(Stop):
        collect(LIFT, path, episodes=6, noise=0.2, workers=1, progress=interrupt)
    kept = len(DemonstrationStore.open(path))
    assert 0 < kept < 6  # finished episodes are not lost
    seen = []
    resumed = collect(
        LIFT, path, episodes=6, noise=0.2, workers=1, progress=lambda done, tried: seen.append(done)
    )
    assert_same(resumed, reference)
    assert_same(DemonstrationStore.open(path), reference)
    assert seen[0] > kept
    for name in ("attempts", "discarded", "task", "noise", "expert", "simulator"):
        assert resumed.attributes[name] == reference.attributes[name]


def test_collect_takes_turns_on_one_store(tmp_path, reference):
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(
            lambda _: collect(LIFT, tmp_path / "lift.zarr", episodes=6, noise=0.2, workers=1),
            range(2),
        )
        for store in found:
            assert_same(store, reference)


def test_collect_only_opens_a_complete_store(tmp_path, reference):
    calls = []
    again = collect(
        LIFT, reference.path, episodes=3, noise=0.2, progress=lambda *a: calls.append(a)
    )
    assert len(again) == 6
    assert calls == []


def test_collect_labels_are_the_experts_clean_actions(reference, simulator_of):
    """Replaying the executed actions meets the observations recorded, where the expert says the
    label.
    """
    simulator = simulator_of(TASKS["lift"])
    for index in (0, 3):
        episode = reference.episode(index)
        running = simulator.new_episode()
        simulator.reset(running, episode.scalars["seed"])
        expert = TASKS["lift"].expert(simulator.landmarks)
        for step, executed in enumerate(episode.extras["executed_action"]):
            seen = simulator.observe([running])[0]
            recorded = np.concatenate([rows[step] for rows in episode.observations.values()])
            # The store keeps executed actions in float32; the simulator took them in float64.
            np.testing.assert_allclose(seen, recorded, rtol=0, atol=1e-5)
            np.testing.assert_allclose(
                expert.act(LIFT.split(seen)), episode.action[step], rtol=0, atol=1e-4
            )
            assert not simulator.success(running)
            simulator.step(running, executed.astype(np.float64))
        assert simulator.success(running)
        assert episode.success.tolist() == [False] * (len(episode.action) - 1) + [True]
        assert episode.reward.tolist() == [0.0] * (len(episode.action) - 1) + [1.0]


def test_collect_noise_has_its_size_and_spares_the_gripper(reference):
    data = reference.read(["action", "executed_action"])
    noise = data["executed_action"] - data["action"]
    assert (noise[:, -1] == 0).all()
    free = np.abs(data["executed_action"][:, :-1]) < 1  # the rest is clipped
    spread = noise[:, :-1][free & (np.abs(data["action"][:, :-1]) < 0.3)]
    assert len(spread) > 200
    assert spread.std() == pytest.approx(0.2, rel=0.15)
    assert abs(spread.mean()) < 0.05
    assert np.abs(data["executed_action"]).max() <= 1


def test_collect_without_noise_executes_the_labels(tmp_path):
    store = collect(LIFT, tmp_path / "lift.zarr", episodes=1, noise=0.0, workers=1)
    data = store.read(["action", "executed_action"])
    np.testing.assert_array_equal(data["action"], data["executed_action"])


class Half:
    """lift's expert, which does nothing at all in every other episode."""

    made = 0

    def __init__(self, landmarks):
        self.expert = TASKS["lift"].expert(landmarks)
        self.idle = Half.made % 2
        Half.made += 1

    def act(self, observation):
        action = self.expert.act(observation)
        return 0 * action if self.idle else action


def test_collect_stores_successes_and_the_discarded_share(tmp_path, monkeypatch):
    monkeypatch.setattr(Half, "made", 0)
    tried = []
    store = collect(
        replace(LIFT, expert=Half),
        tmp_path / "lift.zarr",
        episodes=3,
        noise=0.0,
        workers=1,
        progress=lambda *a: tried.append(a),
    )
    assert store.scalars()["seed"].tolist() == [0, 2, 4]
    assert store.attributes["attempts"] == 5  # up to the last episode kept
    assert store.attributes["discarded"] == pytest.approx(2 / 5)
    assert tried == [(2, 3), (3, 5)]
    assert DemonstrationStore.open(store.path).attributes["discarded"] == pytest.approx(2 / 5)
    assert store.read(["success"])["success"].sum() == 3


class Idle:
    def __init__(self, landmarks):
        pass

    def act(self, observation):
        return np.zeros(7)


def test_collect_gives_up_an_expert_that_never_succeeds(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "MAX_TRIES_PER_SUCCESS", 1)
    short = replace(LIFT, max_steps=3, expert=Idle)
    with pytest.raises(
        ValueError, match=r"lift: the expert solved 0 of 6 episodes with noise=0\.5; lower noise"
    ):
        collect(short, tmp_path / "lift.zarr", episodes=2, noise=0.5, workers=1)


def test_collect_refuses_a_store_of_another_task_or_noise(reference):
    with pytest.raises(StoreError, match=r"noise is 0\.2, wanted 0\.1"):
        collect(LIFT, reference.path, episodes=6, noise=0.1)
    with pytest.raises(StoreError, match="task is 'lift', wanted 'can'"):
        collect(TASKS["can"], reference.path, episodes=6, noise=0.2)


def test_record_keeps_each_seeds_own_steps(reference):
    """Two slots for five seeds: a slot's next episode must not take over the recording."""
    with VectorEnv(LIFT, 2, 1) as env:
        episodes = []
        record(env, 0.2, [4, 0, 3, 1, 2], episodes.extend)
    stored = reference.scalars()["seed"].tolist()
    found = [episode.scalars["seed"] for episode in episodes]
    assert found == [seed for seed in (4, 0, 3, 1, 2) if seed in found]
    assert len(found) >= 4
    for episode in episodes:
        wanted = reference.episode(stored.index(episode.scalars["seed"]))
        np.testing.assert_array_equal(episode.action, wanted.action)
        np.testing.assert_array_equal(
            episode.extras["executed_action"], wanted.extras["executed_action"]
        )


def test_collect_takes_seeds_of_demonstrations(reference):
    assert all(int(seed) in seeds.DEMONSTRATION for seed in reference.scalars()["seed"])
    assert reference.attributes["seeds_from"] == seeds.DEMONSTRATION.start
