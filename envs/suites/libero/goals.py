"""LIBERO's goals: its predicates on one episode's MuJoCo data, by the package's own tests of
boxes and joints, without its search for contacts by name and without its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mujoco
import numpy as np

Condition = Callable[[Any], bool]  # of mujoco.MjData
ON_TOP = 0.03  # horizontal distance of an object on another, metres: the package's


def read_goal(env: Any, model: mujoco.MjModel) -> Condition:
    """Return the test of a task's goal, equal to `env._check_success` on the same data."""
    goal = env.parsed_problem["goal_state"]
    conditions = [PREDICATES[name](env, model, *args) for name, *args in goal]
    return lambda data: all(holds(data) for holds in conditions)


def _in(env: Any, model: mujoco.MjModel, thing: str, region: str) -> Condition:
    """An object's origin is in a region's box."""
    box, place, body = env.object_sites_dict[region], model.site(region).id, env.obj_body_id[thing]
    return lambda d: bool(
        box.in_box(d.site_xpos[place], d.site_xmat[place].reshape(3, 3), d.xpos[body])
    )


def _on(env: Any, model: mujoco.MjModel, thing: str, base: str) -> Condition:
    if base in env.object_sites_dict:
        return _on_region(env, model, thing, base)
    top, bottom, touch = (
        env.obj_body_id[thing],
        env.obj_body_id[base],
        _touch(env, model, thing, base),
    )

    def holds(data: Any) -> bool:
        over, under = data.xpos[top], data.xpos[bottom]
        near = np.linalg.norm(under[:2] - over[:2]) < ON_TOP
        return bool(under[2] <= over[2] and near) and touch(data)

    return holds


def _on_region(env: Any, model: mujoco.MjModel, thing: str, region: str) -> Condition:
    """An object's origin is over a region, and it touches what the region belongs to, if any."""
    site, place, body = env.object_sites_dict[region], model.site(region).id, env.obj_body_id[thing]
    owner = env.object_states_dict[region].parent_name
    touch = _touch(env, model, owner, thing) if env.get_object(owner) is not None else None

    def holds(data: Any) -> bool:
        rotation = data.site_xmat[place].reshape(3, 3)
        over = site.under(data.site_xpos[place], rotation, data.xpos[body])
        return bool(over) and (touch is None or touch(data))

    return holds


def _touch(env: Any, model: mujoco.MjModel, one: str, other: str) -> Condition:
    """Two objects are in contact."""
    sides = np.zeros((2, model.ngeom), bool)
    for side, name in zip(sides, (one, other), strict=True):
        side[[model.geom(geom).id for geom in env.get_object(name).contact_geoms]] = True

    def holds(data: Any) -> bool:
        a, b = data.contact.geom.T
        return bool(((sides[0, a] & sides[1, b]) | (sides[1, a] & sides[0, b])).any())

    return holds


def _joint_test(test: str, every: bool) -> Callable[..., Condition]:
    """Return a predicate on the joints of an object or of the part of it that a region is in."""

    def make(env: Any, model: mujoco.MjModel, name: str) -> Condition:
        region = env.object_sites_dict.get(name)
        owner = env.get_object(region.parent_name if region else name)
        joints = (region or owner).joints
        addresses = [int(model.joint(joint).qposadr[0]) for joint in joints]
        decide: Callable[[Iterable[bool]], bool] = all if every else any
        return lambda d: decide(bool(getattr(owner, test)(d.qpos[i])) for i in addresses)

    return make


PREDICATES: dict[str, Callable[..., Condition]] = {
    "in": _in,
    "on": _on,
    "open": _joint_test("is_open", every=False),
    "close": _joint_test("is_close", every=True),
    "turnon": _joint_test("turn_on", every=False),
    "turnoff": _joint_test("turn_off", every=True),
}
