"""An exported policy that sees, on a robot that has numpy and onnxruntime."""

import json
import os
import re
import runpy
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from reconverge.policy.deployment.package import load_package
from reconverge.policy.deployment.robot import Policy
from support.tiny_checkpoint import make_seeing
from support.tiny_run import start

RNG = np.random.default_rng(0)
KEYS = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
CAMERAS = ["agentview_image", "eye_in_hand_image"]
PICTURES = RNG.integers(0, 256, (5, 2, 32, 32, 3), np.uint8)  # of five control steps
ALONE = """
import sys
sys.modules |= dict.fromkeys(["torch", "reconverge"])  # neither can be imported
import numpy as np
from robot import Policy

told, pictures = np.load(sys.argv[1]).values()
policy = Policy(".", task="can", threads=1)
policy.reset(seed=3)
keys = [entry["key"] for entry in policy.contract["observation"]]
cameras = [entry["key"] for entry in policy.contract["pictures"]]
actions = [
    policy.act(dict(zip(keys, np.split(flat, [3, 7]))) | dict(zip(cameras, shown)))
    for flat, shown in zip(told, pictures, strict=True)
]
np.save(sys.argv[2], actions)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_seeing(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """What the entry point writes in a process of its own."""
    folder = tmp_path_factory.mktemp("exports") / "mine"
    arguments = [f"checkpoint={source.path}", f"output={folder}"]
    out, err = start(arguments, None, "reconverge.tools.export").communicate(timeout=600)
    assert "lift, can; differs from the policy by at most" in out, err
    return folder


def observe(step=0, **changes):
    told = dict(zip(KEYS, ([0.1] * 3, [0.0, 1.0, 0.0, 0.0], [0.02, -0.02]), strict=True))
    return {**told, **dict(zip(CAMERAS, PICTURES[step], strict=True)), **changes}


def test_a_robot_without_torch_acts_as_the_policy(source, exported, tmp_path):
    task = source.task("can")
    own = task.observation_size - task.sight.features_size
    told = RNG.uniform(task.low[:own], task.high[:own], (5, own)).astype(np.float32)
    given, made = tmp_path / "given.npz", tmp_path / "made.npy"
    np.savez(given, told=told, pictures=PICTURES)
    command = [sys.executable, "-c", ALONE, given, made]
    alone = {**os.environ, "PYTHONPATH": str(exported)}
    subprocess.run(command, cwd=exported, env=alone, check=True)

    flat = np.concatenate([told, task.sight.features(PICTURES)], axis=1)
    noise = np.random.default_rng(3)
    for step in (0, 2, 4):  # every second control step plans anew
        history = torch.from_numpy(flat[[max(step - 1, 0), step]])[None]
        drawn = torch.from_numpy(noise.standard_normal((1, 4, 7), dtype=np.float32))
        expected = source.policy.plan(history, torch.tensor([task.index]), drawn)[0, :2].numpy()
        found = np.load(made)[step : step + 2]
        assert (np.abs(expected) < 1).mean() > 0.1  # bounds hide differences
        np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=1e-4)
    assert load_package(exported)  # whole, whatever Python has written into it


def test_the_package_says_which_pictures_it_wants(exported):
    about = json.loads((exported / "config.json").read_text())
    for contract in about["tasks"]:
        shown = [(p["key"], p["height"], p["width"], p["features"]) for p in contract["pictures"]]
        assert shown == [(camera, 32, 32, 80) for camera in CAMERAS]
        assert all("uint8, red, green and blue" in p["meaning"] for p in contract["pictures"])
    readme = (exported / "README.md").read_text()
    assert "`pictures`, uint8 [B, 32, 32, 3], their `features`, float32 [B, 80]" in readme
    for camera, entries in zip(CAMERAS, ("9-88", "89-168"), strict=True):
        assert f"| {entries} | `{camera}` | features of the picture of" in readme
    assert "padding: zeros |" not in readme


def test_load_package_has_the_encoder_too(source, exported):
    sight = source.tasks[0].sight
    (found,) = load_package(exported, threads=1).encoder.run(None, {"pictures": PICTURES[:, 1]})
    np.testing.assert_allclose(found, sight.encoder(PICTURES[:, 1]), rtol=0, atol=1e-4)


def test_the_same_seed_gives_the_same_actions(exported):
    policy = Policy(exported, "lift")
    episodes = []
    for seed in (1, 1, 2):
        policy.reset(seed)
        episodes.append([policy.act(observe(step, agentview_depth=1)) for step in range(4)])
    assert np.array_equal(episodes[0], episodes[1])
    assert not np.allclose(episodes[0], episodes[2])
    assert np.shape(episodes) == (3, 4, 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agentview_image": PICTURES[0, 0, :16]}, r"\(32, 32, 3\), got uint8 \(16, 32, 3\)"),
        ({"agentview_image": PICTURES[0, 0] / 255}, "agentview_image: give uint8 .* got float64"),
        ({"eye_in_hand_image": b"raw"}, "eye_in_hand_image: give uint8 .* got bytes"),
        ({"eye_in_hand_image": PICTURES[0]}, r"got uint8 \(2, 32, 32, 3\)"),
        ({KEYS[0]: [0.0, 0.0]}, "robot0_eef_pos: give 3 finite numbers"),
        ({KEYS[0]: [0.0, 0.0, np.inf]}, "robot0_eef_pos: give 3 finite numbers"),
        ({KEYS[2]: ["open", "shut"]}, "robot0_gripper_qpos: give 2 finite numbers"),
    ],
)
def test_other_observations_are_one_line_and_leave_the_episode(exported, changes, said):
    policy, undisturbed = Policy(exported, "lift"), Policy(exported, "lift")
    first = policy.act(observe(0))
    with pytest.raises(ValueError, match=said) as caught:
        policy.act(observe(1, **changes))
    assert "\n" not in str(caught.value)
    assert np.array_equal(first, undisturbed.act(observe(0)))
    for step in (1, 2):
        assert np.array_equal(policy.act(observe(step)), undisturbed.act(observe(step)))


@pytest.mark.parametrize("key", ["robot0_eef_quat", "eye_in_hand_image"])
def test_what_an_observation_lacks_is_one_line(exported, key):
    shown = {name: value for name, value in observe().items() if name != key}
    with pytest.raises(ValueError, match=f"observation lacks {key}; give robot0_eef_pos, "):
        Policy(exported, "lift").act(shown)


def test_numbers_beyond_their_bounds_are_clipped(exported):
    policy = Policy(exported, "lift")
    flat = policy.flatten(observe(robot0_gripper_qpos=[9.0, -9.0]))
    entry = policy.contract["observation"][2]
    with warnings.catch_warnings(action="error"):
        assert np.array_equal(flat, policy.flatten(observe(robot0_gripper_qpos=[1e300, -1e300])))
    assert flat[7:9].tolist() == np.float32([entry["high"][0], entry["low"][1]]).tolist()


def shipped(exported, task):
    """The policy of the package's own file, whose types nothing checks."""
    return runpy.run_path(str(exported / "robot.py"))["Policy"](exported, task)


@pytest.mark.parametrize("observation", [None, 1.0, [1], "all"])
def test_an_observation_that_is_no_map_is_one_line(exported, observation):
    said = f"observation is a {type(observation).__name__}; give a map of robot0_eef_pos, "
    with pytest.raises(ValueError, match=said):
        shipped(exported, "lift").act(observation)


@pytest.mark.parametrize("task", [None, "square", ["lift"], {}])
def test_a_task_that_it_does_not_know_lists_those_that_it_does(exported, task):
    with pytest.raises(ValueError, match=f"task={re.escape(str(task))}: must be one of lift, can"):
        shipped(exported, task)
