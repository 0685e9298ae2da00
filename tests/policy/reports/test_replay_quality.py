"""The measure of generated windows, on windows whose likeness to real ones is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from reconverge.datasets.windows import Windows
from reconverge.policy.model.batch import Batch
from reconverge.policy.reports.replay_quality import replay_quality
from support.tiny import make_generator

NAMES = ["x[0]", "x[1]", "x[2]", "action[0]", "action[1]"]


def make_windows(episodes=20, length=30):
    """Each step independent of all others, so that any episode is like any other."""
    rng = np.random.default_rng(0)
    T = episodes * length
    observations = rng.uniform(-1, 1, (T, 3)).astype(np.float32)
    actions = rng.uniform(-1, 1, (T, 2)).astype(np.float32)
    return Windows.from_episodes(observations, actions, np.arange(1, episodes + 1) * length, 2, 3)


class Source:
    """The windows as the generator takes them."""

    def __init__(self, windows):
        self.windows = windows

    def sample(self, size, generator):
        return Batch(*self.windows.sample(size, generator), torch.zeros(size, dtype=torch.long))


@pytest.fixture
def windows():
    return make_windows()


@pytest.fixture
def quality(windows, monkeypatch):
    """Measures the batch that `make` gives for a number of windows."""
    model = make_generator()
    model.measure(0, Source(windows), torch.Generator().manual_seed(0))

    def measure(make, count=400, of=windows):
        monkeypatch.setattr(model, "generate", lambda task, count, generator: make(count))
        return replay_quality(model, of, 0, NAMES, torch.Generator().manual_seed(1), count)

    return measure


def like(windows, count, shift=0.0):
    """Windows drawn as the real ones were, the first entry of their observations moved."""
    batch = Source(make_windows(episodes=301)).sample(count, torch.Generator().manual_seed(5))
    batch.observations[..., 0] += shift
    return batch


def test_replay_quality_of_windows_of_the_same_origin_is_that_of_real_ones(quality, windows):
    found = quality(lambda count: like(windows, count))
    assert found["ratio"] == pytest.approx(1.0, abs=0.1)
    assert max(entry["distance"] for entry in found["marginals"]) < 0.2
    assert json.loads(json.dumps(found)) == found


def test_replay_quality_ranks_copies_nearer_and_noise_further(quality, windows):
    assert (
        quality(lambda count: Source(windows).sample(count, torch.Generator().manual_seed(2)))[
            "ratio"
        ]
        < 0.9
    )
    far = quality(lambda count: like(windows, count, shift=20.0))
    assert far["ratio"] > 5


def test_replay_quality_measures_the_shift_of_an_entry(quality, windows):
    found = quality(
        lambda count: like(windows, count, shift=0.5), count=2000, of=make_windows(episodes=200)
    )
    first = found["marginals"][0]
    assert first["name"] == "x[0]"
    assert first["distance"] == pytest.approx(0.5, abs=0.06)  # half the range is 1
    assert len(first["edges"]) == len(first["real"]) + 1 == len(first["generated"]) + 1
    assert sum(first["real"]) == pytest.approx(1.0, abs=1e-4)
    assert first["edges"][-1] == pytest.approx(1.5, abs=0.02)
    distances = [entry["distance"] for entry in found["marginals"]]
    assert distances == sorted(distances, reverse=True)


def test_replay_quality_has_the_distances_of_a_tree(quality, windows):
    made = like(windows, 50)
    found = quality(lambda count: made, count=5000)["nearest"]["generated"]
    even = torch.arange(len(windows)).reshape(-1, 30)[::2].flatten()  # every second episode

    def rows(observations, actions):
        return torch.cat([observations.flatten(1), actions.flatten(1)], dim=1).numpy()

    nearest = (
        cKDTree(rows(*windows.gather(even))).query(rows(made.observations, made.actions))[0]
        / 12**0.5
    )
    assert found == pytest.approx(np.quantile(nearest, np.linspace(0, 1, 51)), rel=0.02)


def test_replay_quality_of_a_single_episode_is_none(quality, windows):
    assert quality(lambda count: like(windows, count), of=make_windows(episodes=1)) is None


def test_replay_quality_leaves_out_the_padding_of_actions(quality, windows):
    """The same windows with a third entry of zeros in their actions, which the task lacks."""
    model = make_generator(action_sizes=(2, 3))
    wide = replace(windows, actions=torch.nn.functional.pad(windows.actions, (0, 1)))
    model.measure(0, Source(wide), torch.Generator().manual_seed(0))
    made = like(windows, 400)
    padded = Batch(made.observations, torch.nn.functional.pad(made.actions, (0, 1)), made.task)
    model.generate = lambda *_: padded
    found = replay_quality(model, wide, 0, NAMES, torch.Generator().manual_seed(1), 400)
    assert found == quality(lambda count: made)
