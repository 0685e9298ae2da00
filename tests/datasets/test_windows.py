import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconverge.datasets.windows import Windows

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def make_windows(lengths, n_obs_steps, horizon, device="cpu"):
    """Row t is (its episode, its step in the episode): a window tells where each of its frames is
    from.
    """
    rows = np.array([(e, s) for e, n in enumerate(lengths) for s in range(n)], dtype=np.float32)
    ends = np.cumsum(lengths)
    return Windows.from_episodes(rows, rows, ends, n_obs_steps, horizon, device), rows


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 12))
def test_gather_clamps_steps_to_the_ends_of_their_episode(lengths, to, tp):
    windows, rows = make_windows(lengths, to, tp)
    observations, actions = windows.gather(torch.arange(len(windows)))
    assert len(windows) == sum(lengths)
    for t, (episode, step) in enumerate(rows):
        last = lengths[int(episode)] - 1
        history = [(episode, max(step - to + 1 + i, 0)) for i in range(to)]
        chunk = [(episode, min(step + i, last)) for i in range(tp)]
        np.testing.assert_array_equal(observations[t], history)
        np.testing.assert_array_equal(actions[t], chunk)


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.randoms(use_true_random=False))
def test_gather_does_not_depend_on_the_order_of_indices(lengths, random):
    windows, _ = make_windows(lengths, 2, 4)
    order = list(range(len(windows)))
    random.shuffle(order)
    straight = windows.gather(torch.arange(len(windows)))
    shuffled = windows.gather(torch.tensor(order))
    for a, b in zip(straight, shuffled, strict=True):
        assert torch.equal(a[order], b)


def test_gather_agrees_with_robomimic(tmp_path):
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    rng = np.random.default_rng(0)
    lengths, to, tp = [7, 1, 3, 12], 3, 5
    observations = rng.standard_normal((sum(lengths), 6)).astype(np.float32)
    actions = rng.standard_normal((sum(lengths), 2)).astype(np.float32)
    ends = np.cumsum(lengths)
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for i, (end, length) in enumerate(zip(ends, lengths, strict=True)):
            demo = file.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = length
            demo["actions"] = actions[end - length : end]
            demo["obs/state"] = observations[end - length : end]
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["state"]}})
    truth = SequenceDataset(
        str(tmp_path / "demos.hdf5"),
        obs_keys=("state",),
        dataset_keys=("actions",),
        frame_stack=to,
        seq_length=tp,
        pad_frame_stack=True,
        pad_seq_length=True,
        hdf5_cache_mode="low_dim",
        hdf5_use_swmr=False,
        load_next_obs=False,
    )
    windows = Windows.from_episodes(observations, actions, ends, to, tp)
    assert len(windows) == len(truth)
    gathered = windows.gather(torch.arange(len(windows)))
    for i in range(len(truth)):
        sequence = truth[i]  # frames t-To+1 to t+Tp-1 of both
        np.testing.assert_array_equal(gathered[0][i], sequence["obs"]["state"][:to])
        np.testing.assert_array_equal(gathered[1][i], sequence["actions"][to - 1 :])


def test_sample_repeats_with_the_seed_and_covers_every_window():
    windows, rows = make_windows([4, 3], 2, 2)
    first = windows.sample(200, torch.Generator().manual_seed(5))
    again = windows.sample(200, torch.Generator().manual_seed(5))
    other = windows.sample(200, torch.Generator().manual_seed(6))
    assert first[0].shape == (200, 2, 2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert {tuple(row) for row in first[1][:, 0].tolist()} == {tuple(row) for row in rows.tolist()}


def test_from_episodes_copies_its_arrays():
    rows = np.zeros((3, 2), dtype=np.float32)
    windows = Windows.from_episodes(rows, rows, np.array([3]), 1, 1)
    rows[:] = 7
    assert windows.observations.abs().sum() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gather_agrees_on_a_gpu():
    here, _ = make_windows([5, 8, 1], 2, 6)
    there, _ = make_windows([5, 8, 1], 2, 6, device="cuda")
    a = here.sample(64, torch.Generator().manual_seed(0))
    b = there.sample(64, torch.Generator().manual_seed(0))
    assert b[0].device.type == "cuda"
    assert torch.equal(a[0], b[0].cpu())
    assert torch.equal(a[1], b[1].cpu())


@pytest.mark.parametrize(
    ("ends", "steps", "message"),
    [
        ([2, 4], (1, 1), "ends at 4, there are 5 steps"),
        ([3, 2, 5], (1, 1), "growing"),
        ([], (1, 1), "at least one"),
        ([5], (0, 1), "n_obs_steps=0"),
        ([5], (1, -2), "horizon=-2"),
    ],
)
def test_from_episodes_refuses_lengths_that_disagree(ends, steps, message):
    with pytest.raises(ValueError, match=message):
        Windows.from_episodes(np.zeros((5, 3)), np.zeros((5, 2)), np.array(ends, dtype=int), *steps)


def test_from_episodes_refuses_observations_and_actions_of_different_lengths():
    errors = (ValueError, TypeError)  # TypeError: run-time typing, where it is on
    with pytest.raises(errors, match=r"of one T|parameter 'actions'"):
        Windows.from_episodes(np.zeros((5, 3)), np.zeros((4, 2)), np.array([5]), 1, 1)


def test_select_keeps_the_windows_of_some_episodes():
    steps = np.arange(9, dtype=np.float32)[:, None]
    windows = Windows.from_episodes(steps, -steps, np.array([2, 6, 9]), 2, 3)
    assert windows.lengths.tolist() == [2, 4, 3]
    chosen = windows.select(torch.tensor([2, 0]))
    assert chosen.lengths.tolist() == [3, 2]
    found = chosen.gather(torch.arange(5))
    expected = windows.gather(torch.tensor([6, 7, 8, 0, 1]))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
