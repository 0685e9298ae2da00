"""Pictures in LeRobot's tables: every step has its own, and damage to one is one line."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.demonstration_store import write_store
from reconverge.datasets.formats.lerobot import frames
from reconverge.datasets.formats.lerobot.image_columns import ENTRY
from reconverge.datasets.formats.lerobot.reading import read_lerobot
from reconverge.datasets.store import DemonstrationStore
from support.lerobot import as_version_2, make_foreign

LENGTHS, HEIGHT, WIDTH = (3, 2, 4), 6, 8
FEATURE, TASKS = "observation.images.top", ("lift", "push")
PICTURES = np.random.default_rng(0).integers(0, 256, (sum(LENGTHS), HEIGHT, WIDTH, 3), np.uint8)
FIRST = "data/chunk-000/file-000.parquet"


def file_of(picture, kind="PNG", **more):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **more)
    return file.getvalue()


def make_dataset(path, entries=None, shape=(HEIGHT, WIDTH, 3)):
    """Three episodes of two tasks, in a file each, with the pictures as PNG."""
    make_foreign(path, TASKS, LENGTHS)
    info = json.loads((path / "meta/info.json").read_text())
    info["features"][FEATURE] = {"dtype": "image", "shape": list(shape), "names": None}
    (path / "meta/info.json").write_text(json.dumps(info))
    entries = entries or [{"bytes": file_of(p), "path": f"{i}.png"} for i, p in enumerate(PICTURES)]
    for i, length in enumerate(LENGTHS):
        start = sum(LENGTHS[:i])
        add(path / f"data/chunk-000/file-{i:03d}.parquet", entries[start : start + length])
    return path


def add(file, entries):
    table = pq.read_table(file)
    if FEATURE in table.column_names:
        table = table.drop_columns([FEATURE])
    pq.write_table(table.append_column(FEATURE, pa.array(entries, ENTRY)), file)


def pictures_of(found):
    return [episode.pictures["top"] for episode, _ in found.episodes]


def assert_pictures(found, wanted=(PICTURES[:3], PICTURES[5:])):
    assert found.pictures == {"top": (HEIGHT, WIDTH, 3)}
    for rows, these in zip(pictures_of(found), wanted, strict=True):
        np.testing.assert_array_equal(rows, these)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH, 3), (3, HEIGHT, WIDTH)])
def test_every_step_has_its_own_picture(tmp_path, monkeypatch, version, shape):
    monkeypatch.setattr(frames, "RAW_STEPS", 2)
    path = make_dataset(tmp_path / "so101", shape=shape)
    if version == 2:
        as_version_2(path, TASKS)
    assert_pictures(read_lerobot(path, "lift"))
    assert_pictures(read_lerobot(path, "push"), [PICTURES[3:5]])


def test_pictures_are_files_beside_the_tables(tmp_path):
    names = [f"images/frame-{i:06d}.png" for i in range(len(PICTURES))]
    path = make_dataset(tmp_path / "a", [{"bytes": None, "path": name} for name in names])
    (path / "images").mkdir()
    for name, picture in zip(names, PICTURES, strict=True):
        (path / name).write_bytes(file_of(picture))
    assert_pictures(read_lerobot(path, "lift"))
    (path / names[1]).unlink()
    with pytest.raises(
        ConversionError, match=r"step 1: 'images/frame-000001\.png' is missing; rest"
    ):
        pictures_of(read_lerobot(path, "lift"))
    assert not read_lerobot(path, "lift", pictures=False).pictures


def test_jpeg_and_other_modes_become_rgb(tmp_path):
    grey = Image.fromarray(PICTURES[0]).convert("L")
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    kinds = [
        file_of(PICTURES[0], "JPEG", quality=95, subsampling=0),
        file_of(np.asarray(grey)),
        file_of(PICTURES[0][::-1, ::-1], exif=turned),
    ]
    entries = [{"bytes": content, "path": None} for content in (kinds * 3)]
    jpeg, *exact = next(
        iter(pictures_of(read_lerobot(make_dataset(tmp_path / "a", entries), "lift")))
    )
    assert np.abs(jpeg.astype(int) - PICTURES[0]).mean() < 8
    np.testing.assert_array_equal(exact, [np.asarray(grey.convert("RGB")), PICTURES[0]])


def test_pictures_are_resized_as_they_are_decoded(tmp_path):
    path = make_dataset(tmp_path / "a")
    write_store(read_lerobot(path, "lift", picture_size=2), tmp_path / "a.zarr")
    store = DemonstrationStore.open(tmp_path / "a.zarr")
    assert store.pictures == {"top": (2, 2, 3)}
    means = PICTURES[:3].reshape(3, 2, 3, 2, 4, 3).mean(axis=(2, 4))
    assert np.abs(store.episode(0).pictures["top"] - means).max() <= 1


def with_damaged_exif(value, place):
    """A JPEG that says in its EXIF which way it is turned, with one byte there changed."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 1.5
    content = bytearray(file_of(PICTURES[0], "JPEG", exif=exif.tobytes()))
    content[content.index(b"Exif") + place] = value
    return bytes(content)


DEEP = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1_000
DAMAGED = [
    *(file_of(PICTURES[0])[:60], file_of(PICTURES[0], "JPEG")[:200], b"no picture", b""),
    *(with_damaged_exif(value, place) for value, place in [(0, 29), (13, 29), (1, 31), (2, 31)]),
]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        *(
            ({"bytes": content, "path": "x.png"}, "is no readable PNG or JPEG")
            for content in DAMAGED
        ),
        (
            {"bytes": file_of(PICTURES[0][:, :5]), "path": None},
            r"pictures of \(6, 5, 3\), meta/inf",
        ),
        ({"bytes": file_of(DEEP), "path": None}, "is grey of more than 8 bits"),
        ({"bytes": None, "path": "gone.png"}, "'gone.png' is missing"),
        ({"bytes": None, "path": None}, "its picture is missing"),
        (None, "its picture is missing"),
        ({"bytes": None, "path": "a" * 5_000}, "is no readable PNG or JPEG"),
        ({"bytes": None, "path": "a\n\0.png"}, r"a\\n\\x00\.png' is missing"),
        ({"bytes": None, "path": "../beside.png"}, r"\.\./beside\.png' is outside the dataset"),
        ({"bytes": None, "path": "/etc/hostname"}, "/etc/hostname' is outside the dataset"),
    ],
)
def test_a_damaged_picture_is_one_line_and_leaves_nothing(tmp_path, entry, said):
    path = make_dataset(tmp_path / "so101")
    good = {"bytes": file_of(PICTURES[0]), "path": None}
    add(path / FIRST, [good, entry, good])
    with pytest.raises(ConversionError, match=f"episode 0: {FEATURE} of step 1.*{said}") as raised:
        write_store(read_lerobot(path, "lift"), tmp_path / "so101.zarr")
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == ["so101"]
    assert_pictures(read_lerobot(path, "push"), [PICTURES[3:5]])  # whose pictures are whole


def test_a_size_that_no_memory_holds_is_one_line(tmp_path):
    path = make_dataset(tmp_path / "so101", shape=[10**6, 10**6, 3])
    with pytest.raises(ConversionError, match=rf"{FEATURE} has pictures of \(1000000.*too large"):
        read_lerobot(path, "lift")


def change_column(path, column):
    table = pq.read_table(path / FIRST).drop_columns([FEATURE])
    pq.write_table(table.append_column(FEATURE, column), path / FIRST)


@pytest.mark.parametrize(
    "rows",
    [
        [1, 2, 3],
        [{"bytes": [1, 2], "path": "x"}] * 3,
        [{"bytes": "abc", "path": "x"}] * 3,
        [{"bytes": None, "path": 5}] * 3,
        [{"path": "x"}] * 3,
    ],
)
def test_a_column_that_holds_no_pictures_is_one_line(tmp_path, rows):
    path = make_dataset(tmp_path / "a")
    change_column(path, pa.array(rows))
    said = r"episode 0: .*top is of type (int64|struct<.*>), expected struct<bytes: binary"
    with pytest.raises(ConversionError, match=said):
        pictures_of(read_lerobot(path, "lift"))


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct({"bytes": pa.binary()}),
        pa.struct({"bytes": pa.binary(), "path": pa.null()}),
        pa.struct({"bytes": pa.large_binary(), "path": pa.large_string()}),
    ],
)
def test_pictures_without_paths_and_of_long_types_are_read(tmp_path, kind):
    path = make_dataset(tmp_path / "a")
    change_column(path, pa.array([{"bytes": file_of(picture)} for picture in PICTURES[:3]], kind))
    assert_pictures(read_lerobot(path, "lift"))
