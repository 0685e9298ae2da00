"""Pictures of LeRobot's videos, which ffmpeg encodes here: every step has its own, in its place."""

import json
import os
import re
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import write_store
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.store import DemonstrationStore
from support.lerobot import as_version_2, make_foreign

LENGTHS, HEIGHT, WIDTH = (9, 6), 48, 64
FEATURE = "observation.images.top"
STORED = "videos/{}/chunk-000/file-000.mp4"


def frame(episode, step):
    """A picture of a step: the upper half says the episode, the left of the lower half the step."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[: HEIGHT // 2] = (60 + 100 * episode, 200, 40)
    picture[HEIGHT // 2 :, : WIDTH // 2] = 20 + 25 * step
    return picture


def encode(file, frames, fps=30):
    file.parent.mkdir(parents=True, exist_ok=True)
    codec = {"codec": "libx264", "output_params": ["-crf", "4", "-bf", "2", "-g", "5"]}
    with_size = imageio_ffmpeg.write_frames(
        str(file), (WIDTH, HEIGHT), fps=fps, macro_block_size=1, **codec
    )
    with_size.send(None)
    for picture in frames:
        with_size.send(picture.tobytes())
    with_size.close()


def change_info(path, **changes):
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | changes))


def declare(path, feature=FEATURE, **changes):
    features = json.loads((path / "meta/info.json").read_text())["features"]
    video = {"dtype": "video", "shape": [3, HEIGHT, WIDTH], "names": ["c", "h", "w"], **changes}
    change_info(path, features=features | {feature: video})


def make_dataset(path, version=3):
    """Two episodes, in one video (version 3) or in one each (version 2)."""
    make_foreign(path, lengths=LENGTHS)
    declare(path)
    pictures = [frame(i, step) for i, length in enumerate(LENGTHS) for step in range(length)]
    if version == 2:
        as_version_2(path)
        for i, start in enumerate((0, LENGTHS[0])):
            file = path / f"videos/chunk-000/{FEATURE}/episode_{i:06d}.mp4"
            encode(file, pictures[start : start + LENGTHS[i]])
        return path
    encode(path / STORED.format(FEATURE), pictures)
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for name, values in {
        "chunk_index": [0, 0],
        "file_index": [0, 0],
        "from_timestamp": [0.0, LENGTHS[0] / 30],
        "to_timestamp": [LENGTHS[0] / 30, sum(LENGTHS) / 30],
    }.items():
        table = table.append_column(f"videos/{FEATURE}/{name}", pa.array(values))
    pq.write_table(table, file)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_every_step_gets_its_own_picture(tmp_path, version):
    found = read_lerobot(make_dataset(tmp_path / "so101", version))
    assert found.pictures == {"top": (HEIGHT, WIDTH, 3)}
    for i, (episode, _) in enumerate(found.episodes):
        wanted = np.stack([frame(i, step) for step in range(LENGTHS[i])])
        off = np.abs(episode.pictures["top"].astype(int) - wanted).mean(axis=(1, 2, 3))
        assert off.max() < 4  # encoding loses some; the next step is 6 off


@pytest.mark.parametrize(
    ("rate", "start", "wanted"),
    [(20, 0.0, range(0, 18, 2)), (20, 0.025, range(0, 18, 2)), (40, 0.0, range(0, 36, 4))],
)
def test_every_step_gets_the_nearest_of_more_frames(tmp_path, rate, start, wanted):
    """Of two as near, from which the second start is half a frame away, the earlier one."""
    path = make_dataset(tmp_path / "so101")
    change_info(path, fps=10)
    place(path, from_timestamp=start)
    frames = [np.full((HEIGHT, WIDTH, 3), 8 + 6 * i, np.uint8) for i in range(40)]
    (path / STORED.format(FEATURE)).unlink()
    encode(path / STORED.format(FEATURE), frames, rate)
    (episode, _), *_ = read_lerobot(path).episodes
    shown = episode.pictures["top"].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown, [8 + 6 * i for i in wanted], atol=2)


def test_pictures_are_resized_as_they_are_decoded(tmp_path):
    path = make_dataset(tmp_path / "so101")
    write_store(read_lerobot(path, picture_size=8), tmp_path / "so101.zarr")
    store = DemonstrationStore.open(tmp_path / "so101.zarr")
    assert store.pictures == {"top": (8, 8, 3)}
    (whole, _), *_ = read_lerobot(path).episodes
    means = whole.pictures["top"].reshape(LENGTHS[0], 8, 6, 8, 8, 3).mean(axis=(2, 4))
    assert np.abs(store.episode(0).pictures["top"] - means).max() <= 1  # rounded in each direction


def test_pictures_may_be_left_out(tmp_path):
    path = make_dataset(tmp_path / "so101")
    (path / STORED.format(FEATURE)).unlink()
    found = read_lerobot(path, pictures=False)
    assert found.warnings == (f"left out {FEATURE}: pictures",)
    assert len(list(found.episodes)) == 2
    assert not found.pictures
    assert not read_lerobot(path, leave_out=[FEATURE]).pictures


def place(path, **values):
    """Say of every episode that its video is elsewhere."""
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    for name, value in values.items():
        column = f"videos/{FEATURE}/{name}"
        table = table.drop_columns([column]).append_column(column, pa.array([value] * len(table)))
    pq.write_table(table, file)


def without_a_time(path):
    """Make the video an MPEG transport stream that does not say when its third frame is shown."""
    file = path / STORED.format(FEATURE)
    copy = ["-i", str(file), "-c", "copy", "-f", "mpegts", "-muxdelay", "0", str(path / "stream")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *copy], check=True)
    first, *frames = (path / "stream").read_bytes().split(b"\0\0\1\xe0")
    frames[2] = frames[2][:3] + b"\0" + frames[2][4:]  # flags: no times in the packet's header
    file.write_bytes(b"\0\0\1\xe0".join([first, *frames]))


def shorten(path):
    (path / STORED.format(FEATURE)).unlink()
    encode(path / STORED.format(FEATURE), [frame(0, step) for step in range(9)] + [frame(1, 0)])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shorten, "episode 1: .*file-000.mp4 has no picture of step 1 of 6: it ends early"),
        (lambda path: (path / STORED.format(FEATURE)).unlink(), "file-000.mp4 is missing"),
        (
            lambda path: os.truncate(path / STORED.format(FEATURE), 300),
            "file-000.mp4 cannot be decoded, truncated or edited",
        ),
        (
            lambda path: (path / STORED.format(FEATURE)).write_text("no film"),
            "file-000.mp4 cannot be decoded, truncated or edited",
        ),
        (
            lambda path: declare(path, shape=[HEIGHT, 10, 3]),
            r"has pictures of \(48, 64, 3\), meta/info.json says \(48, 10, 3\)",
        ),
        (lambda path: declare(path, info={"video.is_depth_map": True}), "images.top .pixels.; add"),
        (
            lambda path: declare(path, video_info={"video.is_depth_map": True}),
            "images.top .pixels.; add",
        ),
        *(
            (lambda path, shape=shape: declare(path, shape=shape), "images.top .pixels.; add")
            for shape in ([-1, 4, 3], [True, 16, 3], [0, 0, 3], [4.0, 4, 3], "abc", None)
        ),
        *(
            (
                lambda path, t=t: place(path, from_timestamp=t),
                f"not say where .*timestamp={re.escape(str(t))}",
            )
            for t in (float("nan"), float("inf"), -float("inf"), -1.0, 1e300)
        ),
        (lambda path: place(path, from_timestamp=1e6), "no picture of step 0 of 9: it ends early"),
        (lambda path: place(path, chunk_index=float("inf")), "does not say where .*OverflowError"),
        (without_a_time, "file-000.mp4 has a frame without a time; restore"),
        (lambda path: declare(path, "observation.top"), "would both be pictures of top; add leave"),
        (
            lambda path: declare(path, "observation.images.side"),
            "does not say where the video of episode 0 is",
        ),
    ],
)
def test_a_video_that_does_not_fit_is_one_line_and_leaves_nothing(tmp_path, damage, said):
    path = make_dataset(tmp_path / "so101")
    damage(path)
    with pytest.raises(ConversionError, match=said) as raised:
        write_store(read_lerobot(path), tmp_path / "so101.zarr")
    assert "\n" not in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == ["so101"]


@pytest.mark.parametrize("about", ["abc", [1], 1, None])
def test_what_is_said_of_a_video_may_be_anything(tmp_path, about):
    path = make_dataset(tmp_path / "so101")
    declare(path, info=about, video_info=about)
    assert len(list(read_lerobot(path).episodes)) == 2


@pytest.mark.parametrize("size", ["abc", [1], float("inf")])
def test_chunks_of_no_size_are_one_line(tmp_path, size):
    path = make_dataset(tmp_path / "so101", version=2)
    change_info(path, chunks_size=size)
    with pytest.raises(ConversionError, match="does not say where the video of episode 0 is"):
        list(read_lerobot(path).episodes)


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), "20"])
def test_an_fps_that_is_no_number_is_one_line(tmp_path, fps):
    path = make_dataset(tmp_path / "so101")
    change_info(path, fps=fps)
    with pytest.raises(ConversionError, match=f"fps is {fps!r}, expected a number above 0"):
        read_lerobot(path)


def test_without_pyav_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    path = make_dataset(tmp_path / "so101")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ConversionError, match=r"pip install 'reconverge\[video\]', or add pictures"
    ):
        list(read_lerobot(path).episodes)
