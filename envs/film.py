"""Films of episodes: offscreen frames, one or many in a frame, encoded as H.264.

Nothing here is loaded unless a film is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

import imageio_ffmpeg
import mujoco
import numpy as np
from jaxtyping import UInt8

from reconverge.envs.render.captions import GREEN, RED, Grid, caption, inset, shortened
from reconverge.envs.render.opengl import Canvas, RenderError
from reconverge.envs.render.viewpoint import fixed_camera, hangs, shown, upright
from reconverge.envs.suites import SUITES
from reconverge.envs.suites.suite import Suite
from reconverge.envs.task import Task
from reconverge.envs.vector import Advanced, VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.files import replacing

Show = Callable[[np.ndarray], None]  # takes the frames [height, width, 3] of a film in turn

# One a control step, in real time; every other of Meta-World's 80 a second, at half speed.
FRAMES_PER_SECOND = 20
SLOWEST = 0.5  # of real time, that a film passes in where steps are left out
# Pixels of MuJoCo's shadow map: half of Meta-World's looks the same and takes a third less time.
SHADOW_MAP_SIZE = 2048
LAST_PICTURE_FRAMES = 20  # for which the last picture of a film is shown
# By the suffix of a film's name, ffmpeg's options for its encoding.
ENCODINGS = {
    ".mp4": "-c:v libx264 -pix_fmt yuv420p -crf 20 -movflags +faststart",
    ".gif": "-filter_complex [0]split[a][b];[a]palettegen[p];[b][p]paletteuse",
}


class Camera:
    """Pictures of a model's episodes from one of its cameras. To be used and closed in the thread
    that made it.
    """

    def __init__(self, model: mujoco.MjModel, name: str, width: int, height: int, suite: Suite):
        self._view = fixed_camera(model, name)
        self._hanging = hangs(model, self._view.fixedcamid)
        if min(width, height) < 2 or width % 2 or height % 2:
            raise RenderError(
                f"width and height must be even and positive (H.264), got {width} x {height}"
            )
        model.vis.quality.shadowsize = SHADOW_MAP_SIZE
        self._canvas = Canvas(model, width, height, shown(suite))

    def picture(self, data: mujoco.MjData) -> UInt8[np.ndarray, "height width 3"]:
        """Render what the camera sees, upright."""
        self._canvas.draw(data, self._view)
        return upright(self._canvas.pixels, self._hanging).copy()

    def close(self) -> None:
        """Free the canvas; pictures can no longer be made."""
        self._canvas.close()


class FilmedEnv(VectorEnv):
    """A VectorEnv that passes a frame of every state to `show`: a grid of captioned pictures, one
    an episode.

    It has `episodes` slots, or as many for each of the `titles`, whose grids stand side by side.
    Of a task that is seen in pictures, these are in the corner of each.
    The last picture of an episode is shown until all have ended, then for LAST_PICTURE_FRAMES.
    `camera`: None for the task's own.
    """

    stride = 1

    def __init__(
        self,
        task: Task,
        show: Show,
        *,
        camera: str | None,
        width: int,
        height: int,
        episodes: int,
        titles: Sequence[str],
    ):
        self._grid = Grid(episodes, width, height, tuple(titles))
        slots = episodes * max(1, len(titles))
        super().__init__(task, slots)
        suite = SUITES[task.suite]
        camera = camera or task.camera or suite.camera
        model = getattr(self.simulator, "picture_model", None)
        if model is None:
            raise RenderError(f"the simulator of {task.name} has no picture_model to be filmed")
        self._camera = Camera(model, camera, width, height, suite)
        self._frequency = self.simulator.fingerprint["control_frequency"]
        self.steps_per_frame = max(1, round(SLOWEST * self._frequency / FRAMES_PER_SECOND))
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

    def advance(
        self, slots: Sequence[int], chunks: np.ndarray, limits: Sequence[int] | None = None
    ) -> Advanced:
        """Advance one control step: chunks [n, 1, Da]."""
        done = super().advance(slots, chunks, limits)
        for i, slot in enumerate(slots):
            self._steps[slot] += 1
            if done.success[i]:
                self._outcomes[slot] = "success"
            elif done.diverged[i] or self._steps[slot] >= self.task.max_steps:
                self._outcomes[slot] = "diverged" if done.diverged[i] else "failure"
            if self._outcomes[slot] or self._shown(slot):
                self._picture(slot)
        ended = all(self._outcomes)
        if ended or any(map(self._shown, slots)):
            frame = self._frame()
            for _ in range(LAST_PICTURE_FRAMES if ended else 1):
                self._show(frame)
        return done

    def close(self) -> None:
        self._camera.close()
        super().close()

    def _shown(self, slot: int) -> bool:
        return self._steps[slot] % self.steps_per_frame == 0

    def _picture(self, slot: int) -> None:
        seconds, outcome = self._steps[slot] / self._frequency, self._outcomes[slot]
        name = ": ".join(filter(None, (self.task.name, self.task.language)))
        rest = f"   seed {self._seeds[slot]}   {seconds:5.2f} s"
        seen = self._camera.picture(self.simulator.picture_data(self.episodes[slot]))
        if self.task.sight:
            seen = inset(seen, self.look([slot])[0])
        text = shortened(name, rest, seen.shape[1])
        self._pictures[slot] = caption(seen, text, outcome, GREEN if outcome == "success" else RED)

    def _frame(self) -> np.ndarray:
        return self._grid.frame(
            self._pictures, [outcome == "success" for outcome in self._outcomes]
        )


@contextmanager
def open_video(path: Path, *, width: int, height: int) -> Iterator[Show]:
    """Yield a function that takes frames; they are a film at `path` (mp4: H.264, yuv420p; or gif)
    once the block ends without an error, which leaves `path` unchanged.

    Raises RenderError for a file that cannot be written.
    """
    if path.suffix.lower() not in ENCODINGS:
        raise RenderError(f"{path}: must end in {' or '.join(ENCODINGS)}")
    try:
        with replacing(path) as temporary, _encoder(temporary, width, height) as show:
            yield show
    except ReconvergeError as error:
        if isinstance(error.__cause__, OSError):  # of `replacing`
            raise RenderError(str(error)) from error
        raise


@contextmanager
def _encoder(path: Path, width: int, height: int) -> Iterator[Show]:
    """Encode frames into `path`. Raises OSError with ffmpeg's words for what it cannot write."""
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {FRAMES_PER_SECOND} -i -"
    encoded = ENCODINGS[path.suffix.lower()]
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error"]
    command = [*program, *raw.split(), *encoded.split(), os.fspath(path)]
    encoder = Popen(command, stdin=PIPE, stderr=PIPE)
    assert encoder.stdin is not None
    pipe = encoder.stdin
    try:
        with suppress(BrokenPipeError):  # the encoder has ended, and says why
            yield lambda frame: _write(pipe, frame)
        _, log = encoder.communicate()
        if encoder.returncode:
            raise OSError(" ".join(log.decode(errors="replace").split())[:200])
    finally:
        if encoder.poll() is None:
            encoder.kill()
            encoder.communicate()


def _write(pipe: IO[bytes], frame: np.ndarray) -> None:
    pipe.write(frame.tobytes())
