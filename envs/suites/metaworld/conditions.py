"""What a native control step reads of an environment of metaworld: its objects, as in
`_get_pos_objects` and `_get_quat_objects`, and its success condition, as in `evaluate_state`.

An environment with a row in READINGS is observed and judged natively. One without goes on with
metaworld's Python.
"""

from __future__ import annotations

from dataclasses import dataclass

Part = tuple[str, str]  # "body", "geom", "site" or "joint", and its name in the model

# How an orientation is stored at the place that is read.
NO_ORIENTATION, QUATERNION, MATRIX = range(3)  # zeros; (w, x, y, z) as it is; to (x, y, z, w)
# Success conditions; `envs.suites.metaworld.stepping.succeeded` has them.
NEAR, JOINT_ABOVE, INSERTED = range(3)

XYZ, X, Z = (1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Object:
    """An object in the observation."""

    position: Part
    orientation: Part | None = None
    stored: int = NO_ORIENTATION
    raised: float = 0.0  # metres that are added to the position's z


@dataclass(frozen=True)
class Success:
    """A condition, and the numbers in it."""

    condition: int
    limit: float  # metres from the goal, or position of the joint
    axes: tuple[float, float, float] = XYZ  # along which the distance is taken: 1 or 0
    object: int = 0  # whose distance it is
    part: Part | None = None  # joint or site that the condition reads as well


@dataclass(frozen=True)
class Reading:
    """One or two objects in the order of the observation, and the success condition."""

    objects: tuple[Object, ...]
    success: Success


def _body(name: str) -> Object:
    return Object(("body", name), ("body", name), QUATERNION)


def _rotated(position: Part, matrix: Part) -> Object:
    return Object(position, matrix, MATRIX)


def _near(limit: float, axes: tuple[float, float, float] = XYZ) -> Success:
    return Success(NEAR, limit, axes)


PUCK = ("geom", "objGeom")
STICK = ("body", "stick")

READINGS = {
    "hammer-v3": Reading(
        (_body("hammer"), _body("nail_link")),
        Success(JOINT_ABOVE, 0.09, part=("joint", "NailSlideJoint")),
    ),
    "push-wall-v3": Reading((_rotated(PUCK, PUCK),), _near(0.07)),
    "faucet-close-v3": Reading(
        (Object(("site", "handleStartClose"), ("body", "faucetBase"), QUATERNION, raised=-0.01),),
        _near(0.07),
    ),
    "push-back-v3": Reading((_rotated(PUCK, PUCK),), _near(0.07)),
    "stick-pull-v3": Reading(
        (_rotated(STICK, STICK), Object(("site", "insertion"))),
        Success(INSERTED, 0.12, object=1, part=("site", "stick_end")),
    ),
    "handle-press-side-v3": Reading((Object(("site", "handleStart")),), _near(0.02, Z)),
    "push-v3": Reading((_rotated(("body", "obj"), PUCK),), _near(0.05)),
    "shelf-place-v3": Reading((_rotated(("body", "obj"), PUCK),), _near(0.07)),
    "window-close-v3": Reading((Object(("site", "handleCloseStart")),), _near(0.05, X)),
    "peg-unplug-side-v3": Reading(
        (Object(("site", "pegEnd"), ("body", "plug1"), QUATERNION),), _near(0.07)
    ),
}
