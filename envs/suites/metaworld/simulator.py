"""Meta-World tasks (v3): start states, observations and success conditions from metaworld, stepping
in parallel.

Every episode has an environment of metaworld's own class, which resets it. Control steps are native
(`envs.suites.metaworld.stepping`) where READINGS has the environment; elsewhere metaworld observes
and judges, under the interpreter lock. Rewards are not used. A reset of metaworld moves bodies and
sites of the model, so every thread has a model of its own (20 MB), into which the places of the
episode that it steps are written.
"""

from __future__ import annotations

import copy
import math
import threading
from functools import cached_property
from importlib.metadata import version
from typing import Any

import mujoco
import numpy as np
from metaworld import _encode_task
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from reconverge.envs.suites.metaworld import stepping
from reconverge.envs.suites.metaworld.conditions import READINGS, Reading
from reconverge.envs.suites.native import failed
from reconverge.envs.suites.suite import advance_by_steps
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError

MOST_STARTS = 10_000  # seeds whose start is kept, 2 kB each
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# Of MuJoCo's data, what a picture depends on; rays look for geoms around the bodies' centres.
SHOWN = (
    *("xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat"),
    *("cam_xpos", "cam_xmat", "light_xpos", "light_xdir"),
)


class _Fast(SawyerXYZEnv):
    """A mixin after an environment's class that moves the hand to its start in one native call,
    once for every seed, and puts an observation together without a search by name.
    """

    _starts: dict[int, np.ndarray]  # by seed: state one physics step before the hand's arrival
    _seed: int | None  # None: the hand is not moved

    def _reset_hand(self, steps: int = 50) -> None:
        if self._seed is not None:
            self.data.mocap_pos[0] = self.hand_init_pos
            self.data.mocap_quat[0] = (1.0, 0.0, 1.0, 0.0)
            self.data.ctrl[:] = (-1.0, 1.0)
            self._approach(self._seed, steps * self.frame_skip)
        self.init_tcp = self.tcp_center

    def _approach(self, seed: int, steps: int) -> None:
        state = self._starts.get(seed)
        if state is not None:
            mujoco.mj_setState(self.model, self.data, state, STATE)
        else:
            mujoco.mj_step(self.model, self.data, nstep=steps - 1)
            state = np.empty(mujoco.mj_stateSize(self.model, STATE))
            mujoco.mj_getState(self.model, self.data, state, STATE)
            if len(self._starts) >= MOST_STARTS:
                self._starts.clear()
            self._starts[seed] = state
        mujoco.mj_step(self.model, self.data)  # leaves the derived quantities that metaworld reads

    def _get_curr_obs_combined_no_goal(self) -> np.ndarray:
        hand, right, left = self._hand_and_claws
        places, quaternions = self._get_pos_objects(), self._get_quat_objects()
        between = self.data.xpos[right] - self.data.xpos[left]
        observation = np.zeros(18)
        observation[:3] = self.data.xpos[hand]
        observation[3] = min(max(math.sqrt(between @ between) / 0.1, 0.0), 1.0)
        for i in range(len(places) // 3):
            observation[4 + 7 * i : 7 + 7 * i] = places[3 * i : 3 * i + 3]
            observation[7 + 7 * i : 11 + 7 * i] = quaternions[4 * i : 4 * i + 4]
        return observation

    @cached_property
    def _hand_and_claws(self) -> list[int]:
        return [self.data.body(name).id for name in ("hand", "rightclaw", "leftclaw")]


class Episode:
    """One running simulation: metaworld's environment with MuJoCo data of its own."""

    def __init__(self, template: SawyerXYZEnv, reading: Reading | None):
        self.data = mujoco.MjData(template.model)
        mujoco.mj_forward(template.model, self.data)  # a first reset of metaworld's reads places
        self.env: Any = object.__new__(type(template))
        self.env.__dict__.update(template.__dict__, data=self.data)
        self.observation = np.zeros(template.sawyer_observation_space.shape)
        self.goal = np.zeros(3)
        self.action = np.zeros(4)  # of the last step
        self.diverged = self.success = False
        self._places = (template.model.body_pos.copy(), template.model.site_pos.copy())
        own = (*self._places, self.goal, self.observation)
        self.addresses = stepping.addresses(reading, self.data, own) if reading else b""

    def reset(self, model: mujoco.MjModel, seed: int) -> None:
        """Start as metaworld does with the random vector that its own rule draws first
        with `seed`.
        """
        env = self.env
        env.model = model
        env.np_random = np.random.default_rng(seed)
        env._freeze_rand_vec, env._seed = False, None
        env.reset_model()  # draws, and moves the model's bodies
        env._freeze_rand_vec, env._seed = True, seed
        mujoco.mj_resetData(model, self.data)
        self._see(env.reset_model())
        self.observation[18:36] = self.observation[:18]
        self.goal[:] = env._target_pos
        self.diverged = self.success = False
        for places, moved in zip(self._places, (model.body_pos, model.site_pos), strict=True):
            places[:] = moved
        still = model.site_bodyid == 0
        self.data.site_xpos[still] = model.site_pos[still]  # a picture shows the goal

    def step(self, model: mujoco.MjModel, action: np.ndarray) -> None:
        """Advance one control step under `action` [4] in [-1, 1] as metaworld does."""
        model.body_pos[:], model.site_pos[:] = self._places
        env, self.action, env.model = self.env, action, model
        env.set_xyz_action(action[:3])
        self.data.ctrl[:] = action[3], -action[3]
        mujoco.mj_step(model, self.data, nstep=env.frame_skip)
        mujoco.mj_forward(model, self.data)
        self.diverged = bool(failed(self.data.warning.number, self.data.qpos))
        self._see(env._get_obs())

    def _see(self, observation: np.ndarray) -> None:
        space = self.env.sawyer_observation_space
        np.clip(observation, space.low, space.high, out=self.observation)


class MetaworldSimulator:
    """Everything that the episodes of one Meta-World task share.

    An episode is an `Episode` from `new_episode`. Different episodes may be used in different
    threads.
    """

    def __init__(self, task: Task):
        self.task = task
        cls = ALL_V3_ENVIRONMENTS[task.simulator]
        self._template = type(cls.__name__, (cls, _Fast), {"_starts": {}, "_seed": None})()
        visible_goal = {"env_cls": cls, "rand_vec": None, "partially_observable": False}
        self._template.set_task(_encode_task(task.simulator, visible_goal))
        self._template.seeded_rand_vec = True
        self.model = self._template.model
        self._of_thread = threading.local()
        self._low, self._high = task.low, task.high
        self._scale = float(self._template.action_scale)
        self._reading = READINGS.get(task.simulator)
        if self._reading is not None:
            self.constants = stepping.constants(
                self._reading, self._template, self._low, self._high
            )

    @property
    def landmarks(self) -> dict[str, np.ndarray]:
        """Empty: experts of Meta-World read the observation alone."""
        return {}

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what decides how an episode goes."""
        return {name: version(name) for name in ("mujoco", "metaworld")}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Environment, controller and rate: what gives recorded actions their meaning."""
        return {
            "suite": "metaworld",
            "environment": self.task.simulator,
            "control_frequency": self._template.metadata["render_fps"],
            "substeps": self._template.frame_skip,
            "action_scale": self._scale,
        }

    @property
    def picture_model(self) -> Any:
        return self.model

    def picture_data(self, episode: Any) -> Any:
        return episode.data

    def place(self, episode: Episode, data: mujoco.MjData) -> None:
        """Put everything in `data` of `picture_model` where it is in the episode now."""
        for name in SHOWN:
            getattr(data, name)[:] = getattr(episode.data, name)

    def new_episode(self) -> Episode:
        """Return an episode, to be reset before it is used."""
        return Episode(self._template, self._reading)

    def reset(self, episode: Episode, seed: int) -> None:
        """Start `episode` from the state that metaworld's own distribution draws with `seed`."""
        episode.reset(self._own_model(), seed)

    def restore(self, episode: Episode, state: np.ndarray) -> None:
        """Raise ReconvergeError: MuJoCo's state does not have all of an episode's."""
        raise ReconvergeError(
            f"{self.task.name}: episodes of Meta-World start from a seed, not from a recorded state"
        )

    def step(self, episode: Episode, action: np.ndarray) -> None:
        """Advance one control step and set `episode.success` and `episode.diverged`."""
        if self._reading is not None:
            self.advance([episode], np.asarray(action)[None, None], np.ones(1, np.int64))
        else:
            episode.step(self._own_model(), action)
            episode.success = not episode.diverged and self.success(episode)

    def advance(
        self, episodes: list[Episode], chunks: np.ndarray, limits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Advance each episode by up to `limits` [n] of the actions `chunks` [n, Ta, 4], until it
        succeeds or diverges; return observations [n, Ta, 39], float32, and steps [n].
        """
        seen = np.zeros((*chunks.shape[:2], len(self._low)), np.float32)
        if self._reading is None:
            steps = advance_by_steps(self.step, self._observe_one, episodes, chunks, limits, seen)
        else:
            steps = self._advance_natively(episodes, chunks, limits, seen)
        return seen, steps

    def _advance_natively(
        self, episodes: list[Episode], chunks: np.ndarray, limits: np.ndarray, seen: np.ndarray
    ) -> np.ndarray:
        # In the precision of the actions, as metaworld.
        shifts = np.minimum(np.maximum(chunks[..., :3], -1.0), 1.0) * self._scale
        steps, success, diverged = stepping.advance(
            self._native_model(),
            self.constants,
            np.frombuffer(b"".join([each.addresses for each in episodes]), stepping.ADDRESSES),
            shifts.astype(np.float64),
            chunks[..., 3].astype(np.float64),
            limits,
            seen,
        )
        for i, episode in enumerate(episodes):
            episode.action = chunks[i, steps[i] - 1]
            episode.success, episode.diverged = bool(success[i]), bool(diverged[i])
        return steps

    def _own_model(self) -> mujoco.MjModel:
        """Return the calling thread's model."""
        if not hasattr(self._of_thread, "model"):
            self._of_thread.model = copy.copy(self.model)
        return self._of_thread.model

    def _native_model(self) -> stepping.Model:
        """Return the calling thread's model for compiled functions."""
        if not hasattr(self._of_thread, "native"):
            model = self._own_model()
            self._of_thread.native = stepping.Model(model._address, model.body_pos, model.site_pos)
        return self._of_thread.native

    def success(self, episode: Episode) -> bool:
        """Apply metaworld's own success condition to the episode's state."""
        return bool(episode.env.evaluate_state(episode.observation, episode.action)[1]["success"])

    def observe(self, episodes: list[Episode]) -> np.ndarray:
        """Return flat observations [n, 39], float32."""
        flat = np.array([episode.observation for episode in episodes], dtype=np.float32)
        return np.clip(flat, self._low, self._high)

    def _observe_one(self, episode: Episode, row: np.ndarray) -> None:
        row[:] = self.observe([episode])[0]
