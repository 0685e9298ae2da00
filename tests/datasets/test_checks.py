"""Every defect that a store may have, put into a sound one, is found; and only that one."""

import numpy as np
import pytest

from reconverge.datasets.checks import actions_beyond, check_gaps, dimensions, findings
from reconverge.datasets.store import DemonstrationStore, Episode

BOUNDS = {
    "arm": (np.full(3, -4.0), np.full(3, 4.0)),
    "action": (np.full(2, -1.0), np.full(2, 1.0)),
}


def sound(seed, steps=60):
    """A smooth motion: the arm follows a few sines, a quaternion turns about an axis."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4, steps)[:, None]
    arm = np.sin(t * rng.uniform(0.5, 2, 3) + rng.uniform(0, 6, 3))
    turn = np.concatenate([np.sin(t + seed), np.cos(t + seed)], axis=1)
    quaternion = np.concatenate([0.6 * turn, 0.8 * turn], axis=1)
    return {
        "arm": arm.astype(np.float32),
        "quaternion": quaternion.astype(np.float32),
        "action": (0.5 * np.cos(t * rng.uniform(0.5, 2, 2))).astype(np.float32),
        "success": np.arange(steps) == steps - 1,
        "timestamp": (0.05 * np.arange(steps, dtype=np.float32))[:, None],
    }


def write(path, episodes):
    store = DemonstrationStore.create(
        path, {"arm": 3, "quaternion": 4}, 2, {}, extra_sizes={"timestamp": 1}
    )
    store.extend(
        Episode(
            observations={key: e[key] for key in ("arm", "quaternion")},
            action=e["action"],
            reward=e["success"].astype(np.float32),
            success=e["success"],
            extras={"timestamp": e["timestamp"]},
        )
        for e in episodes
    )
    return store


def cut(episode, first, last):
    return {name: np.delete(rows, slice(first, last), axis=0) for name, rows in episode.items()}


def found(store):
    stamps = store.read(["timestamp"])["timestamp"].ravel()
    return {
        finding.check: finding for finding in findings(store, dimensions(store, BOUNDS), stamps)
    }


@pytest.fixture
def episodes():
    return [sound(seed) for seed in range(8)]


def check(tmp_path, episodes, wrong, text=""):
    report = found(write(tmp_path / "x.zarr", episodes))
    assert [name for name, finding in report.items() if finding.wrong] == ([wrong] if wrong else [])
    assert text in report[wrong or "episodes"].text
    return report


def test_findings_of_a_sound_store_are_not_wrong(tmp_path, episodes):
    report = check(tmp_path, episodes, None, "8 of 480 steps")
    assert report["lengths"].text == "60 to 60 steps, median 60"
    assert report["success"].text == "8 of 8 episodes"
    for name in ("out of range", "saturated", "constant", "duplicates", "frame gaps"):
        assert report[name].text == "none"


def test_findings_name_a_value_beyond_its_bounds(tmp_path, episodes):
    episodes[3]["action"][40, 1] = 1.2
    report = check(tmp_path, episodes, "out of range", "action[1]")
    assert "action[0]" not in report["out of range"].text


def test_findings_name_saturated_and_constant_dimensions(tmp_path, episodes):
    for episode in episodes:
        episode["action"][:, 0] = np.sign(episode["action"][:, 0])
        episode["arm"][:, 2] = 0.3
    report = check(tmp_path, episodes, None)
    assert report["saturated"].text.endswith(": action[0]")
    assert report["constant"].text.endswith(": arm[2]")


def test_check_duplicates_names_an_episode_twice(tmp_path, episodes):
    check(tmp_path, [*episodes, episodes[2]], "duplicates", "8 repeats 2")


def test_check_duplicates_lets_episodes_see_the_same_and_act_otherwise(tmp_path, episodes):
    other = {**episodes[2], "action": -episodes[2]["action"]}
    report = check(tmp_path, [*episodes, other], None, "9 of 540 steps")
    assert report["duplicates"].text == "none"


def test_actions_beyond_tells_the_step_in_its_episode():
    actions = np.zeros((9, 2), np.float32)
    actions[6, 1] = -1.5
    assert actions_beyond(actions, np.array([4, 9])) == (
        "1 of 9 actions, in 1 of 2 episodes, are beyond [-1, 1]; the largest is action[1] = -1.5 "
        "in episode 1, step 2"
    )


def test_check_gaps_lets_simulators_settle_in_the_first_two_steps(tmp_path, episodes):
    for episode in episodes:
        episode["arm"][:2] += 2.0
    report = check(tmp_path, episodes, None)
    assert report["frame gaps"].text == "none"


def test_check_gaps_finds_lost_frames(tmp_path, episodes):
    episodes[5] = cut(episodes[5], 25, 45)
    episodes[5]["timestamp"] = sound(0, 40)["timestamp"]  # as if nothing were missing
    check(tmp_path, episodes, "frame gaps", "episode 5 after step 24")


def test_check_gaps_finds_a_frame_that_only_the_timestamps_miss(tmp_path, episodes):
    episodes[6] = cut(episodes[6], 30, 31)
    check(tmp_path, episodes, "frame gaps", "episode 6 after step 29")


def test_check_gaps_ignores_the_sign_of_a_quaternion(tmp_path, episodes):
    for episode in episodes:
        episode["quaternion"][30:] *= -1
    check(tmp_path, episodes, None)


def test_check_gaps_finds_a_jump_to_the_mirrored_place(tmp_path, episodes):
    episodes[3]["arm"][30:] *= -1
    check(tmp_path, episodes, "frame gaps", "episode 3 after step 29")


def test_findings_count_lengths_and_successes(tmp_path, episodes):
    episodes[1] = cut(episodes[1], 5, 60)
    episodes[4]["success"][:] = False
    report = check(tmp_path, episodes, None)
    assert report["lengths"].text == "5 to 60 steps, median 60; far from it: 1"
    assert report["success"].text == "6 of 8 episodes; not: 1, 4"
    for episode in episodes:
        episode["success"][:] = False
    assert found(write(tmp_path / "none.zarr", episodes))["success"].wrong


def test_check_gaps_lets_flags_and_phases_jump(tmp_path, episodes):
    sizes = {"arm": 3, "closed": 1}
    store = DemonstrationStore.create(tmp_path / "x.zarr", sizes, 2, {})
    closed = (np.arange(60) >= 25).astype(np.float32)[:, None]
    for e in episodes:
        seen, reward = {"arm": e["arm"], "closed": closed}, e["success"].astype(np.float32)
        store.append(Episode(seen, e["action"], reward, e["success"]))
    assert check_gaps(store, None).text == "none"


def test_findings_need_one_step_only(tmp_path, episodes):
    store = write(tmp_path / "x.zarr", [cut(episodes[0], 1, 60)])
    assert check_gaps(store, np.zeros(1)).text == "none"
    assert not found(store)["lengths"].wrong


def test_dimensions_agree_with_numpy(tmp_path, episodes):
    store = write(tmp_path / "x.zarr", episodes)
    arm = np.concatenate([episode["arm"] for episode in episodes]).astype(np.float64)
    described = {d.name: d for d in dimensions(store, BOUNDS)}
    assert list(described) == [
        *(f"arm[{i}]" for i in range(3)),
        *(f"quaternion[{i}]" for i in range(4)),
        "action[0]",
        "action[1]",
    ]
    for i in range(3):
        d = described[f"arm[{i}]"]
        assert (d.least, d.most, d.bounds) == (arm[:, i].min(), arm[:, i].max(), (-4.0, 4.0))
        assert d.mean == pytest.approx(arm[:, i].mean())
    assert described["quaternion[0]"].bounds is None
