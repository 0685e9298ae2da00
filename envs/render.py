"""Films of episodes: offscreen frames through EGL, one or many in a frame, encoded as H.264.

No display and no GPU needed; Mesa's software renderer does. Nothing here is loaded unless a film is asked for.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

import imageio_ffmpeg
import mujoco
import numpy as np
from jaxtyping import UInt8

from envs.pictures import GREEN, RED, Grid, caption
from envs.tasks import Task
from envs.vector import VectorEnv

Show = Callable[[np.ndarray], None]  # takes the frames [height, width, 3] of a film in turn

CAMERAS = {"Lift": "sideview", "PickPlaceCan": "agentview", "NutAssemblySquare": "sideview"}
CAMERA = "corner3"  # of every Meta-World model
SEEN = {"robosuite": ([1], []), "metaworld": ([0, 1], [0, 1])}  # groups of geoms and sites (marks) that are shown
FRAMES_PER_SECOND = 20  # a frame a control step: real time for robosuite, a quarter of it for Meta-World
SHADOWS = 2048  # pixels of MuJoCo's shadow map: half of Meta-World's, looks the same, a third of the time less
HOLD = 20  # frames for which the last picture of a film stays
LIBRARIES = {"libegl1": ("libEGL.so.1",), "libgl1": ("libOpenGL.so.0", "libGL.so.1")}  # Debian package: one of these


class RenderError(ValueError):
    """Pictures cannot be made or written; one line says why and what to do."""


class Camera:
    """Pictures of a model's episodes from one of its cameras. To be closed, in the thread that made it."""

    def __init__(self, model: mujoco.MjModel, name: str, width: int, height: int, suite: str = "robosuite"):
        names = [model.camera(i).name for i in range(model.ncam)]
        if name not in names:
            raise RenderError(f"unknown camera {name!r}; choose from {', '.join(names)}")
        if min(width, height) < 2 or width % 2 or height % 2:
            raise RenderError(f"width and height must be even and positive (H.264), got {width} x {height}")
        self._model = model
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        model.vis.quality.shadowsize = SHADOWS
        self._gl, self._context = _open_context(model, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._view = mujoco.MjvCamera()
        self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, names.index(name)
        self._options = mujoco.MjvOption()
        geoms, sites = SEEN[suite]
        self._options.geomgroup[:] = [group in geoms for group in range(len(self._options.geomgroup))]
        self._options.sitegroup[:] = [group in sites for group in range(len(self._options.sitegroup))]
        self._rectangle = mujoco.MjrRect(0, 0, width, height)

    def picture(self, data: mujoco.MjData) -> UInt8[np.ndarray, "height width 3"]:
        """What the camera sees."""
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        self._gl.make_current()
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        pixels = np.empty((self._rectangle.height, self._rectangle.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rectangle, self._context)
        return pixels[::-1]

    def close(self) -> None:
        """Free the context; pictures can no longer be made."""
        self._context.free()
        self._gl.free()


class FilmedEnv(VectorEnv):
    """A VectorEnv whose every state is a frame handed to `show`: a captioned picture of each episode, in a grid.

    `episodes` slots, or as many for each of the `titles`, whose grids stand side by side. An episode that has ended
    holds its last picture, and so does the film for a moment once all have.
    """

    def __init__(
        self,
        task: Task,
        show: Show,
        *,
        camera: str | None = None,
        width: int = 640,
        height: int = 480,
        episodes: int = 1,
        titles: Sequence[str] = (),
        input_frame: str = "base",
    ):
        self._grid = Grid(episodes, width, height, tuple(titles))
        slots = episodes * max(1, len(titles))
        super().__init__(task, slots, input_frame=input_frame)
        camera = camera or CAMERAS.get(task.simulator, CAMERA)
        self._camera = Camera(self.simulator.model, camera, width, height, task.suite)
        self._frequency = self.simulator.fingerprint["control_frequency"]
        self._show = show
        self._steps = [0] * slots
        self._outcomes = [""] * slots
        self._pictures = [np.zeros((height, width, 3), np.uint8)] * slots

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
        observations = super().reset(slots, seeds)
        for slot in slots:
            self._steps[slot], self._outcomes[slot] = 0, ""
            self._picture(slot)
        self._show(self._frame())
        return observations

    def step(self, slots: Sequence[int], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        observations, success, diverged = super().step(slots, actions)
        for i, slot in enumerate(slots):
            self._steps[slot] += 1
            if success[i]:
                self._outcomes[slot] = "success"
            elif diverged[i] or self._steps[slot] >= self.task.horizon:
                self._outcomes[slot] = "diverged" if diverged[i] else "failure"
            self._picture(slot)
        frame = self._frame()
        for _ in range(HOLD if all(self._outcomes) else 1):
            self._show(frame)
        return observations, success, diverged

    def close(self) -> None:
        self._camera.close()
        super().close()

    def _picture(self, slot: int) -> None:
        seconds, outcome = self._steps[slot] / self._frequency, self._outcomes[slot]
        text = f"{self.task.name}   seed {self._seeds[slot]}   {seconds:5.2f} s"
        seen = self._camera.picture(self.episodes[slot].data)
        self._pictures[slot] = caption(seen, text, outcome, GREEN if outcome == "success" else RED)

    def _frame(self) -> np.ndarray:
        return self._grid.frame(self._pictures, [outcome == "success" for outcome in self._outcomes])


@contextmanager
def open_video(path: Path, *, width: int, height: int) -> Iterator[Show]:
    """Takes frames and writes them to `path` (mp4, H.264, yuv420p) when all is done; an error leaves no file there.

    Raises RenderError where the file cannot be written.
    """
    temporary = path.parent / f".{path.stem}.{uuid.uuid4().hex}.partial.mp4"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FRAMES_PER_SECOND), "-i", "-"]
    encoded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *raw, *encoded, os.fspath(temporary)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoder = Popen(command, stdin=PIPE, stderr=PIPE)
    except OSError as error:
        raise RenderError(_unwritable(path, str(error))) from error
    assert encoder.stdin is not None
    pipe = encoder.stdin
    try:
        with suppress(BrokenPipeError):  # the encoder has ended, and says why
            yield lambda frame: _write(pipe, frame)
        _, log = encoder.communicate()
        if encoder.returncode:
            raise RenderError(_unwritable(path, log.decode(errors="replace")))
        temporary.replace(path)
    finally:
        if encoder.poll() is None:
            encoder.kill()
            encoder.communicate()
        temporary.unlink(missing_ok=True)


def _write(pipe: IO[bytes], frame: np.ndarray) -> None:
    pipe.write(frame.tobytes())


def _unwritable(path: Path, reason: str) -> str:
    return f"{path}: cannot be written ({' '.join(reason.split())[:200]}); check the disk's space and rights"


def missing_packages() -> list[str]:
    """Debian packages of the OpenGL libraries that are not installed."""
    return [package for package, names in LIBRARIES.items() if not any(_loads(name) for name in names)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _open_context(model: mujoco.MjModel, width: int, height: int):
    """EGL's context and MuJoCo's, current in this thread."""
    missing = missing_packages()
    if missing:
        raise RenderError(f"no offscreen rendering without OpenGL: apt-get install {' '.join(missing)}")
    with suppress(ImportError):
        import triton  # noqa: F401  # torch does for its first optimiser; after Mesa's LLVM its own would crash
    try:
        from mujoco.egl import GLContext

        gl = GLContext(width, height)
        gl.make_current()
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    except (ImportError, RuntimeError, mujoco.FatalError) as error:
        reason = " ".join(str(error).split())[:160]
        remedy = "apt-get install libegl1 libgl1 libgl1-mesa-dri"
        raise RenderError(f"no offscreen rendering ({reason}); for a driver: {remedy}") from error
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
    return gl, context
