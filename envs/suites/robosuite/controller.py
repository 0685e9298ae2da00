"""The controller of robosuite's Panda, read from a live environment, and episodes under it."""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np

from reconverge.envs.suites.robosuite.osc import ARM, control_step
from reconverge.errors import ReconvergeError


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
    gripper_speed: float  # of the finger command in a control step, as a share of its half range


def read_controller(env: Any) -> Controller:
    """Read the constants of a robosuite environment's controller.

    Raises ReconvergeError for a robot or controller that this file does not implement.
    """
    robot = env.robots[0]
    arm, gripper = robot.part_controllers.get("right"), robot.part_controllers.get("right_gripper")
    required = {
        "robot": (_arm(robot.robot_model), "Panda"),
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
            raise ReconvergeError(
                f"native stepping supports {what} {supported!r} only, found {found!r}"
            )
    limits = env.sim.model.actuator_ctrlrange
    actuators = [
        *robot._ref_actuators_indexes_dict["right"],
        *robot._ref_actuators_indexes_dict["right_gripper"],
    ]
    if actuators != list(range(ARM + 2)):
        raise ReconvergeError(
            f"native stepping supports actuators 0..{ARM + 1} only, found {actuators}"
        )
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


def _arm(model: Any) -> str:
    """Return the name of a robot's model without what it stands on (LIBERO's names)."""
    return type(model).__name__.removeprefix("Mounted").removeprefix("OnTheGround")


class Episode:
    """One running simulation: MuJoCo data, the arrays of it that the controller reads, and the
    controller's memory.

    `diverged` is true once MuJoCo has found a bad state. `success` is set by the simulator.
    """

    def __init__(self, model: mujoco.MjModel):
        self.model = model
        self.data = mujoco.MjData(model)
        self.initial_joints = np.zeros(ARM)  # null-space posture
        self.gripper_command = np.zeros(2)  # in [-1, 1], one a finger
        self.diverged = self.success = False
        self._views = (
            self.data.qpos,
            self.data.qvel,
            self.data.ctrl,
            self.data.site_xpos,
            self.data.site_xmat,
            self.data.qfrc_bias,
            self.data.qM,
            self.data.warning.number,
        )
        self.poses = self.data.site_xpos, self.data.xpos, self.data.xquat, self.data.qpos
        self._work = (
            np.zeros((3, model.nv)),
            np.zeros((3, model.nv)),
            np.zeros((model.nv, model.nv)),
        )

    def reset(self, start: np.ndarray, qvel: np.ndarray | float = 0.0) -> None:
        """Start where `StartStates.draw` says, with joint velocities `qvel`."""
        mujoco.mj_resetData(self.model, self.data)
        qpos, placed = np.split(start, [self.model.nq])
        self.data.qpos[:] = qpos
        for i, pose in enumerate(placed.reshape(-1, 7)):
            self.data.mocap_pos[i], self.data.mocap_quat[i] = pose[:3], pose[3:]
        self.data.qvel[:] = qvel
        mujoco.mj_forward(self.model, self.data)
        self.initial_joints[:] = qpos[:ARM]
        self.gripper_command[:] = 0.0
        self.diverged = self.success = False

    def step(self, controller: Controller, action: np.ndarray) -> None:
        """Advance one control step under `action` [7] in [-1, 1]: pose change in the input frame,
        gripper closing.
        """
        self.diverged = control_step(
            self.model._address,
            self.data._address,
            controller,
            np.asarray(action, dtype=np.float64),
            self.initial_joints,
            self.gripper_command,
            self._views,
            self._work,
        )
