"""Operational-space control, compiled, as one call for a whole control step.

For every physics substep: MuJoCo's first half step, robosuite's OSC_POSE torques and gripper
command, MuJoCo's second half step. It calls libmujoco directly and does not hold the interpreter
lock, so episodes step in parallel threads.

Control law: Khatib 1987, as in robosuite/controllers/parts/arm/osc.py (decoupled position and
orientation, fixed impedance, null-space posture torques towards the initial joints).
"""

from __future__ import annotations

import logging

import numpy as np
from numba import njit

from reconverge.envs.suites.native import failed, mj_full_m, mj_jac_site, mj_step1, mj_step2

# robosuite warns at import of optional parts that are not used here.
disabled = logging.root.manager.disable
logging.disable(max(disabled, logging.WARNING))
from robosuite.utils.transform_utils import quat2mat  # noqa: E402

logging.disable(disabled)

ARM = 7  # joints of the Panda arm; they are the first degrees of freedom of the model
NULLSPACE_KP = 10.0  # robosuite.utils.control_utils.nullspace_torques


@njit(cache=True, nogil=True, error_model="numpy")
def _rotation(rotation_vector):
    """Return the rotation matrix of an axis-angle vector, in robosuite's single precision."""
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
    """Solve a x = b [n, m] for symmetric positive definite a (Cholesky; LAPACK is slower at this
    size).
    """
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
def _torques(
    controller,
    goal_position,
    goal_rotation,
    position,
    rotation,
    jacobian,
    inertia,
    q,
    qd,
    initial,
    bias,
):
    """Return joint torques [7] of operational-space control towards a goal pose, world frame."""
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
        error[3] += 0.5 * (
            rotation[1, c] * goal_rotation[2, c] - rotation[2, c] * goal_rotation[1, c]
        )
        error[4] += 0.5 * (
            rotation[2, c] * goal_rotation[0, c] - rotation[0, c] * goal_rotation[2, c]
        )
        error[5] += 0.5 * (
            rotation[0, c] * goal_rotation[1, c] - rotation[1, c] * goal_rotation[0, c]
        )
    acceleration = np.empty((6, 1))
    for i in range(6):
        acceleration[i, 0] = controller.kp[i] * error[i] - controller.kd[i] * twist[i]

    mobility = _product(
        jacobian, _solve(inertia, jacobian.T)
    )  # J M^-1 J^T, the inverse of the task-space inertia
    linear = _solve(mobility[:3, :3], acceleration[:3])
    angular = _solve(mobility[3:, 3:], acceleration[3:])

    # Null-space torques N^T M a with N = I - M^-1 J^T (J M^-1 J^T)^-1 J, that is M a - J^T (J M^-1
    # J^T)^-1 J a.
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
def control_step(model, data, controller, action, initial, gripper, views, work):
    """Advance one control step in place; return True if the simulation has diverged.

    `model` and `data` are addresses, `controller` a `controller.Controller`, the rest arrays of a
    `controller.Episode`.
    """
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
            goal_rotation = _product(
                frame, _product(_rotation(change[3:]), _product(frame.T.copy(), rotation))
            )
            sign = np.sign(action[6])
            gripper[0] = min(max(gripper[0] - controller.gripper_speed * sign, -1.0), 1.0)
            gripper[1] = min(max(gripper[1] + controller.gripper_speed * sign, -1.0), 1.0)
            for i in range(2):
                middle, half = (
                    0.5 * (high[ARM + i] + low[ARM + i]),
                    0.5 * (high[ARM + i] - low[ARM + i]),
                )
                control[ARM + i] = min(max(middle + half * gripper[i], low[ARM + i]), high[ARM + i])
        mj_jac_site(model, data, jacp.ctypes.data, jacr.ctypes.data, np.int32(controller.site))
        mj_full_m(model, full_inertia.ctypes.data, sparse_inertia.ctypes.data)
        jacobian[:3] = jacp[:, :ARM]
        jacobian[3:] = jacr[:, :ARM]
        inertia[:] = full_inertia[:ARM, :ARM]
        torques = _torques(
            controller,
            goal_position,
            goal_rotation,
            position,
            rotation,
            jacobian,
            inertia,
            qpos[:ARM],
            qvel[:ARM],
            initial,
            bias,
        )
        for j in range(ARM):
            control[j] = min(max(torques[j], low[j]), high[j])
        mj_step2(model, data)
    return failed(warnings, qpos)
