"""LIBERO's environments, made without pictures, and their models."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import mujoco

from reconverge.envs.suites.libero.installation import environments, require
from reconverge.envs.suites.libero.starts import seeded
from reconverge.envs.suites.robosuite.model import (
    CONSTRUCTION_SEED,
    exclude_contacts,
    make_mocap,
    panda_controller,
)
from reconverge.envs.suites.robosuite.scene import ROBOSUITE
from reconverge.envs.task import Task


def make_libero(task: Task, *, lean: bool = True, **options: Any) -> Any:
    """Make LIBERO's own environment of a task, once reset: Panda, OSC_POSE, no pictures.

    If `lean`, its model is without what costs time or memory and decides nothing: geoms that only
    show (nine tenths of the meshes), textures, contact tests between links that cannot touch, and
    sensors.
    """
    require(task.name)
    defaults = {
        "robots": ["Panda"],
        "controller_configs": panda_controller(task.input_frame),
        "initialization_noise": None,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "control_freq": ROBOSUITE.control_hz,
        "hard_reset": False,
        "ignore_done": True,
    }
    scene = environments().TASK_MAPPING[task.scene.scene]
    make = _lean(scene) if lean else scene
    with seeded(CONSTRUCTION_SEED):
        env = make(str(task.scene.file), **{**defaults, **options})
        env.reset()
    if lean:
        env.sim.model._model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
    return env


def _lean(scene: type) -> type:
    """Return the class of environments with a lean model; the package wants it to have the same
    name.
    """

    def load(self: Any) -> None:
        super(lean, self)._load_model()
        self.model.generate_id_mappings = lambda sim: None  # for pictures alone, of all geoms

    def edit(self: Any, xml: str) -> str:
        return physics_only(super(lean, self).edit_model_xml(xml), _fixtures(self))

    lean: Any = type(scene.__name__, (scene,), {"_load_model": load, "edit_model_xml": edit})
    return lean


def _fixtures(env: Any) -> set[str]:
    """Return the bodies that a reset places by editing the model, as they have no free joint."""
    return {fixture.root_body for fixture in env.fixtures}


def physics_only(xml: str, fixtures: set[str]) -> str:
    """Return a model without the geoms that only show, their meshes, materials and textures, and
    with `exclude_contacts`. Fixtures are mocap bodies (`make_mocap`).
    """
    tree = ElementTree.fromstring(xml)
    make_mocap(tree, fixtures)
    for body in [*tree.iter("worldbody"), *tree.iter("body")]:
        for geom in [g for g in body.findall("geom") if _only_shows(g)]:
            body.remove(geom)
    for part in [*tree.iter("geom"), *tree.iter("site")]:
        part.attrib.pop("material", None)
    meshes = {geom.get("mesh") for geom in tree.iter("geom")}
    for assets in tree.iter("asset"):
        for asset in list(assets):
            if asset.tag in ("texture", "material") or asset.get("name") not in meshes:
                assets.remove(asset)
    exclude_contacts(tree)
    return ElementTree.tostring(tree, encoding="unicode")


def _only_shows(geom: ElementTree.Element) -> bool:
    return geom.get("group") == "1" and (geom.get("contype"), geom.get("conaffinity")) == ("0", "0")


def picture_model(env: Any) -> mujoco.MjModel:
    """Return the model with all that shows."""
    tree = ElementTree.fromstring(env.model.get_xml())
    make_mocap(tree, _fixtures(env))
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, encoding="unicode"))
