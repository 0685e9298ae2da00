"""Operational-space control of robosuite's Panda, stepped natively.

One compiled call runs a whole control step: for every physics substep MuJoCo's first half step, robosuite's
OSC_POSE torques and gripper command, MuJoCo's second half step. It calls libmujoco directly and does not hold the
interpreter lock, so episodes step in parallel threads. Constants are read from a live robosuite environment; a
configuration that this file does not implement is refused.

Control law: Khatib 1987, as in robosuite/controllers/parts/arm/osc.py (decoupled position and orientation, fixed
impedance, null-space posture torques towards the initial joints).
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import mujoco
import numpy as np
from numba import njit

from envs.native import failed, mj_full_m, mj_jac_site, mj_step1, mj_step2

logging.disable(logging.WARNING)  # robosuite warns at import of optional parts that are not used here
from robosuite.utils.transform_utils import quat2mat  # noqa: E402

logging.disable(logging.NOTSET)

ARM = 7  # joints of the Panda arm; they are the first degrees of freedom of the model
NULLSPACE_KP = 10.0  # robosuite.utils.control_utils.nullspace_torques


class Controller(NamedTuple):
    """Constants of one robot's controller (metres, radians, newton metres)."""

    substeps: int
    site: int  # end-effector site that the controller moves
    kp: np.ndarray  # [6] stiffness
    kd: np.ndarray  # [6] damping
    scale: np.ndarray  # [6] pose change for an action of 1
    input_rotation: np.ndarray  # [3, 3] from the frame in which actions are given to the world
    control_low: np.ndarray  # [9] actuator limits: arm torques, then finger positions
    control_high: np.ndarray  # [9]
    gripper_speed: float  # change of the finger command in a control step, as a share of its half range


def read_controller(env) -> Controller:
    """Constants of a robosuite environment's controller; ValueError names what is not implemented here."""
    robot = env.robots[0]
    arm, gripper = robot.part_controllers.get("right"), robot.part_controllers.get("right_gripper")
    required = {
        "robot": (type(robot.robot_model).__name__, "Panda"),
        "robots": (len(env.robots), 1),
        "gripper": (type(robot.gripper["right"]).__name__, "PandaGripper"),
        "composite controller": (robot.composite_controller.name, "BASIC"),
        "arm controller": (type(arm).__name__, "OperationalSpaceController"),
        "arm controller kind": (getattr(arm, "name_suffix", None), "POSE"),
        "gripper controller": (type(gripper).__name__, "SimpleGripController"),
    }
    if type(arm).__name__ == "OperationalSpaceController":
        required |= {
            "input_type": (arm.input_type, "delta"),
            "impedance_mode": (arm.impedance_mode, "fixed"),
            "uncouple_pos_ori": (arm.uncoupling, True),
            "interpolation": ((arm.interpolator_pos, arm.interpolator_ori), (None, None)),
            "lite_physics": (arm.lite_physics, True),
            "goal update": (arm._goal_update_mode, "achieved"),
            "arm joints": (list(arm.qvel_index), list(range(ARM))),
            "action range": ((arm.input_min.min(), arm.input_max.max()), (-1, 1)),
            "output range": (list(arm.output_min), list(-arm.output_max)),
        }
    for what, (found, supported) in required.items():
        if found != supported:
            raise ValueError(f"native stepping supports {what} {supported!r} only, found {found!r}")
    limits = env.sim.model.actuator_ctrlrange
    actuators = [*robot._ref_actuators_indexes_dict["right"], *robot._ref_actuators_indexes_dict["right_gripper"]]
    if actuators != list(range(ARM + 2)):
        raise ValueError(f"native stepping supports actuators 0..{ARM + 1} only, found {actuators}")
    _, base_rotation = robot.composite_controller.get_controller_base_pose("right")
    return Controller(
        substeps=int(env.control_timestep / env.model_timestep),
        site=int(env.sim.model.site_name2id(arm.ref_name)),
        kp=np.array(arm.kp, dtype=np.float64),
        kd=np.array(arm.kd, dtype=np.float64),
        scale=np.array(arm.output_max, dtype=np.float64),
        input_rotation=base_rotation if arm.input_ref_frame == "base" else np.eye(3),
        control_low=np.array(limits[:, 0]),
        control_high=np.array(limits[:, 1]),
        gripper_speed=float(robot.gripper["right"].speed),
    )


class Episode:
    """One running simulation: MuJoCo data, the arrays of it that the controller reads, and the controller's memory.

    `diverged` once MuJoCo has found a bad state; `success` is for whoever judges it to keep.
    """

    def __init__(self, model: mujoco.MjModel):
        self.model = model
        self.data = mujoco.MjData(model)
        self.initial_joints = np.zeros(ARM)  # null-space posture
        self.gripper_command = np.zeros(2)  # in [-1, 1], one a finger
        self.diverged = self.success = False
        self._views = (
            self.data.qpos, self.data.qvel, self.data.ctrl, self.data.site_xpos, self.data.site_xmat,
            self.data.qfrc_bias, self.data.qM, self.data.warning.number,
        )  # fmt: skip
        self.poses = (self.data.site_xpos, self.data.xpos, self.data.xquat, self.data.qpos)  # for observers
        self._work = (np.zeros((3, model.nv)), np.zeros((3, model.nv)), np.zeros((model.nv, model.nv)))

    def reset(self, qpos: np.ndarray, qvel: np.ndarray | float = 0.0) -> None:
        """Start from joint positions `qpos`, at rest unless `qvel` says otherwise."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        self.data.qvel[:] = qvel
        mujoco.mj_forward(self.model, self.data)
        self.initial_joints[:] = qpos[:ARM]
        self.gripper_command[:] = 0.0
        self.diverged = self.success = False

    def step(self, controller: Controller, action: np.ndarray) -> None:
        """Advance one control step under `action` [7] in [-1, 1]: pose change in the input frame, gripper closing."""
        self.diverged = _control_step(
            self.model._address, self.data._address, controller, np.asarray(action, dtype=np.float64),
            self.initial_joints, self.gripper_command, self._views, self._work,
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _rotation(rotation_vector):
    """Rotation matrix of an axis-angle vector, in robosuite's single precision."""
    angle = np.sqrt(np.sum(rotation_vector**2))
    quaternion = np.array([0.0, 0.0, 0.0, 1.0])
    if angle > 0.0:
        quaternion[:3] = rotation_vector / angle * np.sin(angle / 2.0)
        quaternion[3] = np.cos(angle / 2.0)
    return quat2mat(quaternion).astype(np.float64)


@njit(cache=True, nogil=True, error_model="numpy")
def _product(a, b):
    out = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _solve(a, b):
    """x [n, m] with a x = b for symmetric positive definite a (Cholesky; LAPACK is slower at this size)."""
    n, m = b.shape
    lower = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = a[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = np.sqrt(total) if i == j else total / lower[j, j]
    x = np.empty((n, m))
    x[:] = b
    for i in range(n):
        for k in range(i):
            for c in range(m):
                x[i, c] -= lower[i, k] * x[k, c]
        for c in range(m):
            x[i, c] /= lower[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            for c in range(m):
                x[i, c] -= lower[k, i] * x[k, c]
        for c in range(m):
            x[i, c] /= lower[i, i]
    return x


@njit(cache=True, nogil=True, error_model="numpy")
def _torques(controller, goal_position, goal_rotation, position, rotation, jacobian, inertia, q, qd, initial, bias):
    """Joint torques [7] of operational-space control towards a goal pose in the world."""
    twist = np.zeros(6)
    posture = np.zeros(ARM)
    for j in range(ARM):
        posture[j] = NULLSPACE_KP * (initial[j] - q[j]) - 2.0 * np.sqrt(NULLSPACE_KP) * qd[j]
        for i in range(6):
            twist[i] += jacobian[i, j] * qd[j]
    error = np.zeros(6)
    for i in range(3):
        error[i] = goal_position[i] - position[i]
    for c in range(3):  # 1/2 sum of the cross products of current and desired axes
        error[3] += 0.5 * (rotation[1, c] * goal_rotation[2, c] - rotation[2, c] * goal_rotation[1, c])
        error[4] += 0.5 * (rotation[2, c] * goal_rotation[0, c] - rotation[0, c] * goal_rotation[2, c])
        error[5] += 0.5 * (rotation[0, c] * goal_rotation[1, c] - rotation[1, c] * goal_rotation[0, c])
    acceleration = np.empty((6, 1))
    for i in range(6):
        acceleration[i, 0] = controller.kp[i] * error[i] - controller.kd[i] * twist[i]

    mobility = _product(jacobian, _solve(inertia, jacobian.T))  # J M^-1 J^T, the inverse of the task-space inertia
    linear = _solve(mobility[:3, :3], acceleration[:3])
    angular = _solve(mobility[3:, 3:], acceleration[3:])

    # Null-space torques N^T M a with N = I - M^-1 J^T (J M^-1 J^T)^-1 J, that is M a - J^T (J M^-1 J^T)^-1 J a.
    drift = np.zeros((6, 1))
    for i in range(6):
        for j in range(ARM):
            drift[i, 0] += jacobian[i, j] * posture[j]
    posture_wrench = _solve(mobility, drift)
    wrench = np.empty(6)
    for i in range(3):
        wrench[i] = linear[i, 0] - posture_wrench[i, 0]
        wrench[3 + i] = angular[i, 0] - posture_wrench[3 + i, 0]
    torques = np.empty(ARM)
    for j in range(ARM):
        total = bias[j]
        for i in range(6):
            total += jacobian[i, j] * wrench[i]
        for k in range(ARM):
            total += inertia[j, k] * posture[k]
        torques[j] = total
    return torques


@njit(cache=True, nogil=True, error_model="numpy")
def _control_step(model, data, controller, action, initial, gripper, views, work):
    qpos, qvel, control, site_xpos, site_xmat, bias, sparse_inertia, warnings = views
    jacp, jacr, full_inertia = work
    low, high = controller.control_low, controller.control_high
    frame = controller.input_rotation
    goal_position, goal_rotation = np.zeros(3), np.zeros((3, 3))
    jacobian, inertia = np.zeros((6, ARM)), np.zeros((ARM, ARM))
    for substep in range(controller.substeps):
        mj_step1(model, data)
        position = site_xpos[controller.site]
        rotation = site_xmat[controller.site].reshape(3, 3)
        if substep == 0:
            change = np.minimum(np.maximum(action[:6], -1.0), 1.0) * controller.scale
            for i in range(3):
                goal_position[i] = position[i]
                for j in range(3):
                    goal_position[i] += frame[i, j] * change[j]
            goal_rotation = _product(frame, _product(_rotation(change[3:]), _product(frame.T.copy(), rotation)))
            sign = np.sign(action[6])
            gripper[0] = min(max(gripper[0] - controller.gripper_speed * sign, -1.0), 1.0)
            gripper[1] = min(max(gripper[1] + controller.gripper_speed * sign, -1.0), 1.0)
            for i in range(2):
                middle, half = 0.5 * (high[ARM + i] + low[ARM + i]), 0.5 * (high[ARM + i] - low[ARM + i])
                control[ARM + i] = min(max(middle + half * gripper[i], low[ARM + i]), high[ARM + i])
        mj_jac_site(model, data, jacp.ctypes.data, jacr.ctypes.data, np.int32(controller.site))
        mj_full_m(model, full_inertia.ctypes.data, sparse_inertia.ctypes.data)
        jacobian[:3] = jacp[:, :ARM]
        jacobian[3:] = jacr[:, :ARM]
        inertia[:] = full_inertia[:ARM, :ARM]
        torques = _torques(
            controller, goal_position, goal_rotation, position, rotation, jacobian, inertia,
            qpos[:ARM], qvel[:ARM], initial, bias,
        )  # fmt: skip
        for j in range(ARM):
            control[j] = min(max(torques[j], low[j]), high[j])
        mj_step2(model, data)
    return failed(warnings, qpos)
