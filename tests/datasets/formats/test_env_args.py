import pytest

from reconverge.datasets.formats.env_args import convention, input_frame

SCALE = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]
ARM = {"type": "OSC_POSE", "input_max": 1, "output_max": SCALE}
ARM_15 = {**ARM, "input_type": "absolute", "input_ref_frame": "world", "gripper": {"type": "GRIP"}}


def env_args(controller, **kwargs):
    return {
        "type": 1,
        "env_version": "1.5.1",
        "env_kwargs": {"controller_configs": controller} | kwargs,
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (env_args({**ARM, "control_delta": True}), {"input_type": "delta"}),
        (env_args({**ARM, "control_delta": False}), {"input_type": "absolute"}),
        (env_args([{**ARM, "control_delta": False}]), {"input_type": "absolute"}),
        (env_args({"type": "BASIC", "body_parts": {"right": ARM_15}}), {"input_type": "absolute"}),
        (
            env_args({"type": "BASIC", "body_parts": {"arms": {"right": ARM_15}}}),
            {"input_type": "absolute"},
        ),
        (env_args(ARM), {}),
    ],
)
def test_convention_reads_the_arm_of_every_version(given, wanted):
    said = {"controller": "OSC_POSE", "input_max": 1, "output_max": SCALE}
    assert convention(given) == {**said, **wanted}


def test_convention_says_robot_rate_and_gripper():
    kwargs = {"robots": ["Panda", "Sawyer"], "control_freq": 10, "gripper_types": "default"}
    found = convention(env_args({"type": "JOINT_VELOCITY", "kp": 3}, **kwargs))
    said = {"controller": "JOINT_VELOCITY", "kp": 3}
    assert found == {"robot": "Panda, Sawyer", "control_hz": 10, **said}
    other = convention(env_args(None, robots="Panda", gripper_types=["Robotiq85Gripper"]))
    assert other == {"robot": "Panda", "gripper": "Robotiq85Gripper"}


@pytest.mark.parametrize(
    "damaged", [{}, {"env_kwargs": []}, env_args("BASIC"), env_args([]), env_args([3])]
)
def test_convention_of_what_says_nothing_is_empty(damaged):
    assert convention(damaged) == {}


def test_input_frame_is_read_below_arms():
    parts = {"type": "BASIC", "body_parts": {"arms": {"right": ARM_15}}}
    assert input_frame("here", env_args(parts)) == "world"
