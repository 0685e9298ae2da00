import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
import torch

from envs import render, vector
from envs.experts import EXPERTS
from envs.render import HOLD, Camera, RenderError, caption, open_video
from envs.tasks import TASKS
from policy.loading import PolicySpec, make_normalizer, make_policy
from tools import export_video

SIZE = {"width": 128, "height": 96}


@pytest.fixture
def lift(simulator_of, monkeypatch):
    """Lift's simulator, which the entry point shares."""
    monkeypatch.setitem(vector.SUITES, "robosuite", simulator_of)
    return simulator_of(TASKS["lift"])


@pytest.fixture
def command(lift, monkeypatch, tmp_path, capsys):
    """Runs the entry point in an empty folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["export_video", *arguments])
        try:
            export_video.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def steps(simulator, seed):
    """Control steps until the expert succeeds."""
    expert, episode = EXPERTS["lift"](simulator.landmarks), simulator.new_episode()
    simulator.reset(episode, seed)
    for done in range(TASKS["lift"].horizon):
        if simulator.success(episode):
            return done
        simulator.step(episode, expert.act(simulator.task.split(simulator.observe([episode])[0])))
    return TASKS["lift"].horizon


def test_a_film_of_an_expert_shows_every_step(lift, command):
    code, out, _ = command("expert=true", "env=lift", "n_episodes=2", "width=128", "height=96")
    assert (code, out) == (0, "videos/lift.mp4: 2 episodes of lift, 2 successful\n")
    frames = iio.imread("videos/lift.mp4")
    assert frames.shape[1:] == (96, 256, 3)
    lengths = [steps(lift, 10_000_000), steps(lift, 10_000_001)]
    assert len(frames) == max(lengths) + HOLD
    for i, length in enumerate(lengths):  # the episodes are side by side, without the captions
        scene = frames[:, :80, 128 * i : 128 * (i + 1)].astype(float)
        assert scene.std(axis=(1, 2, 3)).min() > 20
        moved = np.abs(np.diff(scene, axis=0)).max(axis=(1, 2, 3))
        assert moved[:length].min() > 10
        assert moved[length:].max(initial=0) < 10  # an episode that has ended holds its last picture
    assert list(Path("videos").iterdir()) == [Path("videos/lift.mp4")]


def test_a_film_is_h264_that_every_player_shows(command):
    command("expert=true", "env=lift", "n_episodes=1", "width=128", "height=96", "output=some/where.mp4")
    reader = imageio_ffmpeg.read_frames("some/where.mp4")
    found = next(reader)
    reader.close()
    assert (found["codec"], found["size"], found["fps"]) == ("h264", (128, 96), 20.0)
    assert found["pix_fmt"].startswith("yuv420p")
    content = Path("some/where.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser can begin before it has all


@pytest.fixture
def untrained(monkeypatch):
    """Two checkpoints of lift, which the entry point finds, each with weights of its own; four steps an episode."""
    spec = PolicySpec(
        tasks=["can", "lift"], network={"name": "mlp"}, diffusion={"train_steps": 10, "inference_steps": 2},
        observation_steps=2, action_steps=4, executed_steps=2, observation_size=23, action_size=7,
        task_conditioning="embedding", fourier_octaves=1,
    )  # fmt: skip
    bounds = [(TASKS[name].low, TASKS[name].high) for name in spec.tasks]
    policies = {}
    for seed, name in enumerate(("0_can", "1_lift")):
        torch.manual_seed(seed)
        policies[name] = make_policy(spec, make_normalizer(bounds))
    monkeypatch.setattr(export_video, "load_policy", lambda path, device: (policies[path.name], spec))
    monkeypatch.setattr(export_video, "find_checkpoint", Path)
    monkeypatch.setattr(export_video, "tasks_of", lambda path, spec: spec.tasks)
    monkeypatch.setattr(export_video, "task_sequence", lambda names: [replace(TASKS["lift"], horizon=4)])
    return [f"run/checkpoints/{name}" for name in policies]


def test_a_policy_is_filmed_and_its_failure_too(untrained, command):
    code, out, _ = command(f"checkpoint={untrained[1]}", "env=lift", "n_episodes=3", "width=128", "height=96")
    assert (code, out) == (0, "videos/lift.mp4: 3 episodes of lift, 0 successful\n")
    frames = iio.imread("videos/lift.mp4")
    assert frames.shape == (4 + HOLD, 2 * 96, 2 * 128, 3)
    assert frames[:, 96:, 128:].max() < 10  # no fourth episode


def test_two_checkpoints_are_compared_on_the_same_seeds(untrained, command):
    before, after = untrained
    size = ["env=lift", "width=128", "height=96"]
    code, out, _ = command(f"checkpoint={before}", f"compare={after}", "n_episodes=2", *size)
    told = "2 episodes of lift, 0 successful of run/0_can, 0 successful of run/1_lift"
    assert (code, out) == (0, f"videos/lift_compared.mp4: {told}\n")
    frames = iio.imread("videos/lift_compared.mp4").astype(float)
    top = frames.shape[1] - 96
    left, right = frames[:, top:, :256], frames[:, top:, -256:]
    assert np.abs(left[0, :80] - right[0, :80]).mean() < 2  # the same start, encoded
    assert np.abs(left[4, :80] - right[4, :80]).max() > 50  # other actions
    for path, half in ((before, left), (after, right)):  # each does what it does alone
        command(f"checkpoint={path}", "n_episodes=2", "output=alone.mp4", *size)
        alone = iio.imread("alone.mp4").astype(float)
        assert alone.shape == half.shape
        assert np.abs(alone - half).mean() < 2


# Pictures.


def test_pictures_are_those_of_mujocos_renderer(lift):
    episode = lift.new_episode()
    lift.reset(episode, 0)
    camera = Camera(lift.model, "frontview", **SIZE)
    found = camera.picture(episode.data)
    camera.close()
    options = mujoco.MjvOption()
    options.geomgroup[:] = [0, 1, 0, 0, 0, 0]
    options.sitegroup[:] = 0
    with mujoco.Renderer(lift.model, SIZE["height"], SIZE["width"]) as renderer:
        renderer.update_scene(episode.data, "frontview", options)
        np.testing.assert_array_equal(found, renderer.render())


def test_a_caption_covers_the_foot_only():
    picture = np.full((96, 128, 3), 100, np.uint8)
    written = caption(picture, "lift", "success", (0, 255, 0))
    changed = (written != picture).any(axis=(1, 2))
    assert not changed[:80].any()
    assert changed[80:].all()
    assert (written[80:, :64] > 150).all(axis=2).any()
    green = (written[80:, 64:, 1] > 150) & (written[80:, 64:, 0] < 50)
    assert green.any()


def test_every_task_has_a_camera_of_its_model(simulator_of, task):
    model = simulator_of(task).model
    assert render.CAMERAS.get(task.simulator, render.CAMERA) in [model.camera(i).name for i in range(model.ncam)]


# Errors.


def test_an_interrupted_film_leaves_what_was_there(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text("an earlier film")
    with pytest.raises(KeyboardInterrupt), open_video(path, **SIZE) as show:  # noqa: PT012
        show(np.zeros((96, 128, 3), np.uint8))
        raise KeyboardInterrupt
    assert path.read_text() == "an earlier film"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text("an earlier film")
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(RenderError, match="cannot be written"), open_video(path, **SIZE) as show:  # noqa: PT012
            for i in range(100):
                show(np.roll(noise, 7 * i, axis=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "an earlier film"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "videos").write_text("no folder")
    with (
        pytest.raises(RenderError, match=r"videos/lift\.mp4: cannot be written"),
        open_video(tmp_path / "videos" / "lift.mp4", **SIZE),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["expert=true"], "env= names no task"),
        (["expert=true", "env=lfit"], "unknown task 'lfit' (did you mean 'lift'?)"),
        (["env=lift"], "checkpoint= is missing; give runs/<name>"),
        (["env=lift", "checkpoint=nowhere"], "nowhere: no checkpoint here"),
        (["env=lift", "expert=true", "compare=no=where"], "no=where: no checkpoint here"),
        (["env=lift", "expert=true", "n_episodes=200"], "200 episodes of 480 x 360 pixels make frames of 7200 x 5040"),
        (["expert=true", "env=lift", "n_episodes=0"], "n_episodes must be at least 1, got 0"),
        (["expert=true", "env=lift,can", "output=a.mp4"], "output=a.mp4 is one file for 2 tasks"),
        (["expert=true", "env=lift", "width=101"], "width and height must be even and positive"),
        (["expert=true", "env=lift", "camera=sky"], "unknown camera 'sky'; choose from frontview"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(command, arguments, message):
    code, out, error = command(*arguments)
    assert (code, out) == (2, "")
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert not list(Path(".").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("libraries", "packages"),
    [
        ({"libegl1": ("libNone.so",), "libgl1": ("libc.so.6",)}, "libegl1"),
        ({"libegl1": ("libc.so.6",), "libgl1": ("libNone.so", "libNever.so")}, "libgl1"),
        ({"libegl1": ("libNone.so",), "libgl1": ("libNone.so",)}, "libegl1 libgl1"),
    ],
)
def test_a_missing_library_gives_the_debian_package(command, monkeypatch, libraries, packages):
    monkeypatch.setattr(render, "LIBRARIES", libraries)
    code, _, error = command("expert=true", "env=lift")
    assert code == 2
    expected = f"error: no offscreen rendering without OpenGL: apt-get install {packages}"
    assert error.strip().splitlines()[-1] == expected
    assert not list(Path(".").rglob("*.mp4"))


def test_a_missing_driver_gives_the_debian_packages(lift, monkeypatch):
    def fail(*_):
        raise ImportError("Cannot initialize a EGL device display.\nThis likely means ...")

    monkeypatch.setattr("mujoco.egl.GLContext", fail)
    with pytest.raises(RenderError, match=r"Cannot initialize a EGL device display\. .*libgl1-mesa-dri$"):
        Camera(lift.model, "frontview", **SIZE)


def test_a_process_that_has_rendered_can_still_make_an_optimiser():
    """torch loads triton for the first one; the LLVM in it and the one in Mesa do not get on in every order."""
    program = (
        "import mujoco; from envs.render import Camera\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><camera name=\"c\"/></worldbody></mujoco>')\n"
        "Camera(model, 'c', 64, 48).close()\n"
        "import torch; torch.optim.AdamW([torch.zeros(1, requires_grad=True)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
