"""What a native control step reads of an environment of metaworld: its objects, as in
`_get_pos_objects` and `_get_quat_objects`, and its success condition, as in `evaluate_state`.

An environment with a row in READINGS is observed and judged natively. One without goes on with
metaworld's Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nextafter, pi

Part = tuple[str, str]  # "body", "geom", "site" or "joint", and its name in the model

# How an orientation is stored at the place that is read.
NO_ORIENTATION, QUATERNION, MATRIX = range(3)  # zeros; (w, x, y, z) as it is; to (x, y, z, w)
# Success conditions; `envs.suites.metaworld.stepping.succeeded` has them.
NEAR, PARTS_NEAR, OVER_HOOP, INSERTED, ABOVE, HOOKED, JOINT_ABOVE, LEVER_UP = range(8)

Vector = tuple[float, float, float]
XYZ, XY = (1.0, 1.0, 1.0), (1.0, 1.0, 0.0)
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
UNMOVED: Vector = (-0.0, -0.0, -0.0)  # added to a number, -0.0 changes no bit; 0.0 changes -0.0


@dataclass(frozen=True)
class Object:
    """An object in the observation."""

    position: Part
    orientation: Part | None = None
    stored: int = NO_ORIENTATION
    offset: Vector = UNMOVED  # metres that are added to the position


@dataclass(frozen=True)
class Success:
    """A condition, and the numbers in it."""

    condition: int
    limit: float = 0.0  # metres from the goal; position of a joint, or radians from upright
    axes: Vector = XYZ  # factors of the distance along x, y and z
    object: int = 0  # whose distance it is
    offset: Vector = UNMOVED  # metres that are added to its position before
    parts: tuple[Part, ...] = ()  # one or two joints or sites that the condition reads as well


@dataclass(frozen=True)
class Reading:
    """One or two objects in the order of the observation, and the success condition."""

    objects: tuple[Object, ...]
    success: Success


def _body(name: str, offset: Vector = UNMOVED) -> Object:
    return Object(("body", name), ("body", name), QUATERNION, offset)


def _site(name: str) -> Object:
    return Object(("site", name))


def _rotated(position: Part, matrix: Part) -> Object:
    return Object(position, matrix, MATRIX)


def _near(limit: float, axes: Vector = XYZ, **others) -> Success:
    return Success(NEAR, limit, axes, **others)


def _faucet(handle: str, **others) -> Reading:
    seen = Object(("site", handle), ("body", "faucetBase"), QUATERNION, (0.0, 0.0, -0.01))
    return Reading((seen,), _near(0.07, **others))


def _alone(seen: Object, success: Success) -> Reading:
    return Reading((seen,), success)


GEOM, PUCK, MUG, STICK = ("geom", "objGeom"), ("geom", "puck"), ("geom", "mug"), ("body", "stick")
BALL, DOOR, PEG = ("body", "soccer_ball"), ("geom", "handle"), ("site", "pegGrasp")
FINGERS = (("site", "rightEndEffector"), ("site", "leftEndEffector"))
BLOCK = _rotated(("body", "obj"), GEOM)
BUTTON_ABOVE, BUTTON_BEFORE = (0.0, 0.0, 0.193), (0.0, -0.193, 0.0)
NUT = Object(("site", "RoundNut-8"), ("body", "RoundNut"), QUATERNION)
REACHED = Success(PARTS_NEAR, 0.05, parts=FINGERS)
BELOW_8_CM = nextafter(0.08, 0.0)  # metaworld's condition is less than 0.08
UNTURNED = ("body", "world")  # quaternion (1, 0, 0, 0)

READINGS = {
    "assembly-v3": _alone(NUT, Success(HOOKED, 0.02, parts=(("site", "RoundNut"),))),
    "basketball-v3": _alone(_body("bsktball"), Success(OVER_HOOP, 0.08, (1.0, 1.0, 2.0))),
    "bin-picking-v3": _alone(_body("obj"), _near(0.05)),
    "box-close-v3": _alone(_body("top_link"), _near(BELOW_8_CM)),
    "button-press-topdown-v3": _alone(_body("button", BUTTON_ABOVE), _near(0.024, Z)),
    "button-press-topdown-wall-v3": _alone(_body("button", BUTTON_ABOVE), _near(0.024, Z)),
    "button-press-v3": _alone(_body("button", BUTTON_BEFORE), _near(0.02, Y)),
    "button-press-wall-v3": _alone(_body("button", BUTTON_BEFORE), _near(0.03, Y)),
    "coffee-button-v3": _alone(
        Object(("site", "buttonStart"), UNTURNED, QUATERNION), _near(0.02, Y)
    ),
    "coffee-pull-v3": _alone(_rotated(("body", "obj"), MUG), _near(0.07)),
    "coffee-push-v3": _alone(_rotated(("body", "obj"), MUG), _near(0.07)),
    "disassemble-v3": _alone(NUT, Success(ABOVE)),
    "door-close-v3": _alone(_rotated(DOOR, DOOR), _near(0.08)),
    "door-lock-v3": _alone(
        Object(("site", "lockStartLock"), ("body", "door_link"), QUATERNION), _near(0.02, Z)
    ),
    "door-open-v3": _alone(_rotated(DOOR, DOOR), _near(0.08, X)),
    "door-unlock-v3": _alone(
        Object(("site", "lockStartUnlock"), ("body", "door_link"), QUATERNION), _near(0.02, X)
    ),
    "drawer-close-v3": _alone(
        Object(("body", "drawer_link"), offset=(0.0, -0.16, 0.05)), _near(0.05 + 0.015)
    ),
    "drawer-open-v3": _alone(_body("drawer_link", (0.0, -0.16, 0.0)), _near(0.03)),
    "faucet-close-v3": _faucet("handleStartClose"),
    "faucet-open-v3": _faucet("handleStartOpen", offset=(-0.04, 0.0, 0.03)),
    "hammer-v3": Reading(
        (_body("hammer"), _body("nail_link")),
        Success(JOINT_ABOVE, 0.09, parts=(("joint", "NailSlideJoint"),)),
    ),
    "hand-insert-v3": _alone(_body("obj"), _near(0.05)),
    "handle-press-side-v3": _alone(_site("handleStart"), _near(0.02, Z)),
    "handle-press-v3": _alone(_site("handleStart"), _near(0.02, Z)),
    "handle-pull-side-v3": _alone(_site("handleCenter"), _near(0.08)),
    "handle-pull-v3": _alone(_site("handleRight"), _near(0.05, Z)),
    "lever-pull-v3": _alone(
        _rotated(("site", "leverStart"), GEOM),
        Success(LEVER_UP, pi / 24, parts=(("joint", "LeverAxis"),)),
    ),
    "peg-insert-side-v3": _alone(
        _rotated(PEG, PEG),
        Success(PARTS_NEAR, 0.07, (1.0, 2.0, 2.0), parts=(("site", "pegHead"),)),
    ),
    "peg-unplug-side-v3": _alone(
        Object(("site", "pegEnd"), ("body", "plug1"), QUATERNION), _near(0.07)
    ),
    "pick-out-of-hole-v3": _alone(_body("obj"), _near(0.07)),
    "pick-place-v3": _alone(BLOCK, _near(0.07)),
    "pick-place-wall-v3": _alone(_rotated(GEOM, GEOM), _near(0.07)),
    "plate-slide-back-side-v3": _alone(_rotated(PUCK, PUCK), _near(0.07)),
    "plate-slide-back-v3": _alone(_rotated(PUCK, PUCK), _near(0.07)),
    "plate-slide-side-v3": _alone(_rotated(PUCK, PUCK), _near(0.07)),
    "plate-slide-v3": _alone(_rotated(PUCK, PUCK), _near(0.07)),
    "push-back-v3": _alone(_rotated(GEOM, GEOM), _near(0.07)),
    "push-v3": _alone(BLOCK, _near(0.05)),
    "push-wall-v3": _alone(_rotated(GEOM, GEOM), _near(0.07)),
    "reach-v3": _alone(BLOCK, REACHED),
    "reach-wall-v3": _alone(BLOCK, REACHED),
    "shelf-place-v3": _alone(BLOCK, _near(0.07)),
    "soccer-v3": _alone(_rotated(BALL, BALL), _near(0.07)),
    "stick-pull-v3": Reading(
        (_rotated(STICK, STICK), _site("insertion")),
        Success(INSERTED, 0.12, object=1, parts=(("site", "stick_end"),)),
    ),
    "sweep-into-v3": _alone(BLOCK, _near(0.05, XY)),
    "sweep-v3": _alone(_body("obj"), _near(0.05)),
    "window-close-v3": _alone(_site("handleCloseStart"), _near(0.05, X)),
    "window-open-v3": _alone(_site("handleOpenStart"), _near(0.05, X)),
}
