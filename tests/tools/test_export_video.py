"""Films on the command line: experts, policies, two side by side, and what is refused."""

from pathlib import Path

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.film import LAST_PICTURE_FRAMES
from reconverge.envs.render import opengl
from reconverge.tools import export_video
from support.simulators import use_simulators
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import call, shorten


@pytest.fixture
def command(simulator_of, monkeypatch, tmp_path, capsys):
    """Runs the entry point in an empty folder: exit code, standard output and error."""
    use_simulators(monkeypatch, "robosuite", simulator_of)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return call(export_video.main, arguments, monkeypatch), *capsys.readouterr()

    return run


def steps(simulator, seed):
    """Control steps until the expert succeeds."""
    expert, episode = TASKS["lift"].expert(simulator.landmarks), simulator.new_episode()
    simulator.reset(episode, seed)
    for done in range(TASKS["lift"].max_steps):
        if simulator.success(episode):
            return done
        simulator.step(episode, expert.act(simulator.task.split(simulator.observe([episode])[0])))
    return TASKS["lift"].max_steps


def test_film_shows_every_step_of_an_expert(simulator_of, command):
    code, out, err = command("expert=true", "env=lift", "n_episodes=2", "width=128", "height=96")
    assert (code, out) == (0, "videos/lift.mp4: 2 episodes of lift, 2 successful\n")
    states = [state for state in err.split("\r") if "frame" in state]
    assert len(states) < 6  # of more than a hundred frames, into a file
    assert "ended=2, successful=2" in states[-1]
    frames = iio.imread("videos/lift.mp4")
    assert frames.shape[1:] == (96, 256, 3)
    lift = simulator_of(TASKS["lift"])
    lengths = [steps(lift, 10_000_000), steps(lift, 10_000_001)]
    assert len(frames) == max(lengths) + LAST_PICTURE_FRAMES
    for i, length in enumerate(lengths):  # the episodes are side by side, without the captions
        scene = frames[:, :80, 128 * i : 128 * (i + 1)].astype(float)
        assert scene.std(axis=(1, 2, 3)).min() > 20
        moved = np.abs(np.diff(scene, axis=0)).max(axis=(1, 2, 3))
        assert moved[:length].min() > 10
        assert (
            moved[length:].max(initial=0) < 10
        )  # an episode that has ended holds its last picture
    assert list(Path("videos").iterdir()) == [Path("videos/lift.mp4")]


def test_film_shows_every_other_step_of_metaworld_and_the_last(command, monkeypatch):
    shorten(monkeypatch, 8, "push")
    code, _, _ = command("expert=true", "env=push", "n_episodes=1", "width=128", "height=96")
    assert code == 0
    frames = iio.imread("videos/push.mp4")[:, :80].astype(float)  # without the captions
    assert len(frames) == len([0, 2, 4, 6]) + LAST_PICTURE_FRAMES
    moved = np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3))
    assert moved[:4].min() > 10
    assert moved[4:].max() < 10


def test_film_is_h264_that_every_player_shows(command):
    command(
        "expert=true", "env=lift", "n_episodes=1", "width=128", "height=96", "output=some/where.mp4"
    )
    reader = imageio_ffmpeg.read_frames("some/where.mp4")
    found = next(reader)
    reader.close()
    assert (found["codec"], found["size"], found["fps"]) == ("h264", (128, 96), 20.0)
    assert found["pix_fmt"].startswith("yuv420p")
    content = Path("some/where.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser can begin before it has all


@pytest.fixture
def untrained(monkeypatch, tmp_path):
    """Two checkpoints of a run, with weights of their own; four steps an episode."""
    shorten(monkeypatch, 4, "lift")
    folder = tmp_path / "run" / "checkpoints"
    for index, name in enumerate(("can", "lift")):
        make_checkpoint(folder, name, index=index, seed=index, tasks=("can", "lift"))
    return ["run/checkpoints/0_can", "run/checkpoints/1_lift"]


def test_film_of_a_policy_shows_its_failure_too(untrained, command):
    code, out, _ = command(
        f"checkpoint={untrained[1]}", "env=lift", "n_episodes=3", "width=128", "height=96"
    )
    assert (code, out) == (0, "videos/lift.mp4: 3 episodes of lift, 0 successful\n")
    frames = iio.imread("videos/lift.mp4")
    assert frames.shape == (4 + LAST_PICTURE_FRAMES, 2 * 96, 2 * 128, 3)
    assert frames[:, 96:, 128:].max() < 10  # no fourth episode


def test_film_compares_two_checkpoints_on_the_same_seeds(untrained, command):
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["expert=true"], "env= names no task"),
        (
            ["expert=true", "env=lift", "checkpoint=x"],
            "expert=true films the expert in place of checkpoint=; leave one out",
        ),
        (["expert=true", "env=lfit"], "unknown task 'lfit': choose one of lift"),
        (["env=lift"], "checkpoint= is missing; give runs/<name>"),
        (["env=lift", "checkpoint=nowhere"], "nowhere: no checkpoint here"),
        (["env=lift", "expert=true", "compare=no=where"], "no=where: no checkpoint here"),
        (
            ["env=lift", "expert=true", "n_episodes=200"],
            "200 episodes of 480 x 360 pixels make frames of 7200 x 5040",
        ),
        (["expert=true", "env=lift", "n_episodes=0"], "n_episodes=0: must be at least 1"),
        (["expert=true", "env=lift", "seed=-1"], "seed=-1: must be at least 0"),
        (["expert=true", "env=lift,can", "output=a.mp4"], "output=a.mp4 is one file for 2 tasks"),
        (["expert=true", "env=lift", "width=101"], "width and height must be even and positive"),
        (
            ["expert=true", "env=lift", "camera=sky"],
            "unknown camera 'sky': choose one of frontview",
        ),
    ],
)
def test_export_video_says_bad_input_in_one_line(command, arguments, message):
    code, out, error = command(*arguments)
    assert (code, out) == (2, "")
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert not list(Path(".").rglob("*.mp4"))


def test_film_refuses_other_tasks_and_frames(untrained, command, tmp_path):
    code, _, error = command(f"checkpoint={untrained[1]}", "env=square")
    assert code == 2
    assert "1_lift: 'square': choose one of can, lift" in error
    make_checkpoint(tmp_path / "world" / "checkpoints", input_frames={"lift": "world"})
    code, _, error = command(f"checkpoint={untrained[1]}", "compare=world", "env=lift")
    assert code == 2
    assert "lift: one acts in the base frame, the other in the world frame" in error
    assert not list(Path(".").rglob("*.mp4"))


def test_film_without_a_library_gives_one_line(command, monkeypatch):
    monkeypatch.setattr(opengl, "LIBRARIES", {"libegl1": ("libNone.so",)})
    code, _, error = command("expert=true", "env=lift")
    assert code == 2
    expected = "error: no offscreen rendering without OpenGL: apt-get install libegl1"
    assert error.strip().splitlines()[-1] == expected
    assert not list(Path(".").rglob("*.mp4"))
