"""One episode at a time through gymnasium's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle

from reconverge.envs.cameras import View, proprioception
from reconverge.envs.catalog import get_task
from reconverge.envs.suites import SUITES, in_frame, make_simulator
from reconverge.envs.suites.suite import Simulator
from reconverge.envs.task import Task
from reconverge.envs.vector import check_actions
from reconverge.errors import ReconvergeError, unknown

RENDER_MODES = ("rgb_array",)


class TaskEnv(gymnasium.Env, EzPickle):
    """A task as a gymnasium environment, for instance `TaskEnv("lift")` or `TaskEnv("push-wall")`.

    Actions in [-1, 1]. robosuite [7]: change of the gripper's position (0.05 m for 1) and
    orientation (0.5 rad for 1) in the robot's base frame, or with `input_frame="world"` in the
    world's, then the gripper (positive closes), 20 steps a second. Meta-World [4]: change of the
    hand's target (0.01 m for 1), then the gripper's effort, 80 steps a second. The episode
    terminates on success with reward 1. `reset(seed=s)` gives the same state for the same s in any
    process.

    With `render_mode="rgb_array"`, `render` returns what `camera` (None: the task's own) sees, in
    `width` x `height` pixels, both even; OpenGL is loaded by its first call.

    With a `view` an observation is "state", what the robot itself measures, and by each camera's
    name its picture [size, size, 3].
    """

    metadata = {"render_modes": list(RENDER_MODES)}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        input_frame: str = "base",
        render_mode: str | None = None,
        camera: str | None = None,
        width: int = 480,
        height: int = 360,
        view: View | None = None,
    ):
        EzPickle.__init__(self, task, input_frame, render_mode, camera, width, height, view)
        self.task = in_frame(get_task(task), input_frame)
        self.render_mode = check_render_mode(render_mode)
        self.metadata = make_metadata(self.task)
        self.simulator = make_simulator(self.task)
        self.episode = self.simulator.new_episode()
        self.action_space = make_action_space(self.task)
        self.observation_space = make_observation_space(self.task, view)
        self._look = Look(self.simulator, view) if view else None
        self._pictures = Pictures(self.simulator, camera, width, height)
        self._steps = 0
        self._begun = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        check_reset_options(options)
        super().reset(seed=seed)
        state_seed = seed if seed is not None else draw_seed(self.np_random)
        self.simulator.reset(self.episode, state_seed)
        self._steps, self._begun = 0, True
        return self._observation(), {"seed": state_seed}

    def step(self, action):
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset before step")
        action = np.asarray(action)
        check_actions(self.task, action, axes=1)
        self.simulator.step(self.episode, action)
        self._steps += 1
        success, diverged = self.episode.success, self.episode.diverged
        info = {"success": success, "diverged": diverged}
        truncated = diverged or self._is_over_time()
        return self._observation(), float(success), success, truncated, info

    def render(self) -> np.ndarray | None:
        """Return a picture [height, width, 3] of the episode, or None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('nothing is rendered without render_mode="rgb_array"')
            return None
        return self._pictures.take(self.episode)

    def close(self) -> None:
        """Free the cameras."""
        self._pictures.close()
        if self._look is not None:
            self._look.close()

    def _observation(self) -> dict[str, np.ndarray]:
        flat = self.simulator.observe([self.episode])[0]
        return named(self.task, flat, self._look.take(self.episode) if self._look else {})

    def _is_over_time(self) -> bool:
        return self._steps >= self.task.max_steps


class UntimedTaskEnv(TaskEnv):
    """The same without a time limit, which `gymnasium.make` sets with a wrapper."""

    def _is_over_time(self) -> bool:
        return False


class Pictures:
    """Pictures of a simulator's episodes, with a camera that is opened for the first."""

    def __init__(self, simulator: Simulator, camera: str | None, width: int, height: int):
        suite = SUITES[simulator.task.suite]
        self._simulator, self._suite = simulator, suite
        self._name = camera or simulator.task.camera or suite.camera
        self._size = (width, height)
        self._camera: Any = None

    def take(self, episode: Any) -> np.ndarray:
        """Return a picture [height, width, 3]; RenderError says why there can be none."""
        if self._camera is None:
            from reconverge.envs.film import Camera

            self._camera = Camera(
                self._simulator.picture_model, self._name, *self._size, self._suite
            )
        return np.ascontiguousarray(self._camera.picture(self._simulator.picture_data(episode)))

    def close(self) -> None:
        """Free the camera; the next picture opens another."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None


class Look:
    """Pictures of a simulator's episodes for observations, with a painter that is opened for the
    first.
    """

    def __init__(self, simulator: Simulator, view: View):
        from reconverge.envs.render.painter import painters

        self._view, self._make = view, painters(simulator, view)
        self._painter: Any = None

    def take(self, episode: Any) -> dict[str, np.ndarray]:
        """Return the pictures by camera; RenderError says why there can be none."""
        if self._painter is None:
            self._painter = self._make()
        pictures = np.empty(self._view.shape, np.uint8)
        self._painter.draw(episode, pictures)
        return dict(zip(self._view.cameras, pictures, strict=True))

    def close(self) -> None:
        """Free the painter; the next picture opens another."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None


def named(
    task: Task, flat: np.ndarray, pictures: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the parts of flat observations [..., Do]; beside pictures, "state"."""
    return {"state": proprioception(task, flat), **pictures} if pictures else task.split(flat)


def make_action_space(task: Task) -> gymnasium.spaces.Box:
    """Return the space of actions [Da]."""
    return gymnasium.spaces.Box(-1.0, 1.0, (task.action_size,), np.float32)


def make_observation_space(task: Task, view: View | None) -> gymnasium.Space:
    """Return the space of observations, its keys in the order of the flat observation [Do]; with a
    view, of "state" and pictures.
    """
    if view is None:
        parts = [(key, _box(*bounds)) for key, bounds in task.observations.items()]
        return gymnasium.spaces.Dict(parts)
    view.in_suite(task)
    limits = proprioception(task, np.array([task.low, task.high]))
    pictures = [
        (camera, gymnasium.spaces.Box(0, 255, view.shape[1:], np.uint8)) for camera in view.cameras
    ]
    return gymnasium.spaces.Dict([("state", _box(*limits.tolist())), *pictures])


def _box(low: Sequence[float], high: Sequence[float]) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(*np.array([low, high], np.float32), dtype=np.float32)


def make_metadata(task: Task) -> dict[str, Any]:
    """Return gymnasium's metadata; films at `render_fps` pictures a second are in real time."""
    return {"render_modes": list(RENDER_MODES), "render_fps": SUITES[task.suite].control_hz}


def check_render_mode(render_mode: str | None) -> str | None:
    """Return the mode; ReconvergeError unless it is None or of RENDER_MODES."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise unknown("render_mode", render_mode, RENDER_MODES)
    return render_mode


def check_reset_options(options: dict[str, Any] | None) -> None:
    """Raise ReconvergeError for an option: an episode depends on its seed alone."""
    if options:
        names = ", ".join(map(str, options))
        raise ReconvergeError(f"reset(options=...): {names}: a task has none; give a seed alone")


def draw_seed(stream: np.random.Generator) -> int:
    """Draw the seed of an episode that was given none."""
    return int(stream.integers(2**31))
