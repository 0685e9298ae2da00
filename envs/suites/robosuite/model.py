"""robosuite's environments, and their models without what costs time and decides nothing."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from reconverge.envs.suites.robosuite.scene import ROBOSUITE
from reconverge.envs.task import Task

CONSTRUCTION_SEED = 0  # fixes what robosuite draws when it builds a model (the size of Lift's cube)
# Links of the Panda that no joint position brings into contact: testing them finds nothing.
NON_COLLIDING_LINKS = (
    ("link0", "link1"),
    ("link0", "link2"),
    ("link1", "link3"),
    ("link2", "link4"),
    ("link3", "link5"),
)


def make_robosuite(task: Task, **options: Any) -> Any:
    """Make robosuite's own environment of a task: Panda, OSC_POSE, sparse reward, soft resets."""
    import robosuite

    defaults = {
        "robots": "Panda",
        "controller_configs": panda_controller(task.input_frame),
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "control_freq": ROBOSUITE.control_hz,
        "hard_reset": False,
        "ignore_done": True,
        "seed": CONSTRUCTION_SEED,
    }
    return robosuite.make(task.simulator, **{**defaults, **options})


def panda_controller(input_frame: str) -> dict[str, Any]:
    """Return robosuite's configuration of OSC_POSE with actions in a frame; robosuite logs errors
    alone from here on.
    """
    from robosuite.controllers import load_composite_controller_config
    from robosuite.utils.log_utils import ROBOSUITE_DEFAULT_LOGGER

    ROBOSUITE_DEFAULT_LOGGER.setLevel(logging.ERROR)
    controller = load_composite_controller_config(controller="BASIC", robot="Panda")
    controller["body_parts"]["right"]["input_ref_frame"] = input_frame
    return controller


def lean_model(env: Any, objects: Sequence[str]) -> mujoco.MjModel:
    """Return robosuite's model without what costs time and decides nothing.

    What the task hides, all but `objects`, is fixed where it hides it: robosuite moves it 10 m
    away, where it falls for ever and costs most of the simulation of PickPlaceCan (18 of its 33
    degrees of freedom). Without a joint it keeps its body, so that no identifier changes.
    An object that robosuite's reset places by editing the model, as it has no free joint, is a
    mocap body (`make_mocap`). Links that cannot touch are not tested for contact, and the force
    sensors, which no observation has, are off.
    """
    placed = {o.root_body for o in env.model.mujoco_objects if o.name in objects}
    others = [o for o in env.model.mujoco_objects if o.name not in objects]
    hidden = {other.root_body for other in others if other.joints}
    tree = ElementTree.fromstring(env.model.get_xml())
    for body in tree.iter("body"):
        if body.get("name") in hidden:
            for joint in _joints(body):
                body.remove(joint)
            body.set("pos", "10 10 10")
    make_mocap(tree, placed)
    exclude_contacts(tree)
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, encoding="unicode"))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
    for i in range(model.nbody):  # what robosuite's reset placed by editing the compiled model
        if model.body(i).name not in hidden:
            model.body_pos[i] = env.sim.model.body_pos[i]
            model.body_quat[i] = env.sim.model.body_quat[i]
    return model


def make_mocap(tree: ElementTree.Element, placed: set[str]) -> None:
    """Make mocap bodies, and no others, of those in `placed` without a joint: where they stand is
    in every episode's data, where a reset would edit the model.
    """
    for body in tree.iter("body"):
        body.attrib.pop("mocap", None)  # marks of robosuite's viewer
        if body.get("name") in placed and not _joints(body):
            body.set("mocap", "true")


def _joints(body: ElementTree.Element) -> list[ElementTree.Element]:
    return [*body.findall("joint"), *body.findall("freejoint")]


def exclude_contacts(tree: ElementTree.Element) -> None:
    """Let a model not test for contact what cannot touch (NON_COLLIDING_LINKS)."""
    contact = ElementTree.SubElement(tree, "contact")
    for pair in NON_COLLIDING_LINKS:
        ElementTree.SubElement(
            contact, "exclude", {f"body{i + 1}": f"robot0_{link}" for i, link in enumerate(pair)}
        )


def state_indices(lean: mujoco.MjModel, full: mujoco.MjModel) -> tuple[np.ndarray, int]:
    """Return the indices of the lean model's time, joint positions and velocities in the full
    model's, and the full model's number of them.
    """
    names = [lean.joint(i).name for i in range(lean.njnt)]
    qpos = [
        full.joint(name).qposadr[0] + i
        for name in names
        for i in range(lean.joint(name).qpos0.size)
    ]
    qvel = [
        full.joint(name).dofadr[0] + i
        for name in names
        for i in range(lean.joint(name).damping.size)
    ]
    return np.array([0, *np.add(qpos, 1), *np.add(qvel, 1 + full.nq)]), 1 + full.nq + full.nv
