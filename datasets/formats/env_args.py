"""robomimic's `env_args`: what actions mean, and how to make the environment again."""

import json
from collections.abc import Mapping
from typing import Any

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.exchange import dictionary

ROBOSUITE, GYM = 1, 2  # robomimic's EnvType
FRAMES = ("world", "base")
ARM_SETTINGS = ("input_min", "input_max", "output_min", "output_max", "impedance_mode", "kp")


def parse_env_args(where: str, text: Any) -> dict[str, Any]:
    """Read the dictionary of a file's `env_args`. Raises ConversionError if it is none."""
    try:
        env_args = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConversionError(
            f"{where}: env_args is not JSON ({error}); restore the file"
        ) from error
    if not isinstance(env_args, dict) or not isinstance(env_args.get("env_kwargs", {}), dict):
        raise ConversionError(f"{where}: env_args is no object with env_kwargs; restore the file")
    return env_args


def input_frame(where: str, env_args: Mapping[str, Any]) -> str | None:
    """Return the frame of the arm's actions, "world" or "base"; None if not of robosuite.

    Take it from the controller's configuration, in the layout of 1.4 or of 1.5, else robosuite's
    default: "world" before 1.5 (OSC in 1.4 knows no other), "base" since.
    """
    if env_args.get("type") != ROBOSUITE:
        return None
    frame = _arm(env_args).get("input_ref_frame")
    if frame is not None and frame not in FRAMES:
        raise ConversionError(
            f"{where}: input_ref_frame is {frame!r}; only {' and '.join(FRAMES)} are known"
        )
    if frame is not None:
        return frame
    version = str(env_args.get("env_version") or "1.4")
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError as error:
        raise ConversionError(
            f"{where}: env_version is {version!r}, expected such as '1.4.1'"
        ) from error
    return "world" if (major, minor) < (1, 5) else "base"


def convention(env_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return what robosuite's `env_args` say that actions mean, in the terms of
    `Suite.convention`; what they do not say is left out.

    Reads the controllers of robosuite 1.2 to 1.4 (one layer, `control_delta`) and of 1.5 (parts).
    """
    kwargs, arm = dictionary(env_args, "env_kwargs"), _arm(env_args)
    stated = arm.get("control_delta")
    delta = "delta" if stated is True else "absolute" if stated is False else None
    found = {
        "robot": _names(kwargs.get("robots")),
        "controller": arm.get("type"),
        "input_type": arm.get("input_type") or delta,
        "control_hz": kwargs.get("control_freq"),
        **{name: arm.get(name) for name in ARM_SETTINGS},
        "gripper": _names(kwargs.get("gripper_types")),
    }
    return {name: value for name, value in found.items() if value not in (None, "default")}


def _names(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _arm(env_args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of the (right) arm's controller, {} if there is none."""
    configs = dictionary(env_args, "env_kwargs").get("controller_configs")
    config = configs[0] if isinstance(configs, list) and configs else configs
    config = config if isinstance(config, Mapping) else {}
    if "body_parts" not in config:
        return config
    parts = {**dictionary(config, "body_parts")}
    parts |= dictionary(parts, "arms")
    return dictionary(parts, "right") or dictionary(parts, "left")


def make_env_args(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a store's own `env_args`, else some that describe the simulator in its attributes.

    robosuite.make(env_name, **env_kwargs) of the recorded version makes the environment of a store
    that was collected with robosuite.
    """
    if dictionary(attributes, "env_args"):
        return attributes["env_args"]
    simulator, versions = dictionary(attributes, "simulator"), dictionary(attributes, "versions")
    name = simulator.get("environment", attributes.get("task", "unknown"))
    told = {"action_scale", "stiffness", "controller", "input_frame", "robot", "control_frequency"}
    if simulator.get("suite") != "robosuite" or not told <= simulator.keys():
        return {"env_name": name, "type": GYM, "env_kwargs": {}}
    scale, stiffness = simulator["action_scale"], simulator["stiffness"]
    arm = {
        "type": simulator["controller"],
        "input_max": 1,
        "input_min": -1,
        "output_max": scale,
        "output_min": [-value for value in scale],
        "kp": stiffness,
        "damping_ratio": 1,
        "impedance_mode": "fixed",
        "input_type": "delta",
        "input_ref_frame": attributes.get("input_frame", simulator["input_frame"]),
        "uncouple_pos_ori": True,
        "interpolation": None,
        "ramp_ratio": 0.2,
        "gripper": {"type": "GRIP"},
    }
    kwargs = {
        "robots": simulator["robot"],
        "controller_configs": {"type": "BASIC", "body_parts": {"right": arm}},
        "control_freq": simulator["control_frequency"],
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": True,
        "reward_shaping": False,
        "ignore_done": True,
    }
    return {
        "env_name": name,
        "env_version": versions.get("robosuite"),
        "type": ROBOSUITE,
        "env_kwargs": kwargs,
    }
