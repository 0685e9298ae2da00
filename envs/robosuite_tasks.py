"""robosuite tasks: models, start states and success conditions from robosuite, stepping by `envs.osc`."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from threading import Lock
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import mujoco
import numpy as np

from envs.osc import Controller, Episode, read_controller
from envs.tasks import Task

OBJECTS = {"Lift": "cube", "PickPlaceCan": "Can", "NutAssemblySquare": "SquareNut"}
# Links of the Panda that no joint position brings into contact: testing for it takes time and finds nothing.
APART = (("link0", "link1"), ("link0", "link2"), ("link1", "link3"), ("link2", "link4"), ("link3", "link5"))
CONSTRUCTION_SEED = 0  # fixes what robosuite draws when it builds a model (the size of Lift's cube)


def make_robosuite(task: Task, input_frame: str = "base", **options) -> Any:
    """robosuite's own environment of a task: Panda, OSC_POSE at 20 Hz, sparse reward, soft resets."""
    import robosuite
    from robosuite.controllers import load_composite_controller_config
    from robosuite.utils.log_utils import ROBOSUITE_DEFAULT_LOGGER

    ROBOSUITE_DEFAULT_LOGGER.setLevel(logging.ERROR)
    controller = load_composite_controller_config(controller="BASIC", robot="Panda")
    controller["body_parts"]["right"]["input_ref_frame"] = input_frame
    defaults = {
        "robots": "Panda",
        "controller_configs": controller,
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "control_freq": 20,
        "hard_reset": False,
        "ignore_done": True,
        "seed": CONSTRUCTION_SEED,
    }
    return robosuite.make(task.simulator, **{**defaults, **options})


class RobosuiteSimulator:
    """Everything that the episodes of one robosuite task share: model, controller, start states, success condition.

    An episode is an `envs.osc.Episode` from `new_episode`. Different episodes may be used in different threads.
    Actions are pose changes in `input_frame`: the robot's "base" (robosuite 1.5) or the "world" (robosuite 1.4).
    """

    def __init__(self, task: Task, input_frame: str = "base"):
        self.task = task
        self._input_frame = input_frame
        self._env = make_robosuite(task, input_frame)
        self._env.reset()
        self.controller: Controller = read_controller(self._env)
        self.model = _lean_model(self._env)
        self._state_kept, self._state_size = _kept_state(self.model, self._env.sim.model._model)
        self._env.sim.model._model = self.model
        self._samplers = _light_samplers(self._env)
        self._wrappers: WeakKeyDictionary[Episode, Any] = WeakKeyDictionary()
        self._qpos = self.model.qpos0.copy()
        self._one_at_a_time = Lock()  # robosuite keeps state of its own

        name = OBJECTS[task.simulator]
        names = self._env.sim.model
        self._body = self.model.body(f"{name}_main").id
        self._hand = self.model.body(self._env.robots[0].robot_model.eef_name["right"]).id
        self._site = self._env.robots[0].eef_site_id["right"]
        robot = self._env.robots[0]
        self._arm = robot._ref_joint_pos_indexes
        fingers = [names.get_joint_qpos_addr(j) for j in robot.gripper["right"].joints]
        self._fingers = slice(fingers[0], fingers[-1] + 1)

    @property
    def landmarks(self) -> dict[str, np.ndarray]:
        """Fixed scene state that robosuite exposes, for the experts: metres and radians, world frame.

        Empty for a task that is not in LANDMARKS. All: `width` between the fingers that hold the object. Can: its
        `height`, `target` at the middle of its `compartment` (half sizes), heights of the bins' `floor` and `walls`,
        the robot's `base`. Square: `peg_top`, `peg_yaw`, height of the `table`, and the `handle` in the nut's frame.
        """
        read = LANDMARKS.get(self.task.simulator)
        return read(self._env, self.model) if read else {}

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what decides how an episode goes."""
        return {name: version(name) for name in ("mujoco", "robosuite")}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the recorded actions mean: environment, robot and controller."""
        return {
            "suite": "robosuite",
            "environment": self.task.simulator,
            "robot": "Panda",
            "controller": "OSC_POSE",
            "input_frame": self._input_frame,
            "control_frequency": self._env.control_freq,
            "substeps": self.controller.substeps,
            "action_scale": self.controller.scale.tolist(),
            "stiffness": self.controller.kp.tolist(),
        }

    def new_episode(self) -> Episode:
        return Episode(self.model)

    def reset(self, episode: Episode, seed: int) -> None:
        """Start `episode` from the initial state that robosuite's own distributions draw with `seed`."""
        with self._one_at_a_time:
            qpos = self.initial_qpos(seed)
        episode.reset(qpos)

    def restore(self, episode: Episode, state: np.ndarray) -> None:
        """Start `episode` from a flattened state of robosuite: time, joint positions, joint velocities.

        The state is one of robosuite's whole model, or of this one, which lacks the joints of hidden objects.
        Raises ValueError for a state of another size.
        """
        whole, kept = self._state_size, len(self._state_kept)
        if state.shape not in ((whole,), (kept,)):
            sizes = " or ".join(str(size) for size in sorted({whole, kept}))
            raise ValueError(f"{self.task.name}: a state has {sizes} numbers, got shape {state.shape}")
        _, qpos, qvel = np.split(state[self._state_kept] if len(state) == whole else state, [1, 1 + self.model.nq])
        episode.reset(qpos, qvel)

    def initial_qpos(self, seed: int) -> np.ndarray:
        """Joint positions drawn as robosuite's reset draws them: joint noise first, then object placements."""
        rng = np.random.default_rng(seed)
        robot = self._env.robots[0]
        noise = robot.initialization_noise
        draw = rng.standard_normal if noise["type"] == "gaussian" else lambda n: rng.uniform(-1.0, 1.0, n)
        qpos = self._qpos.copy()
        qpos[self._arm] = robot.init_qpos + draw(len(robot.init_qpos)) * noise["magnitude"]
        qpos[self._fingers] = robot.gripper["right"].init_qpos
        placements: dict[str, Any] = {}
        for sampler in self._samplers:
            sampler.rng = rng
            placements = sampler.sample(fixtures=placements)
        position, quaternion, _ = placements[OBJECTS[self.task.simulator]]
        joint = self.model.body(self._body).jntadr[0]
        start = self.model.jnt_qposadr[joint]
        qpos[start : start + 7] = [*position, *quaternion]
        return qpos

    def step(self, episode: Episode, action: np.ndarray) -> None:
        """One control step, after which `episode.success` and `episode.diverged` say how it went."""
        episode.step(self.controller, action)
        episode.success = not episode.diverged and self.success(episode)

    def success(self, episode: Episode) -> bool:
        """robosuite's own success condition on the episode's state."""
        with self._one_at_a_time:
            self._env.sim.data = self._wrapper(episode)
            return bool(self._env._check_success())

    def observe(self, episodes: list[Episode]) -> np.ndarray:
        """Flat observations [n, Do], float32, after the last physics step (poses as of its start, 2 ms before).

        robosuite's `step` returns what its sensors saw at the first physics step of the control interval, and object
        poses in the gripper's frame one control step later still; these are the values without that delay.
        """
        raw = np.empty((len(episodes), 16))
        for row, episode in zip(raw, episodes, strict=True):
            self._read(episode, row)
        eef, eef_quat, fingers = raw[:, :3], raw[:, 3:7], raw[:, 7:9]
        position, quat = raw[:, 9:12], raw[:, 12:16]
        if self.task.simulator == "Lift":
            parts = [position, quat, position - eef]
        else:
            parts = [_rotate_back(eef_quat, position - eef), _relative(eef_quat, quat), position, quat]
        flat = np.concatenate([*parts, eef, eef_quat, fingers], axis=1).astype(np.float32)
        return np.clip(flat, self.task.low, self.task.high)

    def _read(self, episode: Episode, row: np.ndarray) -> None:
        """Into row [16]: end-effector position, hand quaternion, fingers, object position, object quaternion."""
        sites, bodies, quaternions, qpos = episode.poses
        hand, body = quaternions[self._hand], quaternions[self._body]
        row[:3], row[3:6], row[6], row[7:9] = sites[self._site], hand[1:], hand[0], qpos[self._fingers]
        row[9:12], row[12:15], row[15] = bodies[self._body], body[1:], body[0]

    def _wrapper(self, episode: Episode) -> Any:
        """robosuite's view of an episode's MuJoCo data, made once."""
        if episode not in self._wrappers:
            wrapper = object.__new__(type(self._env.sim.data))
            wrapper.__dict__.update(_model=self._env.sim.model, _data=episode.data)
            self._wrappers[episode] = wrapper
        return self._wrappers[episode]


def _lift_landmarks(env, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    return {"width": np.array(2.0 * max(env.cube.size[:2]))}


def _can_landmarks(env, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    can = env.objects[env.object_id]
    half = model.geom(can.contact_geoms[0]).size
    bin2 = model.body("bin2").id
    bins = [g for g in range(model.ngeom) if model.geom_bodyid[g] == bin2 and model.geom_contype[g]]
    tops = model.body_pos[bin2, 2] + model.geom_pos[bins, 2] + model.geom_size[bins, 2]
    return {
        "width": np.array(2.0 * half[:2].max()),
        "height": np.array(2.0 * half[2]),
        "target": env.target_bin_placements[env.object_id].copy(),
        "compartment": env.bin_size[:2] / 4.0,
        "floor": np.array(tops.min()),
        "walls": np.array(tops.max()),
        "base": env.robots[0].composite_controller.get_controller_base_pose("right")[0].copy(),
    }


def _square_landmarks(env, model: mujoco.MjModel) -> dict[str, np.ndarray]:
    nut = env.nuts[env.nut_id]
    handle = model.site(nut.important_sites["handle"])  # on the nut's root body
    boxes = [model.geom(name) for name in nut.contact_geoms]
    grasped = min(boxes, key=lambda box: float(np.linalg.norm(box.pos - handle.pos)))
    peg = model.body("peg1")  # robosuite's `_check_success` pairs the square nut with it
    return {
        "width": np.array(2.0 * grasped.size[1]),
        "handle": handle.pos.copy(),
        "peg_top": peg.pos + np.array([0.0, 0.0, model.geom_size[peg.geomadr[0], 2]]),
        "peg_yaw": np.array(2.0 * np.arctan2(peg.quat[3], peg.quat[0])),
        "table": np.array(env.table_offset[2]),
    }


LANDMARKS = {"Lift": _lift_landmarks, "PickPlaceCan": _can_landmarks, "NutAssemblySquare": _square_landmarks}


def _lean_model(env) -> mujoco.MjModel:
    """robosuite's model without what costs time and decides nothing.

    The objects that a single-object task hides are fixed where it hides them: robosuite moves them 10 m away, where
    they fall for ever and cost most of the simulation of PickPlaceCan (18 of its 33 degrees of freedom). Without a
    joint they keep their body, so that every other identifier stays as it was. Links that cannot touch are not tested
    for contact, and the force sensors, which no observation has, are off.
    """
    kept = OBJECTS[type(env).__name__]
    hidden = {o.root_body for o in env.model.mujoco_objects if o.joints and o.name != kept}
    tree = ElementTree.fromstring(env.model.get_xml())
    for body in tree.iter("body"):
        if body.get("name") in hidden:
            for joint in [*body.findall("joint"), *body.findall("freejoint")]:
                body.remove(joint)
            body.set("pos", "10 10 10")
    contact = ElementTree.SubElement(tree, "contact")
    for pair in APART:
        ElementTree.SubElement(contact, "exclude", {f"body{i + 1}": f"robot0_{link}" for i, link in enumerate(pair)})
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, encoding="unicode"))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_SENSOR
    for i in range(model.nbody):  # what robosuite's reset placed by editing the compiled model
        if model.body(i).name not in hidden:
            model.body_pos[i] = env.sim.model.body_pos[i]
            model.body_quat[i] = env.sim.model.body_quat[i]
    return model


def _kept_state(lean: mujoco.MjModel, full: mujoco.MjModel) -> tuple[np.ndarray, int]:
    """Where time, joint positions and velocities of the lean model are in those of the full one, and their number."""
    names = [lean.joint(i).name for i in range(lean.njnt)]
    qpos = [full.joint(name).qposadr[0] + i for name in names for i in range(lean.joint(name).qpos0.size)]
    qvel = [full.joint(name).dofadr[0] + i for name in names for i in range(lean.joint(name).damping.size)]
    return np.array([0, *np.add(qpos, 1), *np.add(qvel, 1 + full.nq)]), 1 + full.nq + full.nv


def _light_samplers(env) -> list[Any]:
    """robosuite's placement samplers over plain copies of their objects, whose sizes it would else parse each time."""
    initializer = env.placement_initializer
    samplers = list(getattr(initializer, "samplers", {"": initializer}).values())
    for sampler in samplers:
        sampler.mujoco_objects = [_light_object(o) for o in sampler.mujoco_objects]
    return samplers


def _light_object(source) -> SimpleNamespace:
    fields = ("name", "horizontal_radius", "bottom_offset", "top_offset")
    light = SimpleNamespace(**{field: getattr(source, field) for field in fields})
    if hasattr(source, "init_quat"):
        light.init_quat = source.init_quat
    return light


def _rotate_back(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Vectors [n, 3] of the world in the frame of quaternions [n, 4] (x, y, z, w)."""
    axis, w = -quaternion[:, :3], quaternion[:, 3:]
    cross = 2.0 * np.cross(axis, vector)
    return vector + w * cross + np.cross(axis, cross)


def _relative(frame: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Orientations [n, 4] in the frame of quaternions [n, 4] (x, y, z, w), with w >= 0."""
    a, aw = -frame[:, :3], frame[:, 3:]
    b, bw = quaternion[:, :3], quaternion[:, 3:]
    vector = aw * b + bw * a + np.cross(a, b)
    w = aw * bw - np.sum(a * b, axis=1, keepdims=True)
    return np.concatenate([vector, w], axis=1) * np.where(w < 0.0, -1.0, 1.0)
