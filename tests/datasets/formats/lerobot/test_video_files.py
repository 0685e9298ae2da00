"""Stores with pictures as LeRobot's videos: all but the pictures comes back bit for bit, and they
nearly; several episodes share a file."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.formats.lerobot import video_files
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.formats.lerobot.writing import write_lerobot
from reconverge.datasets.layout import Episode

LENGTHS = (5, 1, 8)
SHAPES = {"agentview": (48, 64, 3), "eye_in_hand": (33, 17, 3)}


def picture(shape, step):
    """A smooth picture of a step, with a patch whose brightness says which."""
    rows, columns = np.indices(shape[:2])
    values = np.stack([2 * rows, 2 * columns, rows + columns], axis=2) + 40
    values[8:20, 4:14] = 10 + 16 * step
    return values.astype(np.uint8)


def make(fps=20, shapes=SHAPES):
    rng, episodes, step = np.random.default_rng(0), [], 0
    for i, length in enumerate(LENGTHS):
        seen = {
            camera: np.stack([picture(shape, step + t) for t in range(length)])
            for camera, shape in shapes.items()
        }
        step += length
        rows = rng.standard_normal((length, 2), np.float32)
        episodes.append((Episode({"x": rows}, rows[:, :1], scalars={"seed": i}, pictures=seen), {}))
    return Demonstrations(
        "here",
        len(episodes),
        episodes,
        {"x": 2},
        1,
        {"fps": fps, "task": "lift"},
        scalar_types={"seed": "int64"},
        absent=("reward", "success"),
        pictures=shapes,
    )


def assert_back(found, wanted):
    """Equal but for the pictures, which are less off than a step's are from the next."""
    assert found.record == wanted.record
    for (ours, own), (theirs, stated) in zip(found.episodes, wanted.episodes, strict=True):
        assert own == stated
        assert ours.scalars == theirs.scalars
        np.testing.assert_array_equal(ours.observations["x"], theirs.observations["x"])
        np.testing.assert_array_equal(ours.action, theirs.action)
        for camera, pictures in theirs.pictures.items():
            off = np.abs(ours.pictures[camera].astype(int) - pictures)
            assert off.mean(axis=(1, 2, 3)).max() < 3
            assert off[:, 10:18, 6:12].mean(axis=(1, 2, 3)).max() < 6


@pytest.mark.parametrize("fps", [20, 12.5])
def test_pictures_go_out_as_videos_and_come_back(tmp_path, fps):
    write_lerobot(make(fps), tmp_path / "out")
    assert_back(read_lerobot(tmp_path / "out"), make(fps))
    names = sorted(path.name for path in (tmp_path / "out/videos").iterdir())
    assert names == [f"observation.images.{camera}" for camera in SHAPES]
    found = read_lerobot(tmp_path / "out", leave_out=[names[0]], picture_size=4)
    assert found.pictures == {"eye_in_hand": (4, 4, 3)}


@pytest.mark.parametrize("videos", [True, False])
def test_a_relative_path_may_have_a_colon(tmp_path, monkeypatch, videos):
    """Which pyarrow and ffmpeg would take for an address."""
    monkeypatch.chdir(tmp_path)
    write_lerobot(make(), Path("my:set"), videos=videos)
    assert len(list(read_lerobot(Path("my:set")).episodes)) == len(LENGTHS)


def test_meta_says_where_every_episode_is(tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "VIDEO_BYTES", 1)  # a file each, as far as frames are out
    write_lerobot(make(), tmp_path / "out")
    assert_back(read_lerobot(tmp_path / "out"), make())
    monkeypatch.undo()
    write_lerobot(make(), tmp_path / "one")
    rows = pq.read_table(tmp_path / "one/meta/episodes").to_pylist()
    key = "videos/observation.images.agentview"
    assert [(row[f"{key}/chunk_index"], row[f"{key}/file_index"]) for row in rows] == [(0, 0)] * 3
    assert [row[f"{key}/from_timestamp"] for row in rows] == [0, 0.25, 0.3]
    assert [row[f"{key}/to_timestamp"] for row in rows] == [0.25, 0.3, 0.7]


def test_a_new_video_begins_when_one_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(video_files, "VIDEO_BYTES", 1)
    with video_files.VideoFiles(tmp_path, "top", 20) as files:
        long = np.stack([picture((16, 16, 3), t % 15) for t in range(200)])
        places = [files.write(long), files.write(long[:3])]
    key = "videos/observation.images.top"
    assert [place[f"{key}/file_index"] for place in places] == [0, 1]
    assert places[1][f"{key}/from_timestamp"] == 0
    for index, length in enumerate((200, 3)):
        with av.open(str(tmp_path / f"{key}/chunk-000/file-{index:03d}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == length


def test_info_and_statistics_describe_the_videos(tmp_path):
    write_lerobot(make(), tmp_path / "out")
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    feature = info["features"]["observation.images.agentview"]
    assert (feature["dtype"], feature["shape"]) == ("video", [48, 64, 3])
    assert feature["names"] == ["height", "width", "channels"]
    with av.open(
        str(tmp_path / "out/videos/observation.images.agentview/chunk-000/file-000.mp4")
    ) as c:
        stream = c.streams.video[0]
        probed = {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.fps": stream.base_rate,
            "video.channels": 3,
            "has_audio": bool(c.streams.audio),
        }
    assert {name: feature["info"][name] for name in probed} == probed
    assert info["video_path"].startswith("videos/{video_key}/chunk-{chunk_index:03d}/")
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    seen = [e.pictures["agentview"] for e, _ in make().episodes]
    wanted = np.concatenate(seen).mean(axis=(0, 1, 2)).reshape(3, 1, 1) / 255
    np.testing.assert_allclose(stats["observation.images.agentview"]["mean"], wanted)


def test_without_videos_pictures_are_exact_in_tables(tmp_path):
    write_lerobot(make(), tmp_path / "out", videos=False)
    assert not (tmp_path / "out/videos").exists()
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["features"]["observation.images.agentview"]["dtype"] == "image"
    assert info["video_path"] is None
    for (ours, _), (theirs, _) in zip(
        read_lerobot(tmp_path / "out").episodes, make().episodes, strict=True
    ):
        for camera, pictures in theirs.pictures.items():
            np.testing.assert_array_equal(ours.pictures[camera], pictures)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_a_conversion_that_is_stopped_leaves_nothing(tmp_path, stop):
    def stopped():
        yield make().episodes[0]
        raise stop

    with pytest.raises(stop):
        write_lerobot(replace(make(), episodes=stopped()), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("side", "encoder"), [(3, "libsvtav1"), (16, "none")])
def test_pictures_that_cannot_be_encoded_are_one_line(tmp_path, monkeypatch, side, encoder):
    monkeypatch.setattr(video_files, "ENCODER", encoder)
    small = make(shapes={"agentview": (side, side, 3)})
    said = f"agentview: its pictures cannot be encoded by {encoder} .*add videos=false"
    with pytest.raises(ConversionError, match=said) as raised:
        write_lerobot(small, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    write_lerobot(small, tmp_path / "out", videos=False)


def test_without_pyav_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConversionError, match=r"'reconverge\[video\]', or add videos=false"):
        write_lerobot(make(), tmp_path / "out")
    write_lerobot(make(), tmp_path / "out", videos=False)


@pytest.mark.parametrize("fps", ["20", [20], True, 0.0004, 1e6, -20, float("nan"), float("inf")])
def test_steps_a_second_that_make_no_sense_are_one_line(tmp_path, fps):
    said = f"here: fps is {re.escape(repr(fps))}, expected a number from 0.01 to 10000; add fps=20"
    for videos in (True, False):
        with pytest.raises(ConversionError, match=said):
            write_lerobot(make(fps), tmp_path / "out", videos=videos)
    if isinstance(fps, float):
        with pytest.raises(ConversionError, match=said):
            write_lerobot(make(), tmp_path / "out", fps=fps)
    assert list(tmp_path.iterdir()) == []


def timed(by):
    """Demonstrations with recorded times."""
    episodes = [
        (
            replace(
                e,
                extras={"timestamp": np.arange(len(e.action), dtype=np.float32)[:, None] / by},
            ),
            own,
        )
        for e, own in make().episodes
    ]
    return replace(make(), episodes=episodes, extra_sizes={"timestamp": 1})


@pytest.mark.parametrize("videos", [True, False])
def test_steps_a_second_that_are_given_are_those_that_come_back(tmp_path, videos):
    write_lerobot(make(), tmp_path / "out", fps=10, videos=videos)
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["fps"] == 10
    assert read_lerobot(tmp_path / "out").attributes["fps"] == 10


def test_recorded_times_must_be_those_of_given_steps_a_second(tmp_path):
    said = "fps=10, but the timestamps of episode 0 are of 20 steps a second; correct it, or add le"
    with pytest.raises(ConversionError, match=said):
        write_lerobot(timed(20), tmp_path / "out", fps=10, videos=False)
    assert list(tmp_path.iterdir()) == []
    write_lerobot(timed(20), tmp_path / "out", fps=20, videos=False)
    write_lerobot(timed(20.5), tmp_path / "measured", fps=20, videos=False)


def test_recorded_times_must_be_those_of_the_video(tmp_path):
    said = "timestamp of step 1 is 0.1, a video of 20 frames a second shows it at 0.05; add leave"
    with pytest.raises(ConversionError, match=said):
        write_lerobot(timed(10), tmp_path / "out")
    write_lerobot(timed(10), tmp_path / "out", videos=False)
    write_lerobot(timed(20), tmp_path / "timed")
    assert_back(read_lerobot(tmp_path / "timed"), timed(20))


def test_a_number_that_has_the_name_of_pictures_is_refused(tmp_path):
    name = "observation.images.agentview"
    episodes = [(replace(e, extras={name: e.action}), own) for e, own in make().episodes]
    given = replace(make(), episodes=episodes, extra_sizes={name: 1})
    with pytest.raises(ConversionError, match=f"{name} is a name that the format needs"):
        write_lerobot(given, tmp_path / "out")
