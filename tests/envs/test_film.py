import resource
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.film import Camera, open_video
from reconverge.envs.render import opengl
from reconverge.envs.render.captions import caption
from reconverge.envs.render.opengl import RenderError
from reconverge.envs.render.viewpoint import shown
from reconverge.envs.suites import SUITES
from reconverge.errors import ReconvergeError

SIZE = {"width": 128, "height": 96}


@pytest.fixture
def lift(simulator_of):
    """Lift's simulator."""
    return simulator_of(TASKS["lift"])


# Pictures.


def test_camera_pictures_are_mujocos(lift):
    episode = lift.new_episode()
    lift.reset(episode, 0)
    camera = Camera(lift.model, "frontview", **SIZE, suite=SUITES["robosuite"])
    found = camera.picture(episode.data)
    camera.close()
    options = mujoco.MjvOption()
    options.geomgroup[:] = [0, 1, 0, 0, 0, 0]
    options.sitegroup[:] = 0
    with mujoco.Renderer(lift.model, SIZE["height"], SIZE["width"]) as renderer:
        renderer.update_scene(episode.data, "frontview", options)
        np.testing.assert_array_equal(found, renderer.render())


def test_camera_pictures_are_upright_where_the_camera_hangs(simulator_of):
    """As Meta-World's in the corners do: the robot stands on the floor."""
    push = simulator_of(TASKS["push"])
    episode = push.new_episode()
    push.reset(episode, 0)
    camera = Camera(push.model, "corner4", **SIZE, suite=SUITES["metaworld"])
    found = camera.picture(episode.data)
    camera.close()
    with mujoco.Renderer(push.model, SIZE["height"], SIZE["width"]) as renderer:
        renderer.update_scene(episode.data, "corner4", shown(SUITES["metaworld"]))
        np.testing.assert_array_equal(found, renderer.render()[::-1, ::-1])


def test_camera_pictures_are_whole_where_another_thread_opens_a_smaller_one(lift, monkeypatch):
    episode = lift.new_episode()
    lift.reset(episode, 0)
    alone = Camera(lift.model, "frontview", **SIZE, suite=SUITES["robosuite"])
    expected = alone.picture(episode.data)
    alone.close()
    make = mujoco.egl.GLContext

    def meanwhile(*size):
        lift.model.vis.global_.offwidth = lift.model.vis.global_.offheight = 16
        return make(*size)

    monkeypatch.setattr(mujoco.egl, "GLContext", meanwhile)
    camera = Camera(lift.model, "frontview", **SIZE, suite=SUITES["robosuite"])
    np.testing.assert_array_equal(camera.picture(episode.data), expected)
    camera.close()


def test_caption_covers_the_foot_only():
    picture = np.full((96, 128, 3), 100, np.uint8)
    written = caption(picture, "lift", "success", (0, 255, 0))
    changed = (written != picture).any(axis=(1, 2))
    assert not changed[:80].any()
    assert changed[80:].all()
    assert (written[80:, :64] > 150).all(axis=2).any()
    green = (written[80:, 64:, 1] > 150) & (written[80:, 64:, 0] < 50)
    assert green.any()


# Errors.


def test_open_video_keeps_an_earlier_film_if_interrupted(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text("an earlier film")
    with pytest.raises(KeyboardInterrupt), open_video(path, **SIZE) as show:  # noqa: PT012
        show(np.zeros((96, 128, 3), np.uint8))
        raise KeyboardInterrupt
    assert path.read_text() == "an earlier film"
    assert list(tmp_path.iterdir()) == [path]


def write_all(show, frames):
    for frame in frames:
        show(frame)


def test_open_video_keeps_an_earlier_film_on_a_full_disk(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text("an earlier film")
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with (
            pytest.raises(RenderError, match="cannot be written"),
            open_video(path, **SIZE) as show,
        ):
            write_all(show, [np.roll(noise, 7 * i, axis=1) for i in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "an earlier film"
    assert list(tmp_path.iterdir()) == [path]


def test_open_video_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "videos").write_text("no folder")
    with (
        pytest.raises(RenderError, match=r"videos/lift\.mp4: cannot be written"),
        open_video(tmp_path / "videos" / "lift.mp4", **SIZE),
    ):
        pass


@pytest.mark.parametrize(
    ("libraries", "packages"),
    [
        ({"libegl1": ("libNone.so",), "libgl1": ("libc.so.6",)}, "libegl1"),
        ({"libegl1": ("libc.so.6",), "libgl1": ("libNone.so", "libNever.so")}, "libgl1"),
        ({"libegl1": ("libNone.so",), "libgl1": ("libNone.so",)}, "libegl1 libgl1"),
    ],
)
def test_camera_names_the_debian_package_of_a_missing_library(
    lift, monkeypatch, libraries, packages
):
    monkeypatch.setattr(opengl, "LIBRARIES", libraries)
    with pytest.raises(RenderError) as caught:
        Camera(lift.model, "frontview", **SIZE, suite=SUITES["robosuite"])
    assert str(caught.value) == f"no offscreen rendering without OpenGL: apt-get install {packages}"


def test_camera_names_the_debian_packages_of_a_missing_driver(lift, monkeypatch):
    def fail(*_):
        raise ImportError("Cannot initialize a EGL device display.\nThis likely means ...")

    monkeypatch.setattr("mujoco.egl.GLContext", fail)
    with pytest.raises(
        RenderError, match=r"Cannot initialize a EGL device display\. .*libgl1-mesa-dri$"
    ):
        Camera(lift.model, "frontview", **SIZE, suite=SUITES["robosuite"])


@pytest.mark.parametrize("device", ["99", "abc", "-1", ""])
def test_camera_names_a_device_that_there_is_not(lift, monkeypatch, capfd, device):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", device)
    with pytest.raises(RenderError, match=f"MUJOCO_EGL_DEVICE_ID={device}: EGL has the devices 0"):
        Camera(lift.model, "frontview", **SIZE, suite=SUITES["robosuite"])
    assert capfd.readouterr().err == ""


def test_open_video_writes_a_real_gif_and_refuses_other_suffixes(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    with open_video(tmp_path / "x.gif", width=64, height=48) as show:
        for level in (0, 128, 255):
            show(frame + np.uint8(level))
    assert (tmp_path / "x.gif").read_bytes()[:6] == b"GIF89a"
    with (
        pytest.raises(ReconvergeError, match=r"x\.avi: must end in \.mp4 or \.gif"),
        open_video(tmp_path / "x.avi", width=64, height=48),
    ):
        pytest.fail("it began")
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]


def test_camera_does_not_break_torchs_optimiser():
    """torch imports triton for its first one, whose LLVM crashes if Mesa's was loaded before."""
    scene = '<mujoco><worldbody><camera name="c"/></worldbody></mujoco>'
    program = (
        "import mujoco; from reconverge.envs.film import Camera\n"
        "from reconverge.envs.suites import SUITES\n"
        f"model = mujoco.MjModel.from_xml_string({scene!r})\n"
        "Camera(model, 'c', 64, 48, SUITES['robosuite']).close()\n"
        "import torch; torch.optim.AdamW([torch.zeros(1, requires_grad=True)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
