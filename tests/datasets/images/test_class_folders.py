"""Folders of pictures as they are brought, and what is wrong with some."""

import numpy as np
import pytest
from PIL import Image

from reconverge.datasets.images.class_folders import read_class_folders
from reconverge.errors import ReconvergeError
from support.picture_files import CLASSES, make_folders


def test_pictures_are_those_of_the_files(tmp_path):
    make_folders(tmp_path, parts=("train", "test"), count=3)
    found = read_class_folders(tmp_path)
    assert found.classes == sorted(CLASSES)
    file = np.asarray(Image.open(tmp_path / "test" / "dots" / "001.png"))
    at = list(found.test.labels).index(found.classes.index("dots")) + 1
    assert (found.test.pictures[at, 0] == file).all()
    assert found.train.pictures.shape == (12, 1, 8, 8)


def test_every_sixth_picture_tests_where_there_is_no_folder_of_tests(tmp_path):
    found = read_class_folders(make_folders(tmp_path, count=12))
    assert np.bincount(found.train.labels).tolist() == [10] * 4
    assert np.bincount(found.test.labels).tolist() == [2] * 4


def test_colours_are_kept(tmp_path):
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / f"{i}.png")
    found = read_class_folders(tmp_path)
    assert found.test.pictures[:, :, 0, 0].tolist() == [[0, 0, 250], [250, 0, 0]]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    folder = make_folders(tmp_path, count=6)
    expected = read_class_folders(folder)
    (folder / ".ipynb_checkpoints").mkdir()
    Image.new("L", (8, 8)).save(folder / ".ipynb_checkpoints" / "000-checkpoint.png")
    (folder / "bars" / "._000.png").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"\0")
    found = read_class_folders(folder)
    assert found.classes == expected.classes
    np.testing.assert_array_equal(found.train.pictures, expected.train.pictures)


def test_grey_pictures_saved_with_colours_are_taken_among_grey_ones(tmp_path):
    folder = make_folders(tmp_path, classes=("bars",), count=6)
    expected = read_class_folders(folder).train.pictures
    path = folder / "bars" / "001.png"
    Image.open(path).convert("RGB").save(path)
    np.testing.assert_array_equal(read_class_folders(folder).train.pictures, expected)


def broken(path):
    path.write_bytes(path.read_bytes()[:60])


def larger(path):
    Image.new("L", (9, 8)).save(path)


def coloured(path):
    Image.new("RGB", (8, 8), (250, 0, 0)).save(path)


def huge(path):
    Image.new("1", (20_000, 10_000)).save(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (broken, "no readable picture"),
        (huge, "no readable picture"),
        (coloured, r"has colours, where .*000.png is grey, as all would become; make all"),
        (larger, "9 x 8 pixels, where .* has 8 x 8; bring all"),
    ],
)
def test_a_bad_picture_is_named(tmp_path, damage, said):
    make_folders(tmp_path, count=6)
    path = tmp_path / "rays" / "003.png"
    damage(path)
    with pytest.raises(ReconvergeError, match=said) as refused:
        read_class_folders(tmp_path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_pictures_are_upright(tmp_path):
    """Those of a camera that was held on its side say so."""
    turned = Image.Exif()
    turned[0x112] = 6
    wide = np.zeros((8, 16), np.uint8)
    wide[:, :8] = 250
    for i in range(6):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(wide).save(tmp_path / "a" / f"{i}.png", exif=turned)
    found = read_class_folders(tmp_path).test.pictures[0, 0]
    assert found.shape == (16, 8)
    assert (found[:8] == 250).all()


def test_pictures_with_bad_metadata_are_as_they_are(tmp_path):
    folder = make_folders(tmp_path / "a", classes=("bars",), count=6)
    expected = read_class_folders(folder).train.pictures
    path = folder / "bars" / "000.png"
    with Image.open(path) as picture:
        picture.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")  # cut short
    np.testing.assert_array_equal(read_class_folders(folder).train.pictures, expected)


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ReconvergeError, match=r"no class folders of .png, .jpg, .jpeg files"):
        read_class_folders(tmp_path)


def test_sixteen_bits_a_pixel_become_eight(tmp_path):
    folder = make_folders(tmp_path, classes=("bars",), count=2)
    deep = np.full((8, 8), 30_000, np.uint16)
    Image.fromarray(deep).save(folder / "bars" / "000.png")
    assert (read_class_folders(folder).train.pictures[0] == 30_000 // 256).all()


def test_a_folder_without_pictures_to_learn_from_is_refused(tmp_path):
    folder = make_folders(tmp_path / "shapes", parts=("train", "test"), count=1)
    for file in (folder / "train").rglob("*.png"):
        file.unlink()
    with pytest.raises(ReconvergeError, match="train has no pictures; put class folders there"):
        read_class_folders(folder)
