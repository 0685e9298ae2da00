"""robosuite tasks: models, start states and success conditions from robosuite, stepped natively by
`envs.suites.robosuite.controller`.
"""

from __future__ import annotations

from importlib.metadata import version
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import mujoco
import numpy as np

from reconverge.envs.suites.robosuite.controller import Controller, Episode, read_controller
from reconverge.envs.suites.robosuite.model import lean_model, make_robosuite, state_indices
from reconverge.envs.suites.robosuite.starts import StartStates
from reconverge.envs.suites.suite import advance_by_steps
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError


class Starts(Protocol):
    """Where episodes start: joint positions, then poses of mocap bodies."""

    fingers: slice  # joint positions of the gripper's fingers

    def draw(self, seed: int) -> np.ndarray: ...


class RobosuiteSimulator:
    """Everything that the episodes of one robosuite task share: model, controller, start states,
    success condition.

    An episode is a `controller.Episode` from `new_episode`. Different episodes may be used in
    different threads. Actions are pose changes in the task's input frame: the robot's "base"
    (robosuite 1.5) or the "world" (robosuite 1.4).
    """

    def __init__(self, task: Task):
        self.task = task
        self._low, self._high = task.low, task.high
        self.env = make_robosuite(task)
        self.env.reset()
        self.controller: Controller = read_controller(self.env)
        scene = task.scene
        self.model = lean_model(self.env, scene.objects)
        self._state_kept, self._state_size = state_indices(self.model, self.env.sim.model._model)
        self.env.sim.model._model = self.model
        self._starts: Starts = StartStates(self.env, self.model, scene.objects)
        self._wrappers: WeakKeyDictionary[Episode, Any] = WeakKeyDictionary()
        self._one_at_a_time = Lock()  # robosuite keeps state of its own
        self._bodies = [self.model.body(name).id for name in scene.bodies]
        self._sites = [self.model.site(name).id for name in scene.sites]
        self._joints = [int(self.model.joint(name).qposadr[0]) for name in scene.joints]
        seen = (3, 4) * len(self._bodies) + (3,) * len(self._sites) + (1,) * len(self._joints)
        *self._edges, size = np.cumsum(seen).tolist()
        self._numbers = 9 + size  # that `_read` reads
        self._find_hand()

    def _find_hand(self) -> None:
        robot = self.env.robots[0]
        self._hand = self.model.body(robot.robot_model.eef_name["right"]).id
        self._site = robot.eef_site_id["right"]

    @property
    def landmarks(self) -> dict[str, np.ndarray]:
        """Fixed places and sizes of the scene for the expert: metres, radians, world frame."""
        return self.task.scene.landmarks(self.env, self.model)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what decides how an episode goes."""
        return {name: version(name) for name in ("mujoco", "robosuite")}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Environment, robot and controller: what gives recorded actions their meaning."""
        return {
            "suite": "robosuite",
            "environment": self.task.simulator,
            "robot": "Panda",
            "controller": "OSC_POSE",
            "input_frame": self.task.input_frame,
            "control_frequency": self.env.control_freq,
            "substeps": self.controller.substeps,
            "action_scale": self.controller.scale.tolist(),
            "stiffness": self.controller.kp.tolist(),
        }

    @property
    def picture_model(self) -> Any:
        return self.model

    def picture_data(self, episode: Episode) -> Any:
        return episode.data

    def place(self, episode: Episode, data: mujoco.MjData) -> None:
        """Put everything in `data` of `picture_model`, or of a copy, where it is in the episode."""
        for name in ("qpos", "mocap_pos", "mocap_quat"):
            getattr(data, name)[:] = getattr(episode.data, name)
        mujoco.mj_kinematics(data.model, data)
        mujoco.mj_camlight(data.model, data)

    def new_episode(self) -> Episode:
        """Return an episode, to be reset before it is used."""
        return Episode(self.model)

    def reset(self, episode: Episode, seed: int) -> None:
        """Start `episode` from the state that robosuite's own distributions draw with `seed`."""
        with self._one_at_a_time:
            start = self.start(seed)
        episode.reset(start)

    def start(self, seed: int) -> np.ndarray:
        """Return where the episode of `seed` starts (`StartStates.draw`)."""
        return self._starts.draw(seed)

    def restore(self, episode: Episode, state: np.ndarray) -> None:
        """Start `episode` from a flattened state of robosuite: time, joint positions, joint
        velocities.

        The state is one of robosuite's whole model, or of this one, which lacks the joints of
        hidden objects. Raises ReconvergeError for a state of another size, and where something
        stands that robosuite places in the model.
        """
        if self.model.nmocap:
            raise ReconvergeError(
                f"{self.task.name}: a state does not tell where the {self.task.scene.object_name} "
                "stands; start from a seed"
            )
        _, qpos, qvel = np.split(self._kept(state), [1, 1 + self.model.nq])
        episode.reset(qpos, qvel)

    def _kept(self, state: np.ndarray) -> np.ndarray:
        """Return what a state has of this model; ReconvergeError for one of another size."""
        whole, kept = self._state_size, len(self._state_kept)
        if state.shape not in ((whole,), (kept,)):
            sizes = " or ".join(str(size) for size in sorted({whole, kept}))
            raise ReconvergeError(
                f"{self.task.name}: a state has {sizes} numbers, got shape {state.shape}"
            )
        return state[self._state_kept] if len(state) == whole else state

    def step(self, episode: Episode, action: np.ndarray) -> None:
        """Advance one control step and set `episode.success` and `episode.diverged`."""
        episode.step(self.controller, action)
        episode.success = not episode.diverged and self.success(episode)

    def advance(
        self, episodes: list[Episode], chunks: np.ndarray, limits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Advance each episode by up to `limits` [n] of the actions `chunks` [n, Ta, 7], until it
        succeeds or diverges; return observations [n, Ta, Do] and steps [n].
        """
        raw = np.zeros((*chunks.shape[:2], self._numbers))
        steps = advance_by_steps(self.step, self._read, episodes, chunks, limits, raw)
        return self._flat(raw.reshape(-1, self._numbers)).reshape(*raw.shape[:2], -1), steps

    def success(self, episode: Episode) -> bool:
        """Apply robosuite's own success condition to the episode's state."""
        with self._one_at_a_time:
            self.env.sim.data = self._wrapper(episode)
            return bool(self.env._check_success())

    def observe(self, episodes: list[Episode]) -> np.ndarray:
        """Return flat observations [n, Do], float32, after the last physics step (poses as of its
        start, 2 ms before).

        robosuite's `step` returns what its sensors saw at the first physics step of the control
        interval, and object poses in the gripper's frame one control step later still; these are
        the values without that delay.
        """
        raw = np.empty((len(episodes), self._numbers))
        for row, episode in zip(raw, episodes, strict=True):
            self._read(episode, row)
        return self._flat(raw)

    def _flat(self, raw: np.ndarray) -> np.ndarray:
        """Return flat observations [n, Do] of what `_read` has read."""
        eef, eef_quat, fingers, things = np.split(raw, [3, 7, 9], axis=1)
        parts = self._layout(eef, eef_quat, things)
        flat = np.concatenate([*parts, eef, eef_quat, fingers], axis=1).astype(np.float32)
        return np.clip(flat, self._low, self._high)

    def _layout(
        self, eef: np.ndarray, eef_quat: np.ndarray, things: np.ndarray
    ) -> list[np.ndarray]:
        """Return the parts of the observation of what `_read_things` has read."""
        return self.task.scene.layout(eef, eef_quat, *np.split(things, self._edges, axis=1))

    def _read(self, episode: Episode, row: np.ndarray) -> None:
        """Write end-effector position, hand quaternion, fingers, and the scene into `row`."""
        sites, _, quaternions, qpos = episode.poses
        hand = quaternions[self._hand]
        row[:3], row[3:6], row[6] = sites[self._site], hand[1:], hand[0]
        row[7:9] = qpos[self._starts.fingers]
        self._read_things(episode, row[9:])

    def _read_things(self, episode: Episode, row: np.ndarray) -> None:
        """Write what the scene observes of its bodies, sites and joints into `row`."""
        sites, bodies, quaternions, qpos = episode.poses
        at = 0
        for body in self._bodies:
            pose, quaternion = row[at:], quaternions[body]
            pose[:3], pose[3:6], pose[6] = bodies[body], quaternion[1:], quaternion[0]
            at += 7
        for site in self._sites:
            row[at : at + 3] = sites[site]
            at += 3
        for joint in self._joints:
            row[at] = qpos[joint]
            at += 1

    def _wrapper(self, episode: Episode) -> Any:
        """Return robosuite's view of an episode's MuJoCo data, made once."""
        if episode not in self._wrappers:
            wrapper = object.__new__(type(self.env.sim.data))
            wrapper.__dict__.update(_model=self.env.sim.model, _data=episode.data)
            self._wrappers[episode] = wrapper
        return self._wrappers[episode]
