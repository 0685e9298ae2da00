"""LIBERO's environments, made without pictures, and their models."""

from __future__ import annotations

import logging
from typing import Any

import mujoco

from reconverge.envs.suites.libero.package import environments, require
from reconverge.envs.suites.robosuite.model import CONSTRUCTION_SEED
from reconverge.envs.suites.robosuite.scene import ROBOSUITE
from reconverge.envs.suites.libero.starts import seeded
from reconverge.envs.task import Task


def make_libero(task: Task, **options: Any) -> Any:
    """Make LIBERO's own environment of a task, once reset: Panda, OSC_POSE, no pictures."""
    require(task.name)
    from robosuite.controllers import load_composite_controller_config
    from robosuite.utils.log_utils import ROBOSUITE_DEFAULT_LOGGER

    ROBOSUITE_DEFAULT_LOGGER.setLevel(logging.ERROR)
    controller = load_composite_controller_config(controller=None, robot="Panda")
    controller["body_parts"]["right"]["input_ref_frame"] = task.input_frame
    defaults = {
        "robots": ["Panda"],
        "controller_configs": controller,
        "initialization_noise": None,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "control_freq": ROBOSUITE.control_hz,
        "hard_reset": False,
        "ignore_done": True,
    }
    make = environments().TASK_MAPPING[task.scene.scene]
    with seeded(CONSTRUCTION_SEED):
        env = make(str(task.scene.file), **{**defaults, **options})
        env.reset()
    return env


def built_model(env: Any) -> mujoco.MjModel:
    """Return the model before any reset, with fixtures where they are built."""
    return mujoco.MjModel.from_xml_string(env.model.get_xml())
