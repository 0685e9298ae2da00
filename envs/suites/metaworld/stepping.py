"""Control steps of Meta-World, compiled: the hand, the physics, the observation and the success
condition of several episodes, for several actions of each, in one call.

It calls libmujoco directly and does not hold the interpreter lock. Every number is computed as
metaworld 3.1.1 does, in the same order, so that all of them are equal bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np
from numba import njit

from reconverge.envs.suites.metaworld.conditions import (
    ABOVE,
    HOOKED,
    INSERTED,
    JOINT_ABOVE,
    LEVER_UP,
    MATRIX,
    OVER_HOOP,
    PARTS_NEAR,
    QUATERNION,
    Part,
    Reading,
)
from reconverge.envs.suites.native import doubles, failed, mj_forward, mj_step, warning_counts

FRAME = 18  # numbers of one frame: hand, opening, two objects of position and quaternion
FULLY_OPEN = 0.1  # metres between the claws that count as an opening of 1
INSERTED_Y, INSERTED_Z = 0.04, 0.06  # of the stick's end from the handle, metres
HOOP = 0.3  # height to which the ball is to come, metres
UPRIGHT = -np.pi / 2.0  # position of the lever's joint, radians


class Model(NamedTuple):
    """MuJoCo's model of one thread, and the arrays of it that an episode changes."""

    address: int
    body_pos: np.ndarray  # [nbody, 3]
    site_pos: np.ndarray  # [nsite, 3]


class Constants(NamedTuple):
    """What all episodes of a task share (metres, world frame)."""

    substeps: int
    hand_low: np.ndarray  # [3] bounds of the hand's target
    hand_high: np.ndarray  # [3]
    low: np.ndarray  # [39] bounds of metaworld's observation
    high: np.ndarray  # [39]
    declared_low: np.ndarray  # [39] float32, bounds of the task's observation
    declared_high: np.ndarray  # [39] float32
    stored: np.ndarray  # [objects] how an object's orientation is stored
    offsets: np.ndarray  # [objects, 3] metres that are added to its position
    condition: int
    limit: float
    axes: np.ndarray  # [3]
    object: int
    offset: np.ndarray  # [3]


def constants(reading: Reading, env: Any, task_low: np.ndarray, task_high: np.ndarray) -> Constants:
    """Return the constants of metaworld's environment `env`."""
    success, space = reading.success, env.sawyer_observation_space
    return Constants(
        substeps=int(env.frame_skip),
        hand_low=np.array(env.mocap_low, np.float64),
        hand_high=np.array(env.mocap_high, np.float64),
        low=space.low,
        high=space.high,
        declared_low=task_low,
        declared_high=task_high,
        stored=np.array([part.stored for part in reading.objects]),
        offsets=np.array([part.offset for part in reading.objects]),
        condition=success.condition,
        limit=success.limit,
        axes=np.array(success.axes),
        object=success.object,
        offset=np.array(success.offset),
    )


# Where the numbers of an episode lie: addresses.
ADDRESSES = np.dtype(
    [
        ("data", np.intp),  # MjData
        ("mocap_pos", np.intp),
        ("mocap_quat", np.intp),
        ("ctrl", np.intp),
        ("qpos", np.intp),
        ("nq", np.intp),  # the number of joint positions, no address
        ("warnings", np.intp),
        ("hand", np.intp),  # positions
        ("right_claw", np.intp),
        ("left_claw", np.intp),
        ("position", np.intp, 2),  # of objects
        ("orientation", np.intp, 2),
        ("parts", np.intp, 2),  # what else the success condition reads
        ("body_pos", np.intp),  # places of the episode's bodies and sites in its model
        ("site_pos", np.intp),
        ("goal", np.intp),  # [3]
        ("observation", np.intp),  # [39] of the last step
    ]
)


def addresses(reading: Reading, data: mujoco.MjData, own: tuple[np.ndarray, ...]) -> bytes:
    """Return one entry of ADDRESSES, as bytes, which are joined fastest. `own`: the episode's
    body_pos, site_pos, goal and observation.
    """

    def position(part: Part | None) -> int:
        if part is None:
            return 0
        kind, name = part
        view = getattr(data, kind)(name)
        return (view.qpos if kind == "joint" else view.xpos).ctypes.data

    def orientation(part: Part | None, stored: int) -> int:
        if part is None:
            return 0
        view = getattr(data, part[0])(part[1])
        return (view.xmat if stored == MATRIX else view.xquat).ctypes.data

    objects, parts = reading.objects, reading.success.parts or (None,)
    arrays = (data.mocap_pos, data.mocap_quat, data.ctrl, data.qpos)
    entry = (
        data._address,
        *(array.ctypes.data for array in arrays),
        len(data.qpos),
        data.warning.number.ctypes.data,
        *(position(("body", name)) for name in ("hand", "rightclaw", "leftclaw")),
        (position(objects[0].position), position(objects[-1].position)),
        tuple(orientation(part.orientation, part.stored) for part in (objects[0], objects[-1])),
        (position(parts[0]), position(parts[-1])),
        *(array.ctypes.data for array in own),
    )
    return np.array(entry, ADDRESSES).tobytes()


@njit(cache=True, nogil=True)
def advance(model, constants, episodes, shifts, efforts, limits, seen):
    """Advance each episode by up to `limits` [n] control steps, until it succeeds or diverges.

    `episodes` is an array [n] of ADDRESSES, `shifts` [n, Ta, 3] are in metres. Writes the
    observations into `seen` [n, Ta, 39]; returns steps, success and diverged, [n] each.
    """
    n = len(episodes)
    steps, success, diverged = np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for i in range(n):
        episode = episodes[i]
        _copy(doubles(episode.body_pos, model.body_pos.size), model.body_pos)
        _copy(doubles(episode.site_pos, model.site_pos.size), model.site_pos)
        limit = min(limits[i], shifts.shape[1])
        while steps[i] < limit and not (success[i] or diverged[i]):
            step = steps[i]
            diverged[i] = control_step(
                model.address, constants, episode, shifts[i, step], efforts[i, step]
            )
            observation = observe(constants, episode)
            success[i] = not diverged[i] and succeeded(constants, episode, observation)
            clip(observation, constants.declared_low, constants.declared_high, seen[i, step])
            steps[i] += 1
    return steps, success, diverged


@njit(cache=True, nogil=True)
def _copy(source, target):
    flat = target.reshape(-1)
    for i in range(len(source)):
        flat[i] = source[i]


@njit(cache=True, nogil=True)
def clip(source, low, high, target):
    """Write the clipped numbers of `source` into `target`, in the precision of `target`."""
    for i in range(len(source)):
        target[i] = source[i]
        if target[i] < low[i]:
            target[i] = low[i]
        elif target[i] > high[i]:
            target[i] = high[i]


@njit(cache=True, nogil=True)
def control_step(model, constants, episode, shift, effort):
    """Move the hand's target, drive the fingers, step the physics; return True if the simulation
    has diverged.
    """
    mocap, quaternion = doubles(episode.mocap_pos, 3), doubles(episode.mocap_quat, 4)
    for i in range(3):
        mocap[i] = min(max(mocap[i] + shift[i], constants.hand_low[i]), constants.hand_high[i])
    quaternion[0], quaternion[1], quaternion[2], quaternion[3] = 1.0, 0.0, 1.0, 0.0
    control = doubles(episode.ctrl, 2)
    control[0], control[1] = effort, -effort
    for _ in range(constants.substeps):
        mj_step(model, episode.data)
    mj_forward(model, episode.data)
    return failed(warning_counts(episode.warnings), doubles(episode.qpos, episode.nq))


@njit(cache=True, nogil=True)
def observe(constants, episode):
    """Return the episode's observation [39], brought up to date: frame, frame before, goal."""
    observation = doubles(episode.observation, 2 * FRAME + 3)
    observation[FRAME : 2 * FRAME] = observation[:FRAME]
    observation[:3] = doubles(episode.hand, 3)
    between = doubles(episode.right_claw, 3) - doubles(episode.left_claw, 3)
    observation[3] = min(max(_norm(between) / FULLY_OPEN, 0.0), 1.0)
    for k in range(len(constants.stored)):
        place = observation[4 + 7 * k : 7 + 7 * k]
        place[:] = doubles(episode.position[k], 3) + constants.offsets[k]
        orientation = observation[7 + 7 * k : 11 + 7 * k]
        if constants.stored[k] == QUATERNION:
            orientation[:] = doubles(episode.orientation[k], 4)
        elif constants.stored[k] == MATRIX:
            orientation[:] = quaternion_of(doubles(episode.orientation[k], 9).reshape(3, 3))
    observation[2 * FRAME :] = doubles(episode.goal, 3)
    clip(observation, constants.low, constants.high, observation)
    return observation


@njit(cache=True, nogil=True)
def succeeded(constants, episode, observation):
    """Tell if the episode's state, as observed, meets metaworld's success condition."""
    condition, limit = constants.condition, constants.limit
    if condition == JOINT_ABOVE:
        return doubles(episode.parts[0], 1)[0] > limit
    if condition == LEVER_UP:
        return abs(doubles(episode.parts[0], 1)[0] - UPRIGHT) <= limit
    goal, point = doubles(episode.goal, 3), decisive_point(constants, episode, observation)
    if condition == ABOVE:
        return point[2] > goal[2]
    if condition == HOOKED:  # on the peg, and below its top
        return _norm((goal - point)[:2]) < limit and goal[2] - point[2] > 0.0
    if condition == OVER_HOOP:
        goal = np.array([goal[0], goal[1], HOOP])
    near = _norm((point - goal) * constants.axes) <= limit
    if condition == INSERTED:  # the stick's end is in the handle
        end = doubles(episode.parts[0], 3)
        near = (
            near
            and end[0] >= point[0]
            and abs(end[1] - point[1]) <= INSERTED_Y
            and abs(end[2] - point[2]) <= INSERTED_Z
        )
    return near


@njit(cache=True, nogil=True)
def decisive_point(constants, episode, observation):
    """Return the point [3] that the success condition compares with the goal."""
    if constants.condition == PARTS_NEAR or constants.condition == HOOKED:
        return (doubles(episode.parts[0], 3) + doubles(episode.parts[1], 3)) / 2.0
    start = 4 + 7 * constants.object
    return observation[start : start + 3] + constants.offset


@njit(cache=True, nogil=True)
def _norm(vector):
    """As numpy's: the sum is BLAS's, which may round otherwise than one written here."""
    return np.sqrt(np.dot(vector, vector))


@njit(cache=True, nogil=True)
def quaternion_of(matrix):
    """Return the quaternion (x, y, z, w) of a rotation matrix [3, 3], as scipy's
    `Rotation.from_matrix` (Markley 2008, doi 10.2514/1.31730).
    """
    trace = matrix[0, 0] + matrix[1, 1] + matrix[2, 2]
    largest = np.argmax(np.array([matrix[0, 0], matrix[1, 1], matrix[2, 2], trace]))
    found = np.empty(4)
    if largest == 3:
        found[0] = matrix[2, 1] - matrix[1, 2]
        found[1] = matrix[0, 2] - matrix[2, 0]
        found[2] = matrix[1, 0] - matrix[0, 1]
        found[3] = 1.0 + trace
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        found[i] = 1.0 - trace + 2.0 * matrix[i, i]
        found[j] = matrix[j, i] + matrix[i, j]
        found[k] = matrix[k, i] + matrix[i, k]
        found[3] = matrix[k, j] - matrix[j, k]
    norm = found[0] * found[0] + found[1] * found[1] + found[2] * found[2] + found[3] * found[3]
    return found / np.sqrt(norm)
